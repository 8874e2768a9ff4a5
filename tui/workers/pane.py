"""The screen Workers: the machines that work for us, what they cost, and how to be rid of them."""

from dataclasses import dataclass
from datetime import datetime

from textual import on
from textual.app import ComposeResult

from ops.launch import command_text
from ops.words import ago_text
from ops.workers.view import WorkerRow, Workers
from tui.actions import ActionSpec
from tui.child import CommandEnded, start
from tui.command import Choice, CommandScreen
from tui.lines import Lines
from tui.machines import worker_rows
from tui.messages import OpenRun
from tui.panel import Found, Panel, Part, attempt
from tui.polled import PolledPane
from tui.table import Cell, Column, Row, Table
from tui.tones import toned
from tui.words import due_text, exact, plural, shortened

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


@dataclass(frozen=True)
class WorkersSeen:
    """The workers at one moment."""

    workers: Part[Workers]
    at: datetime


class WorkersPane(PolledPane):
    """Every machine that carries our label; Enter goes to its run."""

    PANE_ID = "workers"
    TITLE = "Workers"
    KEY = "6"
    POLL_S = 10.0

    _found = Workers()

    def actions(self) -> tuple[ActionSpec, ...]:
        return (
            ActionSpec("workers.destroy", "d", "destroy", "Destroy this worker; asks first", writes=True),
            ActionSpec("workers.reap", "p", "reap", "Destroy every worker whose time is up; asks first", writes=True),
            ActionSpec("workers.refresh", "r", "refresh", "Ask the provider again"),
        )

    def compose(self) -> ComposeResult:
        yield Panel(Table(COLUMNS, id="workers-table"), title="Workers", id="workers-list-panel")
        yield Lines(id="workers-total")

    def look(self) -> WorkersSeen:
        return WorkersSeen(attempt(lambda: worker_rows(self.context)), self.context.clock())

    def draw(self, snapshot: WorkersSeen) -> None:
        self.query_one("#workers-list-panel", Panel).show(
            snapshot.workers, lambda found: self._draw_workers(found, snapshot.at)
        )
        self._found = snapshot.workers.value if isinstance(snapshot.workers, Found) else Workers()

    def _draw_workers(self, found: Workers, now: datetime) -> None:
        empty = Cell("● no worker, nothing is paid for\n  next: materia worker create", "ok")
        if found.unavailable:
            empty = Cell(f"? {found.unavailable}\n  next: {found.next_step}", "quiet")
        self.query_one("#workers-table", Table).show([row_of(row, now) for row in found.rows], empty=empty)
        total = f"{plural(len(found.rows), 'worker')}, {found.eur_per_h:.3f} EUR/h" if found.rows else ""
        troubles = [toned(f"▲ {shortened(trouble)}", "warn") for trouble in found.troubles]
        self.query_one("#workers-total", Lines).show("\n".join([toned(total, "quiet"), *troubles]))

    @on(Table.Opened, "#workers-table")
    def _open(self, message: Table.Opened) -> None:
        message.stop()
        row = next((row for row in self._found.rows if row.id == message.key), None)
        if row is not None and row.run_id is not None:
            self.post_message(OpenRun(row.run_id))

    def action_refresh(self) -> None:
        self.look_again()

    def action_destroy(self) -> None:
        current = self.query_one("#workers-table", Table).current
        if current is None:
            self.notify("there is no worker to destroy")
        else:
            self._ask("Destroy a worker", ("worker", "destroy", current.key), "Its disk goes with it; nothing is kept.")

    def action_reap(self) -> None:
        self._ask("Reap workers", ("worker", "reap"), "Destroys the workers that carry our label and whose time is up.")

    def _ask(self, title: str, arguments: tuple[str, ...], note: str) -> None:
        def answered(choice: int | None) -> None:
            if choice is not None:
                start(self, arguments, self.context.settings)

        self.app.push_screen(CommandScreen(title, [Choice(arguments[1], command_text(arguments))], note=note), answered)

    @on(CommandEnded)
    def _ended(self, message: CommandEnded) -> None:
        message.stop()
        severity = "information" if message.exit_code == 0 else "error"
        self.notify(shortened(message.said) or "done", title=message.command, severity=severity)
        self.look_again()


def row_of(worker: WorkerRow, now: datetime) -> Row:
    """A worker as a row of the table."""
    glyph, tone = _STATES.get(worker.state, ("?", "quiet"))
    late = worker.expires_at is not None and worker.expires_at <= now
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
