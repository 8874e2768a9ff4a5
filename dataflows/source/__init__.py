"""USDA's side: releases, the archive, the HTTP client, PSD zips."""
