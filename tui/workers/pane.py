"""The Workers screen: rented machines, their cost, and the actions that destroy them."""

import socket
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from textual import on
from textual.app import ComposeResult

from ops.config.settings import Settings
from ops.workers.caps import LEDGER_NAME, Ledger
from ops.workers.labels import owner_of
from ops.workers.settings import WorkerSettings
from ops.workers.view import Workers
from tui.shell import workers_summary
from tui.shell.actions import ActionSpec
from tui.shell.child import CommandEnded, offer
from tui.shell.choice import Choice, Option
from tui.shell.messages import OpenRun
from tui.shell.polled import PolledPane
from tui.shell.workers_watch import WorkersSnapshot
from tui.widgets.lines import Lines
from tui.widgets.panel import Panel, Part, attempt
from tui.widgets.table import Table
from tui.workers import drawing
from tui.workers.drawing import Spending

_REFRESH_S = 10
"""How often relative times are refreshed while nothing changes."""

_PUBLIC_KEY = Option("--public-key", "a file with the SSH public key of its user", is_required=True)
_NAME = Option("", "NAME of the worker; default: by-hand")
_FOR = Option("--for", "the pipeline that determines the machine's size; default: run-all")
_ON = Option("--on", "a provider, if the credentials of several are set")


@dataclass(frozen=True)
class Seen:
    """What the screen shows."""

    workers: WorkersSnapshot
    spending: Part[Spending]


class WorkersPane(PolledPane):
    """Lists every machine with our label; Enter opens its run."""

    PANE_ID = "workers"
    POLL_S = 1.0

    _found = Workers()
    _drawn: Any = None

    @classmethod
    def actions(cls) -> tuple[ActionSpec, ...]:
        return (
            ActionSpec("workers.create", "a", "create", "Create a worker, after confirmation", writes=True),
            ActionSpec("workers.destroy", "D", "destroy", "Destroy this worker, after confirmation", writes=True),
            ActionSpec("workers.reap", "R", "reap", "Destroy every overdue worker, after confirmation", writes=True),
            ActionSpec("workers.refresh", "r", "refresh", "Query the providers again"),
        )

    def compose(self) -> ComposeResult:
        yield Panel(Table(drawing.COLUMNS, id="workers-table"), title="Workers", id="workers-list-panel")
        yield Lines(id="workers-total")
        yield Panel(Lines(id="spending"), title="Caps and past workers", id="spending-panel")

    def look(self) -> "Seen | None":
        now = self.context.clock()
        seen = self.context.workers.latest(now)
        if (seen, _refresh_number(now)) == self._drawn:
            return None
        return Seen(seen, attempt(lambda: _read_spending(self.context.settings, now)))

    def draw(self, snapshot: "Seen") -> None:
        now = self.context.clock()
        self._drawn = snapshot.workers, _refresh_number(now)
        self._found = drawing.known_workers(snapshot.workers)
        panel = workers_summary.panel_part(snapshot.workers)
        self.query_one("#workers-list-panel", Panel).show(panel, self._draw_workers)
        self.query_one("#spending-panel", Panel).show(
            snapshot.spending,
            lambda spending: self.query_one("#spending", Lines).show(drawing.spending_text(spending, now)),
        )

    def _draw_workers(self, seen: WorkersSnapshot) -> None:
        now = self.context.clock()
        rows = [drawing.row_of(row, now) for row in self._found.rows]
        self.query_one("#workers-table", Table).show(rows, empty=drawing.empty(seen))
        self.query_one("#workers-total", Lines).show(drawing.total(seen))

    @on(Table.Opened, "#workers-table")
    def _open(self, message: Table.Opened) -> None:
        message.stop()
        row = next((row for row in self._found.rows if row.id == message.key), None)
        if row is None or row.run_id is None:
            self.notify(f"no known run uses {message.key}")
        elif row.owner not in ("", owner_of(self.context.settings.data_dir, socket.gethostname())):
            self.notify(f"run {row.run_id} is in the journal of {row.owner}")
        else:
            self.post_message(OpenRun(row.run_id))

    def has_use(self, verb: str) -> bool:
        return verb != "destroy" or self.query_one("#workers-table", Table).current is not None

    def action_refresh(self) -> None:
        self._drawn = None
        self.context.workers.ask_again()
        self.look_again()

    def action_destroy(self) -> None:
        current = self.query_one("#workers-table", Table).current
        if current is None:
            self.notify("no worker selected")
        else:
            choice = Choice("destroy", ("worker", "destroy", current.key))
            offer(self, "Destroy a worker", [choice], self._interrupts(current.key))

    def _interrupts(self, worker_id: str) -> str:
        """Return what ends with a worker."""
        run_id = next((row.run_id for row in self._found.rows if row.id == worker_id), None)
        run = f"Run {run_id} on it is interrupted." if run_id is not None else "No known run uses it."
        return f"{run} Its disk is deleted, too."

    def action_reap(self) -> None:
        note = "Destroys all workers with our label that are overdue."
        offer(self, "Reap workers", [Choice("reap", ("worker", "reap"))], note)

    def action_create(self) -> None:
        choice = Choice("create", ("worker", "create"), (_PUBLIC_KEY, _NAME, _FOR, _ON))
        offer(self, "Create a worker", [choice], "It costs money until it is destroyed, or reaped after it expired.")

    @on(CommandEnded)
    def _on_command_ended(self) -> None:
        self.action_refresh()  # the application shows how it ended


def _read_spending(settings: Settings, now: datetime) -> Spending:
    ledger = Ledger(settings.data_dir / LEDGER_NAME)
    return Spending(WorkerSettings.from_environ().caps, ledger.eur_within_a_day(now), ledger.entries())


def _refresh_number(now: datetime) -> int:
    return int(now.timestamp()) // _REFRESH_S
