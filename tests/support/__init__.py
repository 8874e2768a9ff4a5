"""What several test rooms share: a misbehaving archive, the real files."""
