"""The Query screen as the console knows it; what it is made of is imported when it is first shown."""

import asyncio
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.widgets import Static

from tui.shell.actions import ActionSpec
from tui.shell.context import ConsoleContext
from tui.shell.messages import Navigation, RunQuery
from tui.shell.pane import Pane

if TYPE_CHECKING:
    from tui.query.body import QueryBody


def _acting(verb: str) -> "Callable[[QueryPane], Awaitable[None]]":
    """An action that the body does, which is made first if need be."""

    async def act(pane: "QueryPane") -> None:
        body = await pane.opened()
        getattr(body, f"do_{verb}")()

    return act


class QueryPane(Pane):
    """SQL over what is served."""

    PANE_ID = "query"
    TITLE: ClassVar[str] = "Query"
    KEY: ClassVar[str] = "3"

    def __init__(self, context: ConsoleContext) -> None:
        super().__init__(context)
        self._opening = asyncio.Lock()
        self._body: QueryBody | None = None
        self._in_view = False

    def actions(self) -> tuple[ActionSpec, ...]:
        return (
            ActionSpec("query.run", "f5,ctrl+j,ctrl+r", "run", "Run the query, or what is selected of it"),
            ActionSpec("query.stop", "escape", "stop", "Stop the running query; what has arrived stays", show=False),
            ActionSpec("query.saved", "f2,o", "saved", "Choose a saved query"),
            ActionSpec("query.history", "f7,r", "history", "Choose a query that was run before"),
            ActionSpec("query.format", "f4", "format", "Lay the query out"),
            ActionSpec("query.live", "f6,ctrl+l", "live", "Run it again whenever new data is served"),
            ActionSpec("query.sort", "s", "sort", "Sort by this column: up, down, not at all"),
            ActionSpec("query.filter", "slash", "filter", "Keep the rows for which a SQL condition holds"),
            ActionSpec("query.alike", "equals_sign", "alike", "Keep the rows with this cell's value", show=False),
            ActionSpec("query.whole", "backspace", "whole", "Sort and filter no more", show=False),
            ActionSpec("query.chart", "c,f8", "chart", "Draw this column, or go back to the rows"),
            ActionSpec("query.copy", "y", "copy", "Copy the rows to the clipboard, as spreadsheets paste them"),
            ActionSpec("query.copy_cell", "Y", "copy cell", "Copy this cell's value to the clipboard", show=False),
            ActionSpec("query.export", "w,f9", "export", "Write the rows to a .csv or .parquet file", writes=True),
            ActionSpec("query.limits", "m", "limits", "Set what a query may take: time, memory, disk", show=False),
            ActionSpec("query.edit", "e,i", "edit", "Go to the editor; esc comes back", show=False),
        )

    def compose(self) -> ComposeResult:
        yield Static("◌ opening", classes="opening")

    def on_show_pane(self) -> None:
        self._in_view = True
        self._show_body()

    def on_hide_pane(self) -> None:
        self._in_view = False
        if self._body:
            self._body.hide()

    async def receive(self, message: Navigation) -> None:
        if isinstance(message, RunQuery):
            (await self.opened()).run_text(message.sql)

    async def opened(self) -> "QueryBody":
        """The screen's body, mounted; made the first time."""
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
        body = await self.opened()
        # Somebody may have left in the meantime: the console, or this screen.
        if self._in_view and self.app.is_running:
            body.show()
            self.drawn.set()

    action_run = _acting("run")
    action_stop = _acting("stop")
    action_saved = _acting("saved")
    action_history = _acting("history")
    action_format = _acting("format")
    action_live = _acting("live")
    action_sort = _acting("sort")
    action_filter = _acting("filter")
    action_alike = _acting("alike")
    action_whole = _acting("whole")
    action_chart = _acting("chart")
    action_copy = _acting("copy")
    action_copy_cell = _acting("copy_cell")
    action_export = _acting("export")
    action_limits = _acting("limits")
    action_edit = _acting("edit")
