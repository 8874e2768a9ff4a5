"""Detects changes of the journal and the serving file without opening them."""

import os

from ops.config.settings import Settings


def change_marks(settings: Settings) -> tuple[tuple[int, int, int] | None, ...]:
    """Return inode, mtime and size of the files that every run or publish changes."""
    journal = settings.journal_path
    files = (journal, journal.with_name(f"{journal.name}-wal"), settings.serving_path)
    return tuple(_file_mark(os.fspath(path)) for path in files)


def _file_mark(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    # A reader of the journal creates an empty write-ahead log.
    return (status.st_ino, status.st_mtime_ns, status.st_size) if status.st_size else None
