"""Object storage: conditional writes, listings, whole files, versions, typed errors."""
