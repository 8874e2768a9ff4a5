"""The confirmation dialog: shows the exact command and returns the choice."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.widgets.table import Cell, Column, Row, Table


@dataclass(frozen=True)
class Choice:
    """A label and the command that it runs."""

    label: str
    command: str


class CommandScreen(ModalScreen[int | None]):
    """Lets the user choose one of several commands; returns its index, or None when cancelled."""

    BINDINGS: ClassVar = [("escape,n", "dismiss", "No")]

    def __init__(self, title: str, choices: Sequence[Choice], *, note: str = "", first: int = 0) -> None:
        super().__init__()
        self._title = title
        self._choices = tuple(choices)
        self._note = note
        self._first = first

    def compose(self) -> ComposeResult:
        columns = (Column("", rank=1), Column("command", flexible=True))
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = self._title
            dialog.border_subtitle = "⏎ run   esc cancel"
            yield Table(columns, id="choices")
            if self._note:
                yield Static(self._note, markup=False, classes="note")

    def on_mount(self) -> None:
        table = self.query_one(Table)
        table.show(
            [
                Row(str(index), (Cell(choice.label), Cell(choice.command, "strong")))
                for index, choice in enumerate(self._choices)
            ]
        )
        table.move_to(str(self._first))
        table.focus()

    @on(Table.Opened)
    def _on_chosen(self, message: Table.Opened) -> None:
        message.stop()
        self.dismiss(int(message.key))
