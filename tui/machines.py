"""What `ops` knows of schedule, supervisor and workers, in the shape that the console draws.

One small function each: when `ops` learns more, only this module changes.
"""

import os
from dataclasses import dataclass
from datetime import datetime

from tui.context import ConsoleContext


@dataclass(frozen=True)
class Heartbeat:
    """The supervisor's last sign of life (UTC), and what it was about to do."""

    at: datetime
    is_late: bool
    doing: str


@dataclass(frozen=True)
class WorkerRow:
    """A machine that works for us; times in UTC, money in EUR."""

    id: str
    provider: str
    type: str
    location: str
    state: str
    created_at: datetime
    eur_per_h: float
    eur_so_far: float
    expires_at: datetime | None
    run_id: int | None


@dataclass(frozen=True)
class Workers:
    """The workers there are; `unavailable` says why nobody can know, and `next_step` what to do about it."""

    rows: tuple[WorkerRow, ...] = ()
    unavailable: str | None = None
    next_step: str = ""

    @property
    def eur_per_h(self) -> float:
        return sum(row.eur_per_h for row in self.rows)


def next_due(context: ConsoleContext, pipeline: str) -> datetime | None:
    """When the schedule runs a pipeline next (UTC); None where nothing schedules it."""
    return None


def heartbeat(context: ConsoleContext) -> Heartbeat | None:
    """The supervisor's last sign of life; None when none has run here."""
    return None


def worker_rows(context: ConsoleContext) -> Workers:
    """The workers that carry our label."""
    if not os.environ.get("HETZNER_TOKEN", "").strip():
        return Workers(unavailable="no token to ask a provider with", next_step=COMMAND_WITH_SECRETS)
    return Workers(unavailable="this version cannot ask a provider", next_step="materia worker list")


COMMAND_WITH_SECRETS = "esc run beanflows/prod -- materia-tui"
