"""Widgets and drawing helpers that several screens share."""
