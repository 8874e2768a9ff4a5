"""Whether anything has happened, without opening a file."""

import os

from ops.config.settings import Settings


def traces(settings: Settings) -> tuple[tuple[int, int, int] | None, ...]:
    """What changes whenever a run or a publish leaves a trace: cheap to compare, read without opening a file."""
    journal = settings.journal_path
    files = (journal, journal.with_name(f"{journal.name}-wal"), settings.serving_path)
    return tuple(_trace(os.fspath(path)) for path in files)


def _trace(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
