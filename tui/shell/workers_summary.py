"""What every screen may say of the workers: how many there are, what they cost, and which should have ended."""

from datetime import datetime

from ops.health.status import Problem, Severity
from ops.workers.view import WorkerRow, Workers
from tui.shell.workers_watch import WorkersSeen
from tui.widgets.formatting import plural, shortened
from tui.widgets.panel import Failure, Found, Part
from tui.widgets.tones import toned

REAP = "materia worker reap"


def part_of(seen: WorkersSeen) -> Part[WorkersSeen]:
    """What a panel shows: also what is only waited for, but no trouble of all providers."""
    return seen.workers if isinstance(seen.workers, Failure) else Found(seen)


def found_in(seen: WorkersSeen) -> Workers:
    """The workers that are known of."""
    return seen.workers.value if isinstance(seen.workers, Found) else Workers()


def overdue(seen: WorkersSeen, now: datetime) -> list[Problem]:
    """The workers whose time is up: somebody pays for them, and whoever should have destroyed them did not."""
    return [
        Problem(Severity.STALE, f"worker {row.id} should have ended", row.expires_at, REAP)
        for row in found_in(seen).rows
        if is_overdue(row, now)
    ]


def summary(seen: WorkersSeen, now: datetime) -> str:
    """How many there are and what they cost, in a line or a few."""
    found = found_in(seen)
    if found.unavailable:
        return f"{toned('? ' + found.unavailable, 'quiet')}\n{toned('  next: ' + found.next_step, 'quiet')}"
    lines = []
    if found.rows:
        lines.append(f"{toned('◌ ' + plural(len(found.rows), 'worker'), 'busy')}  {found.eur_per_h:.3f} EUR/h")
    elif is_complete(seen):
        lines.append(toned("● none, nothing is paid for", "ok"))
    if late := overdue(seen, now):
        lines.append(toned(f"▲ {len(late):,} overdue", "warn"))
    return "\n".join([*lines, *provider_notes(seen)])


def provider_notes(seen: WorkersSeen) -> list[str]:
    """A line for each provider that failed or has not answered yet."""
    troubles = [toned(f"▲ {shortened(trouble)}", "warn") for trouble in found_in(seen).troubles]
    return troubles + [toned(f"◌ waiting for {whom}", "quiet") for whom in seen.waiting]


def is_complete(seen: WorkersSeen) -> bool:
    """Whether there are no other workers than those that are known of."""
    return isinstance(seen.workers, Found) and not seen.workers.value.troubles and not seen.waiting


def is_overdue(worker: WorkerRow, now: datetime) -> bool:
    """Whether the worker should have ended by `now`."""
    return worker.expires_at is not None and worker.expires_at <= now
