"""What `ops` knows of schedule and supervisor, in the shape that the console draws.

One small function each: when `ops` learns more, only this module changes.
"""

from dataclasses import dataclass
from datetime import datetime

from ops.health.heartbeat import read_heartbeat
from ops.health.status import served_release
from tui.shell.context import ConsoleContext


@dataclass(frozen=True)
class Heartbeat:
    """The supervisor's last heartbeat (UTC), and what it was about to do."""

    at: datetime
    is_late: bool
    doing: str
    is_failing: bool = False
    """Whether its ticks fail."""


def next_due(context: ConsoleContext, pipeline: str) -> datetime | None:
    """When the schedule runs a pipeline next (UTC); None where nothing schedules it, or no supervisor runs here."""
    if read_heartbeat(context.settings.supervisor_dir) is None:
        return None
    from ops.config import schedule

    served = served_release(context.settings)
    return schedule.next_due(context.settings.supervision.schedule, context.clock(), pipeline, served)


def heartbeat(context: ConsoleContext) -> Heartbeat | None:
    """The supervisor's last heartbeat; None when none has run here."""
    found = read_heartbeat(context.settings.supervisor_dir)
    return None if found is None else Heartbeat(found.at, found.is_late(context.clock()), found.doing, found.is_failing)
