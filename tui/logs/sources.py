"""Lists the logs: those of supervisor, workers and runs, and the system journal if systemd runs."""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ops.config.settings import Settings
from ops.journal.journal import Journal
from ops.journal.run import Run, RunStatus

MOST_RUNS = 200
SYSTEMD = Path("/run/systemd/system")
JOURNAL_KEY = "journal"


@dataclass(frozen=True)
class Source:
    """A log; `path` is None for the system journal. `at` is the start of its run, or the time of its last write."""

    key: str
    title: str
    path: Path | None
    at: datetime | None = None
    status: RunStatus | None = None


def has_system_journal(systemd: Path = SYSTEMD) -> bool:
    """Whether systemd runs here (checked like sd_booted(3)) and journalctl is installed."""
    return systemd.is_dir() and shutil.which("journalctl") is not None


def sources(settings: Settings, *, systemd: Path = SYSTEMD) -> tuple[Source, ...]:
    """List all logs, of runs the newest MOST_RUNS. Raises JournalError when the run journal is unreadable."""
    system = (Source(JOURNAL_KEY, "system journal", None),) if has_system_journal(systemd) else ()
    with Journal(settings.journal_path) as journal:
        runs = journal.runs(MOST_RUNS)
    return (*system, *_other_sources(settings.log_dir), *(_run_source(run) for run in runs if run.log_path))


def create_source(path: Path) -> Source:
    """Create the source of a log that is not in the list."""
    return Source(str(path), path.stem, path)


def _run_source(run: Run) -> Source:
    path = Path(run.log_path or "")
    return Source(str(path), f"run {run.id} {run.pipeline}", path, run.started_at, run.status)


def _other_sources(log_dir: Path) -> list[Source]:
    """List the logs that belong to no run, the supervisor's first."""
    found = []
    for path in sorted(log_dir.glob("*.log"), key=lambda path: (path.stem != "supervisor", path.name)):
        if not path.name.startswith("run-"):
            try:
                modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            except OSError:  # rotated since it was listed
                continue
            found.append(Source(str(path), path.stem, path, modified))
    return found
