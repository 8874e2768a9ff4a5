"""One module per cloud provider, each of which builds a `Provider`."""
