"""The top bar, which lists the screens, and the bottom bar, which lists the available actions."""

from collections.abc import Iterable

from textual.markup import escape

from tui.shell.actions import ActionSpec, key_text
from tui.shell.pane import PANES
from tui.widgets.lines import Lines

_READ_ONLY = " ▣ read-only"


class TopBar(Lines):
    """Lists the screens with their numbers; a click switches to one."""

    _shown = "", False

    def show_tabs(self, pane_id: str, *, read_only: bool) -> None:
        self._shown = pane_id, read_only
        self._draw()

    def on_resize(self) -> None:
        self._draw()

    def _draw(self) -> None:
        """Draw the tabs. Without room for all names, only the shown screen keeps its name."""
        pane_id, read_only = self._shown
        room = self.size.width - (len(_READ_ONLY) if read_only else 0)
        fits = sum(len(name) + 4 for name in PANES) <= room
        tabs = [
            _tab_markup(number, name, named=fits or name == pane_id, shown=name == pane_id)
            for number, name in enumerate(PANES, 1)
        ]
        self.show("".join(tabs) + (f"[$text-warning]{_READ_ONLY}[/]" if read_only else ""))


class ActionBar(Lines):
    """Lists the available actions, key first; a click runs one. `?` lists those that do not fit."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self._specs: tuple[ActionSpec, ...] = ()

    def show_actions(self, specs: Iterable[ActionSpec]) -> None:
        self._specs = tuple(specs)
        self._draw()

    def on_resize(self) -> None:
        self._draw()

    def _draw(self) -> None:
        """Draw as many actions as fit. Help is always included, at its usual place."""
        room = self.size.width - 1
        kept = {spec.id for spec in self._specs if spec.id == "app.help"}
        room -= sum(_action_width(spec) for spec in self._specs if spec.id in kept)
        for spec in self._specs:
            if spec.id not in kept and _action_width(spec) <= room:
                kept.add(spec.id)
                room -= _action_width(spec)
        shown = [spec for spec in self._specs if spec.id in kept]
        self.show(" ".join(map(_action_markup, shown)))


def _tab_markup(number: int, name: str, *, named: bool, shown: bool) -> str:
    text = f" {number} {name.title()} " if named else f" {number} "
    style = "b $text on $primary-muted" if shown else "$foreground-muted"
    return f"[@click=app.perform('app.{name}')][{style}]{text}[/][/]"


def _action_width(spec: ActionSpec) -> int:
    return len(key_text(spec.key)) + len(spec.label) + 3


def _action_markup(spec: ActionSpec) -> str:
    key, label = escape(key_text(spec.key)), escape(spec.label)
    return f"[@click=app.perform('{spec.id}')][b] {key}[/] [$foreground-muted]{label}[/][/]"
