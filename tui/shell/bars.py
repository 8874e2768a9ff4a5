"""The first and the last line: which screens there are, and what can be done on this one."""

from collections.abc import Iterable

from textual.markup import escape

from tui.shell.actions import ActionSpec, key_text
from tui.shell.pane import PANES
from tui.widgets.lines import Lines

_READ_ONLY = " ▣ read-only"


class TopBar(Lines):
    """The screens with their numbers; a click goes there."""

    _shown = "", False

    def show_tabs(self, pane_id: str, *, read_only: bool) -> None:
        self._shown = pane_id, read_only
        self._draw()

    def on_resize(self) -> None:
        self._draw()

    def _draw(self) -> None:
        """Where the names leave no room for the mark, all but that of the screen in view give way."""
        pane_id, read_only = self._shown
        room = self.size.width - (len(_READ_ONLY) if read_only else 0)
        fits = sum(len(name) + 4 for name in PANES) <= room
        tabs = [
            _tab(number, name, named=fits or name == pane_id, shown=name == pane_id)
            for number, name in enumerate(PANES, 1)
        ]
        self.show("".join(tabs) + (f"[$text-warning]{_READ_ONLY}[/]" if read_only else ""))


class ActionBar(Lines):
    """What can be done here, key first; a click does it. What doesn't fit is under `?`."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self._specs: tuple[ActionSpec, ...] = ()

    def show_actions(self, specs: Iterable[ActionSpec]) -> None:
        self._specs = tuple(specs)
        self._draw()

    def on_resize(self) -> None:
        self._draw()

    def _draw(self) -> None:
        """As many as fit; help comes before everything but is drawn where it belongs."""
        room = self.size.width - 1
        kept = {spec.id for spec in self._specs if spec.id == "app.help"}
        room -= sum(_width(spec) for spec in self._specs if spec.id in kept)
        for spec in self._specs:
            if spec.id not in kept and _width(spec) <= room:
                kept.add(spec.id)
                room -= _width(spec)
        shown = [spec for spec in self._specs if spec.id in kept]
        self.show(" ".join(map(_drawn, shown)))


def _tab(number: int, name: str, *, named: bool, shown: bool) -> str:
    text = f" {number} {name.title()} " if named else f" {number} "
    style = "b $text on $primary-muted" if shown else "$foreground-muted"
    return f"[@click=app.perform('app.{name}')][{style}]{text}[/][/]"


def _width(spec: ActionSpec) -> int:
    return len(key_text(spec.key)) + len(spec.label) + 3


def _drawn(spec: ActionSpec) -> str:
    key, label = escape(key_text(spec.key)), escape(spec.label)
    return f"[@click=app.perform('{spec.id}')][b] {key}[/] [$foreground-muted]{label}[/][/]"
