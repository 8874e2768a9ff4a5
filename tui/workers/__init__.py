"""The machines that work for us, and what they cost."""
