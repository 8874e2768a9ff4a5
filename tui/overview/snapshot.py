"""The overview as one frozen snapshot; everything in it was worked out by `ops`."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from ops.health.status import Status, take_status
from ops.journal.journal import Journal
from tui.overview.supervisor import Heartbeat, heartbeat, next_due
from tui.shell.context import ConsoleContext
from tui.shell.workers_watch import WorkersSeen
from tui.widgets.panel import Part, attempt

DURATIONS_SHOWN = 30


@dataclass(frozen=True)
class Pipelines:
    """What the status does not hold: how long the last runs took (s, oldest first), and when the next is due."""

    durations_s: Mapping[str, tuple[float, ...]]
    due: Mapping[str, datetime | None]


@dataclass(frozen=True)
class Overview:
    """What is true now, part by part."""

    status: Part[Status]
    pipelines: Part[Pipelines]
    heartbeat: Part[Heartbeat | None]
    workers: WorkersSeen
    marks: object = None
    """What tells whether anything has happened since."""


def take_overview(context: ConsoleContext, marks: object = None) -> Overview:
    """Look at everything; a part that cannot be looked at says why."""
    return Overview(
        status=attempt(lambda: take_status(context.settings, context.clock())),
        pipelines=attempt(lambda: _pipelines(context)),
        heartbeat=attempt(lambda: heartbeat(context)),
        workers=context.workers.latest(context.clock()),
        marks=marks,
    )


def _pipelines(context: ConsoleContext) -> Pipelines:
    journal = Journal(context.settings.journal_path)
    names = tuple(journal.last_by_pipeline())
    return Pipelines(
        durations_s={name: journal.recent_durations(name, DURATIONS_SHOWN) for name in names},
        due={name: next_due(context, name) for name in names},
    )
