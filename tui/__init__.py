"""The operator console, `materia-tui`. It reads what `dataflows` and `ops` expose, as frozen snapshots."""
