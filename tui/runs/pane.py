"""The screen Runs, not built into this console yet."""

from textual.app import ComposeResult
from textual.widgets import Static

from tui.pane import Pane


class RunsPane(Pane):
    """Says that the screen is missing."""

    PANE_ID = "runs"
    TITLE = "Runs"
    KEY = "2"

    def compose(self) -> ComposeResult:
        yield Static("◌ Runs is not built into this console.")
