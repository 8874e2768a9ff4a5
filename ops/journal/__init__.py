"""The run journal: which runs and steps there were, and how each ended."""
