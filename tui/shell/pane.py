"""A pane: one of the console's screens. The app imports a pane's module when it is first shown."""

import asyncio
from importlib import import_module
from typing import ClassVar

from textual.app import ComposeResult
from textual.widget import Widget
from textual.widgets import Static

from tui.shell.actions import ActionSpec
from tui.shell.context import ConsoleContext
from tui.shell.messages import Navigation

PANES = {
    "overview": "tui.overview.pane:OverviewPane",
    "runs": "tui.runs.pane:RunsPane",
    "query": "tui.query.pane:QueryPane",
    "releases": "tui.releases.pane:ReleasesPane",
    "logs": "tui.logs.pane:LogsPane",
    "workers": "tui.workers.pane:WorkersPane",
}
"""Where each pane is, as `module:class`, in the order of their keys 1 to 6."""


class Pane(Widget):
    """A screen of the console. Polls nothing while it is hidden.

    Where to go next it says by posting a message of `tui.shell.messages`; those that are for it arrive at `receive`.
    """

    PANE_ID: str
    TITLE: ClassVar[str]
    KEY: ClassVar[str]

    def __init__(self, context: ConsoleContext) -> None:
        super().__init__(id=self.PANE_ID, classes="pane")
        self.context = context
        """The app replaces it when read-only mode is switched."""
        self.drawn = asyncio.Event()
        """Set once there is something in view for keys to act on."""

    def actions(self) -> tuple[ActionSpec, ...]:
        """What can be done here; `runs.start` calls `action_start`."""
        return ()

    def on_show_pane(self) -> None:
        """The pane has come into view: look at the world, and go on looking."""

    def on_hide_pane(self) -> None:
        """The pane is out of view: stop looking."""

    async def receive(self, message: Navigation) -> None:
        """Show what a message asks for; the pane is in view by now, `on_show_pane` was called."""


def make_pane(pane_id: str, context: ConsoleContext) -> Pane:
    """A pane; one that cannot be imported or made is replaced by one that says why."""
    module, _, name = PANES[pane_id].partition(":")
    try:
        pane: Pane = getattr(import_module(module), name)(context)
    except Exception as error:
        return MissingPane(context, pane_id, error)
    return pane


class MissingPane(Pane):
    """Stands in for a screen that this console cannot show; the others are none the worse for it."""

    def __init__(self, context: ConsoleContext, pane_id: str, error: Exception) -> None:
        self.PANE_ID = pane_id
        super().__init__(context)
        self.drawn.set()
        self._text = f"✗ {pane_id.title()} is not built into this console: {type(error).__name__}: {error}"

    def compose(self) -> ComposeResult:
        yield Static(f"{self._text}\n\n  next: reinstall with `uv sync`", markup=False)
