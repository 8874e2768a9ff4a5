"""The screen Workers, not built into this console yet."""

from textual.app import ComposeResult
from textual.widgets import Static

from tui.pane import Pane


class WorkersPane(Pane):
    """Says that the screen is missing."""

    PANE_ID = "workers"
    TITLE = "Workers"
    KEY = "6"

    def compose(self) -> ComposeResult:
        yield Static("◌ Workers is not built into this console.")
