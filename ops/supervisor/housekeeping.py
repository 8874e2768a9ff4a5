"""Housekeeping: generations, logs, the journal and caches stay bounded. What USDA served is never touched."""

import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from dataflows.errors import JournalError, LockHeldError, MateriaError
from dataflows.serving.store import ServingStore
from ops.config.settings import PROJECT_DIR, Settings
from ops.health.memory import recall, remember
from ops.host.lakehouse_lock import lakehouse_lock
from ops.host.lock import writer_lock
from ops.journal.journal import Journal
from ops.supervisor.ducklake_maintenance import care_in_a_process

SQLMESH_DIR = PROJECT_DIR / "transform" / "sqlmesh_materia"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """What is kept at most."""

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
    """Twice that is kept; on a host with logrotate it never gets there."""
    uv_cache_bytes: int = 3_000_000_000
    """Of the supervisor's host: some five installations with every extra."""


def keep_house(settings: Settings, now: datetime, limits: Limits = Limits(), sqlmesh_dir: Path = SQLMESH_DIR) -> None:
    """Clean up if it is time to, or if the disk is nearly full, and no other run writes here now."""
    memory = recall(settings.supervisor_dir)
    is_tight = shutil.disk_usage(settings.data_dir).free < settings.supervision.min_free_bytes
    waited = now - memory.cleaned_at if memory.cleaned_at else limits.every
    if timedelta(0) <= waited < limits.every and not is_tight:
        return
    try:
        with writer_lock(settings.lock_path, "housekeeping"):
            removed = clean(settings, now, limits, sqlmesh_dir)
            look_after_ducklake(settings, now)
    except LockHeldError:
        return
    if removed:
        log.info("cleaned up", extra={"removed": removed})
    remember(settings.supervisor_dir, replace(recall(settings.supervisor_dir), cleaned_at=now))


def clean(settings: Settings, now: datetime, limits: Limits, sqlmesh_dir: Path) -> int:
    """Remove what is beyond the limits and return how many files and runs that were; the writer's lock is held."""
    removed = len(ServingStore(settings.serving_path).prune(limits.generations))
    removed += _remove(_old_logs(settings.log_dir, now, limits))
    removed += _remove(_beyond(list((sqlmesh_dir / "logs").glob("*.log")), limits.sqlmesh_logs))
    partial = settings.landing_dir / ".partial"
    removed += _remove(path for path in _files(partial) if _age(path, now) > limits.partial_age)
    removed += _remove_uv_cache(limits, os.environ) + _rotate(settings.log_dir / "supervisor.log", limits)
    cache = _files(sqlmesh_dir / ".cache")
    if sum(path.stat().st_size for path in cache) > limits.cache_bytes:
        removed += _remove(cache)
    try:
        with Journal(settings.journal_path) as journal:
            removed += journal.forget(limits.runs) if settings.journal_path.exists() else 0
    except JournalError as error:
        log.warning("the journal stays as it is", extra={"error": str(error)})
    return removed


def look_after_ducklake(settings: Settings, now: datetime) -> None:
    """Where a DuckLake is the gateway: merge small files, forget old snapshots, remove what nothing needs any more.

    Left for the next time while another machine works on it; what goes wrong is logged, and tried again then.
    """
    lake = settings.used_ducklake
    if lake is None:
        return
    try:
        with lakehouse_lock(lake, "housekeeping") as handles:
            cared = care_in_a_process(lake, now, settings.ducklake_kept_for, handles)
    except LockHeldError as held:
        log.info("the DuckLake is looked after another time", extra={"reason": str(held)})
    except MateriaError as error:
        log.warning("the DuckLake could not be looked after", extra={"error": str(error)})
    else:
        log.info("looked after the DuckLake", extra=asdict(cared))


def _old_logs(log_dir: Path, now: datetime, limits: Limits) -> Iterator[Path]:
    """Run logs beyond the number, the age or the size that are kept; the newest always stays."""
    kept_bytes = 0
    for index, path in enumerate(_newest_first(list(log_dir.glob("run-*.log")))):
        kept_bytes += path.stat().st_size
        is_old = index >= limits.logs or _age(path, now) > limits.log_age or kept_bytes > limits.logs_bytes
        if is_old and index > 0:
            yield path


def _remove_uv_cache(limits: Limits, environ: Mapping[str, str]) -> int:
    """Remove the supervisor's own uv cache when it is too large: installed trees keep what they need of it."""
    home, cache = environ.get("MATERIA_HOME"), Path(environ.get("UV_CACHE_DIR") or "/")
    if not home or not cache.resolve().is_relative_to(Path(home).resolve()):
        return 0
    files = _files(cache)
    # Files that are linked into a tree count, too: they are all that remains once that tree is gone.
    if sum(path.lstat().st_size for path in files) <= limits.uv_cache_bytes:
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


def _age(path: Path, now: datetime) -> timedelta:
    return timedelta(seconds=now.timestamp() - path.stat().st_mtime)


def _remove(paths: Iterator[Path] | Sequence[Path]) -> int:
    gone = list(paths)
    for path in gone:
        path.unlink(missing_ok=True)
    return len(gone)
