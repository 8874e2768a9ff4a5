"""The first and the last line: which screens there are, and what can be done on this one."""

from collections.abc import Iterable

from textual.markup import escape

from tui.actions import ActionSpec, key_text
from tui.lines import Lines
from tui.pane import PANES


class TopBar(Lines):
    """The screens with their numbers; a click goes there."""

    def show_tabs(self, pane_id: str, *, read_only: bool) -> None:
        tabs = [
            f"[@click=app.perform('app.{name}')]"
            + (
                f"[b $text on $block-cursor-background] {number} {name.title()} [/]"
                if name == pane_id
                else f"[$foreground-muted] {number} [/][$foreground-muted]{name.title()} [/]"
            )
            + "[/]"
            for number, name in enumerate(PANES, 1)
        ]
        mark = "  [$warning]▣ read-only[/]" if read_only else ""
        self.show("".join(tabs) + mark)


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


def _width(spec: ActionSpec) -> int:
    return len(key_text(spec.key)) + len(spec.label) + 3


def _drawn(spec: ActionSpec) -> str:
    key, label = escape(key_text(spec.key)), escape(spec.label)
    return f"[@click=app.perform('{spec.id}')][b] {key}[/] [$foreground-muted]{label}[/][/]"
