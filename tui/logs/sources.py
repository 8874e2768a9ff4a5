"""Which logs there are: the supervisor's, the workers', the runs', and the system's where systemd keeps one."""

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
    """A log that can be opened, at `path` unless it is the system's; `at` is when its run began, or its last line."""

    key: str
    title: str
    path: Path | None
    at: datetime | None = None
    status: RunStatus | None = None


def has_system_journal(systemd: Path = SYSTEMD) -> bool:
    """Whether systemd runs here (as sd_booted(3) tells it), and its journal can be read."""
    return systemd.is_dir() and shutil.which("journalctl") is not None


def sources(settings: Settings, *, systemd: Path = SYSTEMD) -> tuple[Source, ...]:
    """Every log there is, of runs the newest few hundred. Raises JournalError when the journal can't be read."""
    system = (Source(JOURNAL_KEY, "system journal", None),) if has_system_journal(systemd) else ()
    with Journal(settings.journal_path) as journal:
        runs = journal.runs(MOST_RUNS)
    return (*system, *_standing(settings.log_dir), *(_of_run(run) for run in runs if run.log_path))


def source_of(path: Path) -> Source:
    """The source for a log that is in no list."""
    return Source(str(path), path.stem, path)


def _of_run(run: Run) -> Source:
    path = Path(run.log_path or "")
    return Source(str(path), f"run {run.id} {run.pipeline}", path, run.started_at, run.status)


def _standing(log_dir: Path) -> list[Source]:
    """The logs that belong to no run, the supervisor's first."""
    found = []
    for path in sorted(log_dir.glob("*.log"), key=lambda path: (path.stem != "supervisor", path.name)):
        if not path.name.startswith("run-"):
            try:
                modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            except OSError:  # rotated away since it was listed
                continue
            found.append(Source(str(path), path.stem, path, modified))
    return found
