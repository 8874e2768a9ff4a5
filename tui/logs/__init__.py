"""The Logs screen: follow, filter and search every log."""
