"""The help screen: lists the keys of the shown screen and the global keys."""

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.markup import escape
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.shell.actions import APP, ActionSpec, key_text

_MOVING = (
    ("↑ ↓ PgUp PgDn Home End", "move"),
    ("⏎", "open the details of the row"),
    ("tab  shift+tab", "next, previous panel"),
    ("esc", "back"),
)


class HelpScreen(ModalScreen[None]):
    """Lists every available action of the registry."""

    BINDINGS: ClassVar = [("escape,question_mark,q,f1", "dismiss", "Close")]

    def __init__(self, specs: Sequence[ActionSpec]) -> None:
        super().__init__()
        self._specs = tuple(specs)

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="dialog") as dialog:
            dialog.border_title = "Keys"
            dialog.border_subtitle = "esc close"
            yield Static(self._text())

    def _text(self) -> str:
        here = [spec for spec in self._specs if spec.owner != APP]
        everywhere = [spec for spec in self._specs if spec.owner == APP]
        parts = [_section(here[0].owner.title(), _lines(here))] if here else []
        parts += [_section("All screens", _lines(everywhere)), _section("Navigation", _MOVING)]
        return "\n\n".join(parts)


def _lines(specs: Sequence[ActionSpec]) -> list[tuple[str, str]]:
    return [(" ".join(key_text(key) for key in spec.key.split(",")), spec.help) for spec in specs]


def _section(title: str, lines: Sequence[tuple[str, str]]) -> str:
    rows = [f"  [b]{escape(key):<9}[/b]  {escape(text)}" for key, text in lines]
    return "\n".join([f"[b]{escape(title)}[/b]", *rows])
