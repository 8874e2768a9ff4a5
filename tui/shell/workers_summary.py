"""Summaries of the workers for several screens: count, cost, and overdue workers."""

from datetime import datetime

from ops.health.problem import Problem, Severity
from ops.workers.view import WorkerRow, Workers
from tui.shell.workers_watch import WorkersSnapshot
from tui.widgets.formatting import plural, shortened
from tui.widgets.panel import Failure, Found, Part
from tui.widgets.tones import toned

REAP = "materia worker reap"


def panel_part(seen: WorkersSnapshot) -> Part[WorkersSnapshot]:
    """Return the content of a panel: a Failure when all providers failed, else the snapshot."""
    return seen.workers if isinstance(seen.workers, Failure) else Found(seen)


def known_workers(seen: WorkersSnapshot) -> Workers:
    """Return the workers in the snapshot, none when there are no answers."""
    return seen.workers.value if isinstance(seen.workers, Found) else Workers()


def overdue(seen: WorkersSnapshot, now: datetime) -> list[Problem]:
    """Return an alert for each worker that still runs after its expiry and therefore still costs money."""
    return [
        Problem(Severity.STALE, f"worker {row.id} is overdue", row.expires_at, REAP)
        for row in known_workers(seen).rows
        if is_overdue(row, now)
    ]


def summary(seen: WorkersSnapshot, now: datetime) -> str:
    """Return the number of workers and their cost as markup."""
    found = known_workers(seen)
    if found.unavailable:
        return f"{toned('? ' + found.unavailable, 'quiet')}\n{toned('  next: ' + found.next_step, 'quiet')}"
    lines = []
    if found.rows:
        lines.append(f"{toned('◌ ' + plural(len(found.rows), 'worker'), 'busy')}  {found.eur_per_h:.3f} EUR/h")
    elif is_complete(seen):
        lines.append(toned("● no workers, no cost", "ok"))
    if late := overdue(seen, now):
        lines.append(toned(f"▲ {len(late):,} overdue", "warn"))
    return "\n".join([*lines, *provider_notes(seen)])


def provider_notes(seen: WorkersSnapshot) -> list[str]:
    """Return a line for each provider that failed or has not answered yet."""
    failures = [toned(f"▲ {shortened(failure)}", "warn") for failure in known_workers(seen).errors]
    return failures + [toned(f"◌ waiting for {provider}", "quiet") for provider in seen.waiting]


def is_complete(seen: WorkersSnapshot) -> bool:
    """Whether every provider has answered, so that no other workers exist."""
    return isinstance(seen.workers, Found) and not seen.workers.value.errors and not seen.waiting


def is_overdue(worker: WorkerRow, now: datetime) -> bool:
    """Whether the worker has expired at `now`."""
    return worker.expires_at is not None and worker.expires_at <= now
