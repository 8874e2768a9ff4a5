"""Queries that the console and the command line share: saved queries, values as text, results as files."""
