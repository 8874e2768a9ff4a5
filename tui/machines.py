"""What `ops` knows of schedule, supervisor and workers, in the shape that the console draws.

One small function each: when `ops` learns more, only this module changes.
"""

from dataclasses import dataclass
from datetime import datetime

from ops.workers.settings import WorkerSettings
from ops.workers.view import WorkerRow, Workers, take_workers
from tui.context import ConsoleContext

__all__ = ["Heartbeat", "WorkerRow", "Workers", "heartbeat", "next_due", "worker_rows"]


@dataclass(frozen=True)
class Heartbeat:
    """The supervisor's last sign of life (UTC), and what it was about to do."""

    at: datetime
    is_late: bool
    doing: str


def next_due(context: ConsoleContext, pipeline: str) -> datetime | None:
    """When the schedule runs a pipeline next (UTC); None where nothing schedules it."""
    return None


def heartbeat(context: ConsoleContext) -> Heartbeat | None:
    """The supervisor's last sign of life; None when none has run here."""
    return None


def worker_rows(context: ConsoleContext) -> Workers:
    """The workers that carry our label, as the provider says now."""
    return take_workers(WorkerSettings.from_environ(), context.clock())
