"""A dialog that filters a list of choices as the user types."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

_MAX_SHOWN = 200


@dataclass(frozen=True)
class Choice:
    """One entry of the list."""

    key: str
    """The value that the dialog returns."""
    label: str
    hint: str = ""
    """A code or a date, shown beside the label."""
    explains: str = ""
    """A sentence, shown below the list for the highlighted choice."""


class Picker(ModalScreen[str | None]):
    """Shows the choices that contain every typed word; returns the key of the chosen one, or None when cancelled."""

    DEFAULT_CSS = """
    Picker { align: center middle; }
    Picker > Vertical {
        width: 90%; max-width: 96; height: auto; max-height: 95%;
        padding: 0 1; border: round $border; background: $panel;
    }
    Picker Input, Picker Input:focus { border: none; height: 1; padding: 0; margin-bottom: 1; background: $panel; }
    Picker OptionList, Picker OptionList:focus {
        height: auto; max-height: 24; border: none; padding: 0; background: $panel;
    }
    Picker .option-list--option-highlighted {
        background: $block-cursor-background; color: $block-cursor-foreground; text-style: bold;
    }
    Picker Static { color: $text-muted; height: auto; max-height: 3; margin-top: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", show=False),
        Binding("down", "step(1)", show=False, priority=True),
        Binding("up", "step(-1)", show=False, priority=True),
        Binding("pagedown", "step(10)", show=False, priority=True),
        Binding("pageup", "step(-10)", show=False, priority=True),
    ]

    def __init__(self, title: str, choices: Sequence[Choice], chosen: str | None = None) -> None:
        super().__init__()
        self._title = title
        self._choices = choices
        self._chosen = chosen
        self._more = ""

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = self._title
            yield Input(placeholder="type to filter, enter to choose, esc to cancel")
            yield OptionList()
            yield Static(markup=False)

    def on_mount(self) -> None:
        self._show("")
        keys = [choice.key for choice in self._choices[:_MAX_SHOWN]]
        if self._chosen in keys:
            self.query_one(OptionList).highlighted = keys.index(self._chosen)

    @on(Input.Changed)
    def find(self, event: Input.Changed) -> None:
        event.stop()
        self._show(event.value)

    @on(Input.Submitted)
    def choose(self, event: Input.Submitted) -> None:
        event.stop()
        options = self.query_one(OptionList)
        if options.highlighted is not None:
            self.dismiss(options.get_option_at_index(options.highlighted).id)

    @on(OptionList.OptionSelected)
    def click(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.dismiss(event.option_id)

    def action_step(self, rows: int) -> None:
        options = self.query_one(OptionList)
        if options.option_count:
            options.highlighted = max(0, min((options.highlighted or 0) + rows, options.option_count - 1))

    def _show(self, text: str) -> None:
        words = text.lower().split()
        found = [c for c in self._choices if all(word in f"{c.label} {c.hint} {c.explains}".lower() for word in words)]
        found.sort(key=lambda choice: not choice.label.lower().startswith(text.lower().strip()))
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options(Option(_option_text(choice), id=choice.key) for choice in found[:_MAX_SHOWN])
        options.highlighted = 0 if found else None
        left = len(found) - _MAX_SHOWN
        self._more = f"{left} more: type to narrow the list" if left > 0 else "" if found else "no match"
        self._show_description()

    @on(OptionList.OptionHighlighted)
    def _show_description(self) -> None:
        options, description = self.query_one(OptionList), self.query_one(Static)
        key = None if options.highlighted is None else options.get_option_at_index(options.highlighted).id
        explained = next((choice.explains for choice in self._choices if choice.key == key), "")
        description.update(" · ".join(part for part in (explained, self._more) if part))
        description.display = any(choice.explains for choice in self._choices) or bool(self._more)


def _option_text(choice: Choice) -> Content:
    return Content.assemble(choice.label, ("  " + choice.hint, "dim")) if choice.hint else Content(choice.label)
