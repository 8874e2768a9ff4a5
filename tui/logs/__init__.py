"""The Logs screen: every log, followed, filtered and searched."""
