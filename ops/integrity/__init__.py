"""Finds damaged files, by a cheap check or a full scrub, and quarantines them."""
