"""The Query screen's pane; it imports the screen's content on first use."""

import asyncio
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import TYPE_CHECKING

from textual import work
from textual.app import ComposeResult
from textual.widgets import Static

from tui.shell.actions import ActionSpec
from tui.shell.context import ConsoleContext
from tui.shell.messages import Navigation, RunQuery
from tui.shell.pane import Pane

if TYPE_CHECKING:
    from tui.query.body import QueryBody


def _forward_action(verb: str) -> "Callable[[QueryPane], Awaitable[None]]":
    """Return an action method that opens the body if necessary and calls its `do_<verb>`."""

    async def act(pane: "QueryPane") -> None:
        body = await pane.open_body()
        getattr(body, f"do_{verb}")()

    return act


class QueryPane(Pane):
    """SQL over the served tables."""

    PANE_ID = "query"

    def __init__(self, context: ConsoleContext) -> None:
        super().__init__(context)
        self._opening = asyncio.Lock()
        self._body: QueryBody | None = None
        self._in_view = False

    @classmethod
    def actions(cls) -> tuple[ActionSpec, ...]:
        return (
            ActionSpec("query.run", "f5,ctrl+j", "run", "Run the query or the selected part of it"),
            ActionSpec("query.edit", "e", "edit", "Go to the editor; esc goes back to the rows"),
            ActionSpec("query.open", "enter", "open", "Show the row under the cursor in full", show=False),
            ActionSpec("query.stop", "escape", "back", "Cancel the running query, or go from the editor to the rows"),
            ActionSpec("query.sort", "o", "order", "Sort by this column: ascending, descending, unsorted"),
            ActionSpec("query.filter", "slash", "find", "Show only rows that match a SQL condition"),
            ActionSpec("query.alike", "equals_sign", "same", "Show only rows with this cell's value", show=False),
            ActionSpec("query.whole", "backspace", "clear", "Clear sort and filter", show=False),
            ActionSpec("query.chart", "v,f8", "view", "Switch between a chart of this column and the rows"),
            ActionSpec("query.copy", "y", "copy", "Copy the rows to the clipboard as tab-separated text"),
            ActionSpec("query.copy_cell", "Y", "copy cell", "Copy this cell's value to the clipboard", show=False),
            ActionSpec("query.export", "w,f9", "export", "Write the rows to a CSV, Parquet or Excel file", writes=True),
            ActionSpec("query.tables", "b,f12", "list", "Go to the list of tables, their columns and comments"),
            ActionSpec("query.saved", "f2", "saved", "Choose a saved query"),
            ActionSpec("query.history", "f7", "history", "Choose a past query"),
            ActionSpec("query.format", "f4", "format", "Format the query"),
            ActionSpec("query.live", "f6,ctrl+l", "live", "Run the query again whenever new data is served"),
            ActionSpec("query.limits", "L", "limits", "Set the query limits: time, memory, disk", show=False),
        )

    def compose(self) -> ComposeResult:
        yield Static("◌ loading", classes="opening")

    def on_show_pane(self) -> None:
        self._in_view = True
        self._show_body()

    def on_hide_pane(self) -> None:
        self._in_view = False
        if self._body:
            self._body.hide()

    def has_use(self, verb: str) -> bool:
        return self._body is not None and self._body.has_use(verb)

    async def receive(self, message: Navigation) -> None:
        if isinstance(message, RunQuery):
            (await self.open_body()).run_text(message.sql)

    async def open_body(self) -> "QueryBody":
        """Return the mounted body, creating it on first use."""
        async with self._opening:
            if self._body is None:
                # In a thread: the editor's and Arrow's libraries take a third of a second to import.
                module = await asyncio.to_thread(import_module, "tui.query.body")
                body: QueryBody = module.QueryBody(lambda: self.context)
                await self.mount(body)
                await self.query(".opening").remove()
                self._body = body
            return self._body

    @work(group="show", exclusive=True)
    async def _show_body(self) -> None:
        body = await self.open_body()
        # The pane may have been hidden, or the console closed, in the meantime.
        if self._in_view and self.app.is_running:
            body.show()
            self.drawn.set()

    action_run = _forward_action("run")
    action_stop = _forward_action("stop")
    action_tables = _forward_action("tables")
    action_saved = _forward_action("saved")
    action_history = _forward_action("history")
    action_format = _forward_action("format")
    action_live = _forward_action("live")
    action_sort = _forward_action("sort")
    action_filter = _forward_action("filter")
    action_alike = _forward_action("alike")
    action_whole = _forward_action("whole")
    action_chart = _forward_action("chart")
    action_open = _forward_action("open")
    action_copy = _forward_action("copy")
    action_copy_cell = _forward_action("copy_cell")
    action_export = _forward_action("export")
    action_limits = _forward_action("limits")
    action_edit = _forward_action("edit")
