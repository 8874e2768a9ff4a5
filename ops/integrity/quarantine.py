"""Quarantine: damaged files are moved aside under their date, for somebody to look at; few of them are kept."""

import logging
from datetime import datetime
from pathlib import Path

from dataflows.files import sync

FOLDER = "quarantine"
MOST_FILES = 10
MOST_BYTES = 2_000_000_000

log = logging.getLogger(__name__)


def set_aside(path: Path, now: datetime, folder: Path | None = None) -> Path | None:
    """Move a file and what SQLite or DuckDB keeps beside it into `folder`, by default the one beside it.

    Returns its new place; None when there was no file. The oldest go beyond 10 files or 2 GB, also one that alone
    is larger: a full disk is worse than no evidence of damage.
    """
    target_folder = folder or path.parent / FOLDER
    moved = None
    for suffix in (".wal", "-wal", "-shm", ""):  # the file last: a log without it would be taken for a new one's
        source = path.with_name(path.name + suffix)
        if source.is_file() or source.is_symlink():
            target_folder.mkdir(parents=True, exist_ok=True)
            target = target_folder / f"{now:%Y%m%dT%H%M%S%fZ}-{source.name}"
            source.replace(target)
            moved = target if not suffix else moved
    if target_folder.is_dir():
        sync(target_folder)
        sync(path.parent)
        _bound(target_folder)
    if moved:
        log.warning("a damaged file was set aside", extra={"file": str(path), "quarantine": str(moved)})
    return moved


def _bound(folder: Path) -> None:
    kept_bytes = 0
    files = sorted((path for path in folder.iterdir() if path.is_file()), key=lambda path: path.name, reverse=True)
    for number, path in enumerate(files):
        kept_bytes += path.stat().st_size
        if number >= MOST_FILES or kept_bytes > MOST_BYTES:
            path.unlink(missing_ok=True)
