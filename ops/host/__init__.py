"""The host: processes, locks, logs, redaction, the version of the code."""
