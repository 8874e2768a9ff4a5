"""Settings: every value that the environment gives, read once and checked."""
