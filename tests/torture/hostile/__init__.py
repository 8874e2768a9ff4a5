"""What comes from outside and means no good, each ended by a typed error within bounds, nothing changed."""
