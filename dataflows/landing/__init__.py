"""The landing: every snapshot as USDA served it, in a folder or in a bucket."""
