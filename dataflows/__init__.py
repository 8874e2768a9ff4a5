"""What is computed: the extract and export dataflows, and the value types and stores they need.

Knows no command line, no terminal and no cloud machine; `ops` runs it, `tui` shows it.
"""
