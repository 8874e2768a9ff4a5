"""The Releases screen: what each release changed, and the history of each value."""
