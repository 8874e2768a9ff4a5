"""A dialog that shows one row of a result in full: every column, with whole texts."""

from collections.abc import Sequence
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.query.cells import plain
from tui.widgets.log_line import harmless


class RecordScreen(ModalScreen[None]):
    """Shows names and values; `column` is the index of the value that is scrolled into view."""

    BINDINGS: ClassVar = [("escape,enter,q", "dismiss", "Close")]

    def __init__(self, title: str, values: Sequence[tuple[str, Any]], column: int) -> None:
        super().__init__()
        self._title, self._values, self._column = title, tuple(values), column

    def compose(self) -> ComposeResult:
        width = max(len(name) for name, _ in self._values)
        with VerticalScroll(classes="dialog") as dialog:
            dialog.border_title, dialog.border_subtitle = Content(self._title), "esc close"
            for index, (name, value) in enumerate(self._values):
                style = "bold" if index == self._column else "$foreground-muted"
                yield Static(Content.assemble((f"{name:<{width}}  ", style), full_text(value)), id=f"value-{index}")

    def on_mount(self) -> None:
        self.query_one(f"#value-{self._column}").scroll_visible(animate=False)


def full_text(value: Any) -> str:
    """Format a value without cutting it: texts with their line breaks, bytes as hexadecimal digits."""
    if isinstance(value, bytes):
        return value.hex()
    return "\n".join(map(harmless, value.splitlines())) if isinstance(value, str) else plain(value)
