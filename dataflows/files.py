"""Durable file operations: what is written survives a power cut, and is whole or absent."""

import os
import shutil
from pathlib import Path

from dataflows.errors import DiskSpaceError


def write_durably(path: Path, text: str) -> None:
    """Write a small file so that it appears whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
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
