"""Formats the workers as table rows and markup; contains no widgets."""

from dataclasses import dataclass
from datetime import datetime

from ops.host.formatting import ago_text, duration_text
from ops.workers.caps import Caps, Entry
from ops.workers.view import WorkerRow
from tui.shell.workers_summary import is_complete, is_overdue, known_workers, provider_notes
from tui.shell.workers_watch import WorkersSnapshot
from tui.widgets.formatting import due_text, exact, plural
from tui.widgets.table import Cell, Column, Row
from tui.widgets.tones import toned

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
_PAST_SHOWN = 8
_STATES = {"running": ("●", "ok"), "off": ("▲", "warn"), "initializing": ("◌", "busy"), "starting": ("◌", "busy")}


def empty(seen: WorkersSnapshot) -> Cell:
    """Return the text of an empty table: why there are no workers, and the next step."""
    found = known_workers(seen)
    if found.unavailable:
        return Cell(f"? {found.unavailable}\n  next: {found.next_step}", "quiet")
    if is_complete(seen):
        return Cell("● no workers, no cost\n  next: materia worker create", "ok")
    return Cell("? no workers known yet", "quiet")


def total(seen: WorkersSnapshot) -> str:
    """Return the total cost, and the providers that failed or have not answered."""
    found = known_workers(seen)
    cost = [toned(f"{plural(len(found.rows), 'worker')}, {found.eur_per_h:.3f} EUR/h", "quiet")] if found.rows else []
    return "\n".join([*cost, *provider_notes(seen)])


def row_of(worker: WorkerRow, now: datetime) -> Row:
    """Return the table row of a worker."""
    glyph, tone = _STATES.get(worker.state, ("?", "quiet"))
    late = is_overdue(worker, now)
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


@dataclass(frozen=True)
class Spending:
    """The caps, what counts against the daily one (EUR), and every requested machine, oldest first."""

    caps: Caps
    spent_eur: float
    entries: tuple[Entry, ...]


def spending_text(spending: Spending, now: datetime) -> str:
    """Return what is left of the caps, and the newest past workers with their cost, as markup."""
    caps = spending.caps
    left = max(caps.eur_per_day - spending.spent_eur, 0.0)
    lines = [
        f"{toned(f'{left:.2f} EUR', 'strong' if left else 'warn')} of {caps.eur_per_day:.2f} EUR left for 24 hours"
        f" · at most {caps.eur_per_run:.2f} EUR a run and {plural(caps.count, 'worker')} at once"
    ]
    past = [entry for entry in spending.entries if entry.paid_until(now) <= now][-_PAST_SHOWN:]
    for entry in reversed(past):
        lived = duration_text((entry.paid_until(now) - entry.begun_at).total_seconds())
        provider = f" {entry.provider}" if entry.provider else ""
        text = f"{entry.name}{provider}, {ago_text(entry.begun_at, now)} for {lived}, at most {entry.eur(now):.2f} EUR"
        lines.append(toned(text, "quiet"))
    return "\n".join(lines if past else [*lines, toned("no past workers", "quiet")])
