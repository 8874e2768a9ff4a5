"""Housekeeping: bound the size of generations, logs, the journal and caches. Snapshots are never deleted."""

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from dataflows.errors import DiskSpaceError, JournalError, LockHeldError, MateriaError
from dataflows.lakehouse.ducklake import DuckLake
from dataflows.serving.store import ServingStore
from ops.config.settings import PROJECT_DIR, Settings
from ops.health.disk import disk_space
from ops.health.memory import read_memory, write_memory
from ops.host.lakehouse_lock import lakehouse_lock
from ops.host.lock import writer_lock
from ops.journal.journal import Journal
from ops.supervisor.ducklake_maintenance import run_maintenance

SQLMESH_DIR = PROJECT_DIR / "transform" / "sqlmesh_materia"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """Upper bounds of what is kept."""

    every: timedelta = timedelta(hours=6)
    generations: int = 5
    runs: int = 10_000
    logs: int = 2_000
    logs_bytes: int = 500_000_000
    log_age: timedelta = timedelta(days=180)
    partial_age: timedelta = timedelta(days=7)
    cache_bytes: int = 200_000_000
    sqlmesh_logs: int = 20
    supervisor_log_bytes: int = 50_000_000
    """The log is rotated beyond this size; at most twice this is kept. With logrotate it stays below."""
    uv_cache_bytes: int = 3_000_000_000
    """On the supervisor's host: about five installations with all extras."""


def clean_up_if_due(
    settings: Settings,
    now: datetime,
    on_alive: Callable[[], None] = lambda: None,
    limits: Limits = Limits(),
    sqlmesh_dir: Path = SQLMESH_DIR,
) -> None:
    """Clean up if it is due or the disk is nearly full, unless a run is writing here."""
    memory = read_memory(settings.supervisor_dir)
    waited = now - memory.cleaned_at if memory.cleaned_at else limits.every
    if timedelta(0) <= waited < limits.every and not disk_space(settings).is_low:
        return
    try:
        with writer_lock(settings.lock_path, "housekeeping"):
            removed = clean(settings, now, limits, sqlmesh_dir)
            maintain_ducklake(settings, now, on_alive)
    except (LockHeldError, DiskSpaceError):  # there is no space for the lock file
        return
    if removed:
        log.info("cleaned up", extra={"removed": removed})
    write_memory(settings.supervisor_dir, replace(read_memory(settings.supervisor_dir), cleaned_at=now))


def clean(settings: Settings, now: datetime, limits: Limits, sqlmesh_dir: Path) -> int:
    """Remove everything beyond the limits and return the number of removed files and runs; needs the writer lock."""
    removed = len(ServingStore(settings.serving_path).prune(limits.generations))
    removed += _remove(_old_logs(settings.log_dir, now, limits))
    removed += _remove(_beyond(list((sqlmesh_dir / "logs").glob("*.log")), limits.sqlmesh_logs))
    partial = settings.landing_dir / ".partial"
    removed += _remove(path for path in _files(partial) if _age(path, now) > limits.partial_age)
    removed += _remove_uv_cache(limits, os.environ) + _rotate(settings.log_dir / "supervisor.log", limits)
    cache = _files(sqlmesh_dir / ".cache")
    if _size_bytes(cache) > limits.cache_bytes:
        removed += _remove(cache)
    try:
        with Journal(settings.journal_path) as journal:
            removed += journal.forget(limits.runs) if settings.journal_path.exists() else 0
    except JournalError as error:
        log.warning("could not delete old runs from the journal", extra={"error": str(error)})
    return removed


def maintain_ducklake(settings: Settings, now: datetime, on_alive: Callable[[], None] = lambda: None) -> None:
    """If the gateway is a DuckLake: merge small files, expire old snapshots, delete unreferenced files.

    Skipped while another machine works on it. Errors are logged; the next housekeeping retries.
    """
    lake = settings.lake
    if not isinstance(lake, DuckLake):
        return
    try:
        with lakehouse_lock(lake, "housekeeping") as handles:
            result = run_maintenance(lake, now, settings.ducklake_kept_for, on_alive, handles)
    except LockHeldError as error:
        log.info("DuckLake maintenance skipped", extra={"reason": str(error)})
    except MateriaError as error:
        log.warning("DuckLake maintenance failed", extra={"error": str(error)})
    else:
        log.info("DuckLake maintenance done", extra=asdict(result))


def _old_logs(log_dir: Path, now: datetime, limits: Limits) -> Iterator[Path]:
    """Run logs beyond the limits of number, age or size; never the newest."""
    kept_bytes = 0
    for index, path in enumerate(_newest_first(list(log_dir.glob("run-*.log")))):
        kept_bytes += path.stat().st_size
        is_old = index >= limits.logs or _age(path, now) > limits.log_age or kept_bytes > limits.logs_bytes
        if is_old and index > 0:
            yield path


def _remove_uv_cache(limits: Limits, environ: Mapping[str, str]) -> int:
    """Delete the supervisor's own uv cache if it is too large; installed trees keep their files."""
    home, cache = environ.get("MATERIA_HOME"), Path(environ.get("UV_CACHE_DIR") or "/")
    if not home or not cache.resolve().is_relative_to(Path(home).resolve()):
        return 0
    files = _files(cache)
    # Files that are hard-linked into a tree count, too: they remain when the tree is deleted.
    if _size_bytes(files) <= limits.uv_cache_bytes:
        return 0
    shutil.rmtree(cache)
    return len(files)


def _rotate(path: Path, limits: Limits) -> int:
    if not path.exists() or path.stat().st_size <= limits.supervisor_log_bytes:
        return 0
    path.replace(path.with_name(f"{path.name}.1"))
    return 1


def _beyond(paths: list[Path], keep: int) -> list[Path]:
    return _newest_first(paths)[keep:]


def _newest_first(paths: list[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)


def _files(folder: Path) -> Sequence[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _size_bytes(paths: Sequence[Path]) -> int:
    """The size of all files together; a cache's own program may delete some of them meanwhile."""
    total = 0
    for path in paths:
        with suppress(FileNotFoundError):
            total += path.lstat().st_size
    return total


def _age(path: Path, now: datetime) -> timedelta:
    return timedelta(seconds=now.timestamp() - path.stat().st_mtime)


def _remove(paths: Iterator[Path] | Sequence[Path]) -> int:
    files = list(paths)
    for path in files:
        path.unlink(missing_ok=True)
    return len(files)
