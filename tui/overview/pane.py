"""The screen Overview, not built into this console yet."""

from textual.app import ComposeResult
from textual.widgets import Static

from tui.pane import Pane


class OverviewPane(Pane):
    """Says that the screen is missing."""

    PANE_ID = "overview"
    TITLE = "Overview"
    KEY = "1"

    def compose(self) -> ComposeResult:
        yield Static("◌ Overview is not built into this console.")
