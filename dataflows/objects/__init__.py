"""Object storage: conditional writes, listings, whole files, typed errors."""
