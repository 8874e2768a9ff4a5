"""The run journal: runs, their steps and outcomes."""
