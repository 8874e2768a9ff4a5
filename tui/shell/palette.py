"""The command palette: searches the registry of actions."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from textual.command import DiscoveryHit, Hit, Hits, Provider

from tui.shell.actions import ActionSpec, key_text

if TYPE_CHECKING:
    from tui.shell.app import ConsoleApp


class ActionProvider(Provider):
    """Provides every action of every screen; choosing one goes to its screen."""

    @property
    def _console(self) -> "ConsoleApp":
        from tui.shell.app import ConsoleApp

        assert isinstance(self.app, ConsoleApp)
        return self.app

    async def discover(self) -> Hits:
        for spec in self._console.everything:
            yield DiscoveryHit(_title(spec), self._doing(spec), help=spec.help)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for spec in self._console.everything:
            title = _title(spec)
            score = max(matcher.match(title), matcher.match(spec.help))
            if score > 0:
                yield Hit(score, matcher.highlight(title), self._doing(spec), text=title, help=spec.help)

    def _doing(self, spec: ActionSpec) -> Callable[[], None]:
        return partial(self._console.go_and_perform, spec.id)


def _title(spec: ActionSpec) -> str:
    return f"{spec.owner}: {spec.label}  ({key_text(spec.key)})"
