"""The base class of panes (the console's screens) and the registry from which the app imports them on first use."""

import asyncio
from dataclasses import dataclass
from importlib import import_module

from textual.app import ComposeResult
from textual.message import Message
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
"""The location of each pane as `module:class`, in the order of the keys 1 to 6."""


class Pane(Widget):
    """A screen of the console. It must not poll while it is hidden.

    It navigates by posting a message of `tui.shell.messages`; messages addressed to it arrive at `receive`.
    """

    PANE_ID: str

    def __init__(self, context: ConsoleContext) -> None:
        super().__init__(id=self.PANE_ID, classes="pane")
        self.context = context
        """The app replaces it when read-only mode is switched."""
        self.drawn = asyncio.Event()
        """Set once the pane shows content that keys can act on."""

    @classmethod
    def actions(cls) -> tuple[ActionSpec, ...]:
        """Return the pane's actions; `runs.start` calls `action_start`."""
        return ()

    def has_use(self, verb: str) -> bool:
        """Whether an action would do something now; the footer leaves out the others."""
        return True

    def on_show_pane(self) -> None:
        """Called when the pane is shown: start polling."""

    def on_hide_pane(self) -> None:
        """Called when the pane is hidden: stop polling."""

    @dataclass
    class ActionsChanged(Message):
        """What the actions would do has changed: the footer is drawn again."""

    async def receive(self, message: Navigation) -> None:
        """Handle a navigation message; the pane is shown already and `on_show_pane` was called."""


def actions_of(pane_id: str) -> tuple[ActionSpec, ...]:
    """Return the actions of a pane that need not exist yet; none if it cannot be loaded."""
    try:
        return _pane_class(pane_id).actions()
    except ImportError:
        return ()


def _pane_class(pane_id: str) -> type[Pane]:
    module, _, name = PANES[pane_id].partition(":")
    found: type[Pane] = getattr(import_module(module), name)
    return found


def make_pane(pane_id: str, context: ConsoleContext) -> Pane:
    """Create a pane. If that fails, return a MissingPane that shows the error."""
    try:
        pane = _pane_class(pane_id)(context)
    except Exception as error:
        return MissingPane(context, pane_id, error)
    return pane


class MissingPane(Pane):
    """Shows why a screen could not be loaded; the other screens keep working."""

    def __init__(self, context: ConsoleContext, pane_id: str, error: Exception) -> None:
        self.PANE_ID = pane_id
        super().__init__(context)
        self.drawn.set()
        self._text = f"✗ cannot load the {pane_id.title()} screen: {type(error).__name__}: {error}"

    def compose(self) -> ComposeResult:
        yield Static(f"{self._text}\n\n  next: reinstall with `uv sync`", markup=False)
