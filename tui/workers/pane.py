"""The screen Workers: the machines that work for us, what they cost, and how to be rid of them."""

import socket
from datetime import datetime
from typing import Any

from textual import on
from textual.app import ComposeResult

from ops.host.launch import command_text
from ops.workers.labels import owner_of
from ops.workers.view import Workers
from tui.shell import workers_summary
from tui.shell.actions import ActionSpec
from tui.shell.child import CommandEnded, start
from tui.shell.command import Choice, CommandScreen
from tui.shell.messages import OpenRun
from tui.shell.polled import PolledPane
from tui.shell.workers_watch import WorkersSeen
from tui.widgets.formatting import shortened
from tui.widgets.lines import Lines
from tui.widgets.panel import Panel
from tui.widgets.table import Table
from tui.workers import drawing

_ROUND_S = 10
"""How often relative times are brought up to date while nobody says anything new."""


class WorkersPane(PolledPane):
    """Every machine that carries our label; Enter goes to its run."""

    PANE_ID = "workers"
    TITLE = "Workers"
    KEY = "6"
    POLL_S = 1.0

    _found = Workers()
    _drawn: Any = None

    def actions(self) -> tuple[ActionSpec, ...]:
        return (
            ActionSpec("workers.destroy", "d", "destroy", "Destroy this worker; asks first", writes=True),
            ActionSpec("workers.reap", "p", "reap", "Destroy every worker whose time is up; asks first", writes=True),
            ActionSpec("workers.refresh", "r", "refresh", "Ask the provider again"),
        )

    def compose(self) -> ComposeResult:
        yield Panel(Table(drawing.COLUMNS, id="workers-table"), title="Workers", id="workers-list-panel")
        yield Lines(id="workers-total")

    def look(self) -> WorkersSeen | None:
        now = self.context.clock()
        seen = self.context.workers.latest(now)
        return None if (seen, _round(now)) == self._drawn else seen

    def draw(self, snapshot: WorkersSeen) -> None:
        self._drawn = snapshot, _round(self.context.clock())
        self._found = drawing.found_in(snapshot)
        self.query_one("#workers-list-panel", Panel).show(workers_summary.part_of(snapshot), self._draw_workers)

    def _draw_workers(self, seen: WorkersSeen) -> None:
        now = self.context.clock()
        rows = [drawing.row_of(row, now) for row in self._found.rows]
        self.query_one("#workers-table", Table).show(rows, empty=drawing.empty(seen))
        self.query_one("#workers-total", Lines).show(drawing.total(seen))

    @on(Table.Opened, "#workers-table")
    def _open(self, message: Table.Opened) -> None:
        message.stop()
        row = next((row for row in self._found.rows if row.id == message.key), None)
        if row is None or row.run_id is None:
            self.notify(f"{message.key} works for no run that is known")
        elif row.owner not in ("", owner_of(self.context.settings.data_dir, socket.gethostname())):
            self.notify(f"its run {row.run_id} is in the journal of {row.owner}")
        else:
            self.post_message(OpenRun(row.run_id))

    def action_refresh(self) -> None:
        self._drawn = None
        self.context.workers.ask_again()
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
        self.notify(
            shortened(message.said) or "done",
            title=message.command,
            severity="information" if message.exit_code == 0 else "error",
        )
        self.action_refresh()


def _round(now: datetime) -> int:
    return int(now.timestamp()) // _ROUND_S
