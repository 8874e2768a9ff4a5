"""The confirmation dialog: shows the exact command, takes its options, and returns what to run."""

import shlex
from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label, Static

from tui.shell.choice import Choice, Option
from tui.widgets.table import Cell, Column, Row, Table


class CommandScreen(ModalScreen[tuple[str, ...] | None]):
    """Lets the user choose one of several commands; returns its arguments with options, or None when cancelled."""

    BINDINGS: ClassVar = [("escape,n", "dismiss", "No")]

    def __init__(self, title: str, choices: Sequence[Choice], *, note: str = "", first: int = 0) -> None:
        super().__init__()
        self._title = title
        self._choices = tuple(choices)
        self._note = note
        self._first = first
        self._options = tuple(dict.fromkeys(option for choice in choices for option in choice.options))

    def compose(self) -> ComposeResult:
        columns = (Column("", rank=1), Column("command", flexible=True))
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = self._title
            dialog.border_subtitle = f"⏎ run   {'tab options   ' if self._options else ''}esc cancel"
            yield Table(columns, id="choices")
            for index, option in enumerate(self._options):
                with Horizontal(classes="option", id=f"option-{index}"):
                    yield Label(option.label)
                    yield Input(placeholder=option.hint, compact=True, select_on_focus=False)
            if self._note:
                yield Static(self._note, markup=False, classes="note")

    def on_mount(self) -> None:
        self._draw()
        self._table.move_to(str(self._first))
        self._show_options()
        self._table.focus()

    @property
    def _table(self) -> Table:
        return self.query_one("#choices", Table)

    @property
    def _choice(self) -> Choice:
        return self._choices[int(self._table.current.key) if self._table.current else self._first]

    def _values(self, choice: Choice) -> tuple[str, ...]:
        """Return the arguments of the options that are filled in."""
        values: list[str] = []
        for option in choice.options:
            value = self._input(option).value.strip()
            values += [each for each in (option.name, value) if each] if value else []
        return tuple(values)

    def _input(self, option: Option) -> Input:
        return self.query_one(f"#option-{self._options.index(option)} Input", Input)

    def _draw(self) -> None:
        rows = []
        for index, choice in enumerate(self._choices):
            values = self._values(choice)
            rows.append(
                Row(
                    str(index),
                    (
                        Cell(choice.label),
                        Cell(f"{choice.text} {shlex.join(values)}" if values else choice.text, "strong"),
                    ),
                )
            )
        self._table.show(rows)

    @on(Table.Moved)
    def _show_options(self) -> None:
        for index, option in enumerate(self._options):
            self.query_one(f"#option-{index}").display = option in self._choice.options

    @on(Input.Changed)
    def _on_typed(self) -> None:
        self._draw()

    @on(Input.Submitted)
    @on(Table.Opened)
    def _on_chosen(self, message: Input.Submitted | Table.Opened) -> None:
        message.stop()
        missing = [each for each in self._choice.options if each.is_required and not self._input(each).value.strip()]
        if missing:
            self._input(missing[0]).focus()
        else:
            self.dismiss((*self._choice.arguments, *self._values(self._choice)))
