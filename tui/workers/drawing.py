"""What workers look like: rows and lines made of what the providers said, without a widget in sight."""

from datetime import datetime

from ops.status import Problem, Severity
from ops.words import ago_text
from ops.workers.view import WorkerRow, Workers
from tui.panel import Failure, Found, Part
from tui.table import Cell, Column, Row
from tui.tones import toned
from tui.words import due_text, exact, plural, shortened
from tui.workers.watch import WorkersSeen

COLUMNS = (
    Column("worker"),
    Column("state"),
    Column("provider", rank=4),
    Column("type", rank=2),
    Column("location", rank=3),
    Column("age", right=True),
    Column("EUR/h", right=True, rank=2),
    Column("EUR so far", right=True, rank=1),
    Column("ends", right=True, rank=1),
    Column("run", right=True),
)
REAP = "materia worker reap"
_STATES = {"running": ("●", "ok"), "off": ("▲", "warn"), "initializing": ("◌", "busy"), "starting": ("◌", "busy")}


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
        if _is_late(row, now)
    ]


def summary(seen: WorkersSeen, now: datetime) -> str:
    """How many there are and what they cost, in a line or a few."""
    found = found_in(seen)
    if found.unavailable:
        return f"{toned('? ' + found.unavailable, 'quiet')}\n{toned('  next: ' + found.next_step, 'quiet')}"
    lines = []
    if found.rows:
        lines.append(f"{toned('◌ ' + plural(len(found.rows), 'worker'), 'busy')}  {found.eur_per_h:.3f} EUR/h")
    elif _is_sure(seen):
        lines.append(toned("● none, nothing is paid for", "ok"))
    if late := overdue(seen, now):
        lines.append(toned(f"▲ {len(late):,} overdue", "warn"))
    return "\n".join([*lines, *_notes(seen)])


def empty(seen: WorkersSeen) -> Cell:
    """What stands where no worker does."""
    found = found_in(seen)
    if found.unavailable:
        return Cell(f"? {found.unavailable}\n  next: {found.next_step}", "quiet")
    if _is_sure(seen):
        return Cell("● no worker, nothing is paid for\n  next: materia worker create", "ok")
    return Cell("? no worker is known of", "quiet")


def total(seen: WorkersSeen) -> str:
    """What all of them cost, and which providers are not heard."""
    found = found_in(seen)
    cost = [toned(f"{plural(len(found.rows), 'worker')}, {found.eur_per_h:.3f} EUR/h", "quiet")] if found.rows else []
    return "\n".join([*cost, *_notes(seen)])


def row_of(worker: WorkerRow, now: datetime) -> Row:
    """A worker as a row of the table."""
    glyph, tone = _STATES.get(worker.state, ("?", "quiet"))
    late = _is_late(worker, now)
    cells = (
        Cell(worker.id),
        Cell(f"{glyph} {worker.state}", tone),
        Cell(worker.provider),
        Cell(worker.type),
        Cell(worker.location),
        Cell(ago_text(worker.created_at, now).removesuffix(" ago")),
        Cell(f"{worker.eur_per_h:.3f}"),
        Cell(f"{worker.eur_so_far:.2f}"),
        Cell("▲ overdue" if late else due_text(worker.expires_at, now), "warn" if late else "quiet"),
        Cell(str(worker.run_id) if worker.run_id is not None else "-"),
    )
    ends = f", ends {exact(worker.expires_at)}" if worker.expires_at else ""
    return Row(worker.id, cells, f"created {exact(worker.created_at)}{ends}")


def _notes(seen: WorkersSeen) -> list[str]:
    troubles = [toned(f"▲ {shortened(trouble)}", "warn") for trouble in found_in(seen).troubles]
    return troubles + [toned(f"◌ waiting for {whom}", "quiet") for whom in seen.waiting]


def _is_sure(seen: WorkersSeen) -> bool:
    """Whether there are no other workers than those that are known of."""
    return isinstance(seen.workers, Found) and not seen.workers.value.troubles and not seen.waiting


def _is_late(worker: WorkerRow, now: datetime) -> bool:
    return worker.expires_at is not None and worker.expires_at <= now
