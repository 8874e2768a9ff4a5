"""Mutation testing: change the promise-carrying modules one place at a time and see whether a test fails."""
