"""Durable file operations: what is written survives a power cut, and is whole or absent."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dataflows.errors import DiskSpaceError, LandingError


def write_durably(path: Path, text: str) -> None:
    """Write a small file so that it appears whole or not at all."""
    # Always the same draft: what a killed run left is taken over, and only one run writes at a time.
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text)
    move_durably(draft, path)


def move_durably(source: Path, target: Path) -> None:
    """Rename within a file system: contents first, then the name, then the directory."""
    sync(source)
    source.replace(target)
    sync(target.parent)


def sync(path: Path) -> None:
    """Flush a file or a directory to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def require_space(directory: Path, needed_bytes: int, purpose: str) -> None:
    """Raise DiskSpaceError unless `needed_bytes` are free: a full disk is cheaper to meet before than during."""
    free_bytes = shutil.disk_usage(directory).free
    if free_bytes < needed_bytes:
        raise DiskSpaceError(
            f"{directory} has {free_bytes / 1e6:,.0f} MB free and {purpose} needs {needed_bytes / 1e6:,.0f} MB; "
            "free some space and run again"
        )


@contextmanager
def disk_trouble(path: Path) -> Iterator[None]:
    """Turn what the disk refuses inside into DiskSpaceError when it is full, else LandingError, naming `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskSpaceError(f"{path}: the disk is full; free some space and run again") from error
        raise LandingError(
            f"{error.filename or path}: {error.strerror or error}; see that Materia may read and write there"
        ) from error
