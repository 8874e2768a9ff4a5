"""Reads the overview as one frozen snapshot; all its values are computed by `ops`.

The first frame shows the pipelines, which need the journal only. The other parts read every stored file's ends and
import more, so they follow once that frame is drawn.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ops.health.heartbeat import read_heartbeat
from ops.health.pipelines import PipelineState, pipeline_states
from ops.journal.journal import Journal
from ops.journal.run import Run
from tui.shell.context import ConsoleContext
from tui.shell.workers_watch import WorkersSnapshot
from tui.widgets.panel import Part, attempt

if TYPE_CHECKING:
    from ops.health.heartbeat import Heartbeat
    from ops.health.problem import Problem
    from ops.health.status import Status
    from ops.host.lock import LockHolder
    from tui.shell.release_watch import ReleaseNews

RUNS_SHOWN = 30


@dataclass(frozen=True)
class Pipelines:
    """The state of each pipeline; by name, its last runs (oldest first) and the next due time (UTC)."""

    states: tuple[PipelineState, ...]
    recent: Mapping[str, tuple[Run, ...]]
    due: Mapping[str, datetime | None]


@dataclass(frozen=True)
class NewestLog:
    """The log that was written last, and its last lines."""

    name: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Overview:
    """The parts of the overview; each may have failed on its own, and is None until it is read."""

    pipelines: Part[Pipelines]
    status: "Part[Status] | None" = None
    heartbeat: "Part[Heartbeat | None] | None" = None
    free_bytes: Part[int] | None = None
    """Free disk space of the data directory."""
    workers: WorkersSnapshot | None = None
    log: Part[NewestLog | None] | None = None
    lock: "Part[LockHolder | None] | None" = None
    """Who writes to the data directory."""
    release: "ReleaseNews | None" = None
    can_roll_back: Part[bool] | None = None
    """Whether another generation than the served one is kept."""
    sightings: "tuple[Problem, ...]" = ()
    """What other screens could not read."""
    marks: object = None
    """Compared with newer marks to detect changes."""


def read_pipelines(context: ConsoleContext) -> Overview:
    """Read only the pipelines, for the first frame."""
    return Overview(attempt(lambda: _pipelines(context)))


def read_overview(context: ConsoleContext, marks: object = None) -> Overview:
    """Read all parts; a part that cannot be read becomes a Failure."""
    from ops.health.status import take_status
    from ops.host.lock import lock_holder

    return Overview(
        attempt(lambda: _pipelines(context)),
        status=attempt(lambda: take_status(context.settings, context.clock())),
        heartbeat=attempt(lambda: read_heartbeat(context.settings.supervisor_dir)),
        free_bytes=attempt(lambda: _free_bytes(context.settings.data_dir)),
        workers=context.workers.latest(context.clock()),
        log=attempt(lambda: _newest_log(context.settings.log_dir)),
        lock=attempt(lambda: lock_holder(context.settings.lock_path)),
        release=context.releases.latest(context.settings),
        can_roll_back=attempt(lambda: _can_roll_back(context.settings.serving_path)),
        sightings=context.sightings.problems(context.settings.serving_path),
        marks=marks,
    )


def _can_roll_back(serving_path: Path) -> bool:
    from dataflows.serving.store import ServingStore

    store = ServingStore(serving_path)
    return bool({*store.numbers()} - {store.served_number()})


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free


def _newest_log(log_dir: Path) -> NewestLog | None:
    from tui.widgets.log_tail import read_tail

    newest = max(log_dir.glob("*.log"), key=lambda path: (path.stat().st_mtime_ns, path.name), default=None)
    return NewestLog(newest.name, read_tail(newest)) if newest else None


def _pipelines(context: ConsoleContext) -> Pipelines:
    settings = context.settings
    journal = Journal(settings.journal_path)
    states = pipeline_states(journal)
    names = [state.pipeline for state in states if state.last is not None]
    due: dict[str, datetime | None] = {}
    if read_heartbeat(settings.supervisor_dir) is not None:  # without a supervisor nothing is scheduled
        from ops.config.schedule import next_due
        from ops.health.status import served_release

        served, now = served_release(settings), context.clock()
        due = {name: next_due(settings.supervision.schedule, now, name, served) for name in names}
    return Pipelines(states, {name: journal.runs(RUNS_SHOWN, pipeline=name)[::-1] for name in names}, due)
