"""What is true now, and what needs a person."""
