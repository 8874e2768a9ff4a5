"""Faults, one folder per area: quick in `just test`, long in `just torture` (tests/support/torture.py)."""
