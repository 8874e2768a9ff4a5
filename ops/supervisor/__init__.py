"""The supervisor: runs what is due, sends alerts, and keeps its host up to date."""
