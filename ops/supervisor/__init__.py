"""The supervisor: runs what is due, tells who must know, and keeps its host up to date."""
