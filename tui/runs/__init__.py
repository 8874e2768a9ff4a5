"""The Runs screen: the run history, and one run in detail."""
