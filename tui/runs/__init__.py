"""What ran and how it went; what runs now."""
