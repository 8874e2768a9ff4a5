"""Quarantine: damaged files are moved to a folder, named with their date, for later inspection; few are kept."""

import logging
from datetime import datetime
from pathlib import Path

from dataflows.files import sync

FOLDER = "quarantine"
MAX_FILES = 10
MAX_BYTES = 2_000_000_000

log = logging.getLogger(__name__)


def set_aside(path: Path, now: datetime, folder: Path | None = None) -> Path | None:
    """Move a file and its SQLite or DuckDB log files into `folder`, by default `quarantine` beside it.

    Returns the new path; None if there was no file. Beyond 10 files or 2 GB the oldest are deleted, even a single one
    that is larger: a full disk is worse than lost evidence of damage.
    """
    target_folder = folder or path.parent / FOLDER
    moved = None
    for suffix in (".wal", "-wal", "-shm", ""):  # the file last: a new file must not get its log
        source = path.with_name(path.name + suffix)
        if source.is_file() or source.is_symlink():
            target_folder.mkdir(parents=True, exist_ok=True)
            target = target_folder / f"{now:%Y%m%dT%H%M%S%fZ}-{source.name}"
            source.replace(target)
            moved = target if not suffix else moved
    if target_folder.is_dir():
        sync(target_folder)
        sync(path.parent)
        _delete_oldest(target_folder)
    if moved:
        log.warning("moved a damaged file to the quarantine", extra={"file": str(path), "quarantine": str(moved)})
    return moved


def _delete_oldest(folder: Path) -> None:
    kept_bytes = 0
    files = sorted((path for path in folder.iterdir() if path.is_file()), key=lambda path: path.name, reverse=True)
    for number, path in enumerate(files):
        kept_bytes += path.stat().st_size
        if number >= MAX_FILES or kept_bytes > MAX_BYTES:
            path.unlink(missing_ok=True)
