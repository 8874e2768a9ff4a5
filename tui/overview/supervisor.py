"""Reads the schedule and the supervisor's heartbeat from `ops` for the overview."""

from dataclasses import dataclass
from datetime import datetime

from ops.health.heartbeat import read_heartbeat
from ops.health.status import served_release
from tui.shell.context import ConsoleContext


@dataclass(frozen=True)
class Heartbeat:
    """The time (UTC) of the supervisor's last heartbeat, and what it was doing."""

    at: datetime
    is_late: bool
    doing: str
    is_failing: bool = False
    """Whether its ticks fail."""


def next_due(context: ConsoleContext, pipeline: str) -> datetime | None:
    """Return the next scheduled time of a pipeline (UTC); None if it is not scheduled or no supervisor has run."""
    if read_heartbeat(context.settings.supervisor_dir) is None:
        return None
    from ops.config import schedule

    served = served_release(context.settings)
    return schedule.next_due(context.settings.supervision.schedule, context.clock(), pipeline, served)


def heartbeat(context: ConsoleContext) -> Heartbeat | None:
    """Return the supervisor's last heartbeat; None if no supervisor has run."""
    found = read_heartbeat(context.settings.supervisor_dir)
    return None if found is None else Heartbeat(found.at, found.is_late(context.clock()), found.doing, found.is_failing)
