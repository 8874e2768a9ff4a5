"""Formats the workers as table rows and markup; contains no widgets."""

from datetime import datetime

from ops.host.formatting import ago_text
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
