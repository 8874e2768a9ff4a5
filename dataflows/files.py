"""Durable file operations: a written file survives a power cut and is complete or absent."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dataflows.errors import DiskError, DiskSpaceError, LandingError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
_FREE_SPACE = "free some space and run again"
_SEE_RIGHTS = "see that Materia may read and write there"


def write_durably(path: Path, text: str) -> None:
    """Write a small file atomically."""
    # A fixed draft name: only one run writes at a time, and it overwrites the draft of a killed run.
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
    """Raise DiskSpaceError unless `needed_bytes` are free, so that a full disk fails early."""
    free_bytes = shutil.disk_usage(directory).free
    if free_bytes < needed_bytes:
        raise DiskSpaceError(
            f"{directory} has {free_bytes / 1e6:,.0f} MB free and {purpose} needs {needed_bytes / 1e6:,.0f} MB; "
            "free some space and run again"
        )


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Raise OSErrors of the enclosed block as DiskSpaceError (disk full), else LandingError, naming `path`."""
    try:
        yield
    except OSError as error:
        _raise_if_full(error, path)
        raise LandingError(
            f"{error.filename or path}: {error.strerror or error}; see that Materia may read and write there"
        ) from error


@contextmanager
def disk_refusal(path: Path) -> Iterator[None]:
    """Raise disk errors of the enclosed block as DiskSpaceError or DiskError, naming the file, or else `path`.

    For whole runs: other OSErrors, such as network errors, pass unchanged.
    """
    try:
        yield
    except OSError as error:
        _raise_if_full(error, path)
        if error.errno not in _REFUSED:
            raise
        raise DiskError(
            f"{error.filename or path}: {error.strerror}; see that Materia may write there "
            "and that the disk is not mounted read-only"
        ) from error


def raise_if_refused(error: Exception, path: Path) -> None:
    """The same for DuckDB errors, which keep the system's text but not its number; otherwise do nothing."""
    text = str(error)
    next_step = after_refusal(text)
    if next_step == _FREE_SPACE:
        raise DiskSpaceError(f"{path}: the disk is full; {next_step}") from error
    if next_step is not None:
        raise DiskError(f"{text.splitlines()[0]}; {next_step}") from error


def after_refusal(text: str) -> str | None:
    """Return the next step for the text of a disk error; None for other errors."""
    if any(os.strerror(number) in text for number in _FULL):
        return _FREE_SPACE
    return _SEE_RIGHTS if any(os.strerror(number) in text for number in _REFUSED) else None


def _raise_if_full(error: OSError, path: Path) -> None:
    if error.errno in _FULL:
        raise DiskSpaceError(f"{error.filename or path}: the disk is full; {_FREE_SPACE}") from error
