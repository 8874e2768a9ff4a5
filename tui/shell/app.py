"""The console: panes that are made when first shown, one registry of what can be done, and the way between them."""

import asyncio
import gc
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual import events, on
from textual.app import App, ComposeResult
from textual.containers import Container
from textual.widget import Widget

from dataflows.errors import SettingsError
from tui.shell.actions import APP, APP_ACTIONS, ActionSpec, Registry
from tui.shell.bars import ActionBar, TopBar
from tui.shell.config import TuiConfig
from tui.shell.context import ConsoleContext
from tui.shell.keys import KeyQueue
from tui.shell.messages import Navigation
from tui.shell.pane import PANES, Pane, make_pane
from tui.shell.theme import MATERIA, MATERIA_16, THEME_NAME

if TYPE_CHECKING:
    from textual.command import Provider
    from textual.notifications import SeverityLevel

SWITCHES = {
    f"{APP}.{pane_id}": ActionSpec(
        f"{APP}.{pane_id}", str(number), pane_id, f"Go to the screen {pane_id.title()}", show=False
    )
    for number, pane_id in enumerate(PANES, 1)
}


_OWNERS = (APP, *PANES)
_HEIGHTS = [(0, "-short"), (24, "-high")]
_WIDTHS = [(0, "-tiny"), (70, "-narrow"), (100, "-wide")]


def _freeze() -> None:
    gc.freeze()
    gc.enable()


def _palette() -> "type[Provider]":
    from tui.shell.palette import ActionProvider

    return ActionProvider


class ConsoleApp(App[None]):
    """Materia's console. A `locked` one stays read-only for good; one that is `alone` has its process to itself."""

    CSS_PATH = "console.tcss"
    TITLE = "Materia"
    COMMANDS: ClassVar = {_palette}
    VERTICAL_BREAKPOINTS = _HEIGHTS
    HORIZONTAL_BREAKPOINTS = _WIDTHS

    def __init__(
        self,
        context: ConsoleContext,
        config: TuiConfig | None = None,
        *,
        first: str = "overview",
        locked: bool = False,
        alone: bool = False,
    ) -> None:
        super().__init__()
        if first not in PANES:
            raise SettingsError(f"there is no screen {first!r}; there are {', '.join(PANES)}")
        config = config or TuiConfig()
        self.context = context
        self.registry = Registry(config.keys)
        self._locked = locked
        self._alone = alone
        self._first = first
        self._panes: dict[str, Pane] = {}
        self._shown: str | None = None
        self._switching = asyncio.Lock()
        self._focus: dict[str, Widget | None] = {}
        self._keys = KeyQueue(self, super().on_event, self._drawn, self._is_everywhere)
        self.register_theme(MATERIA)
        self.register_theme(MATERIA_16)
        if config.theme is not None and config.theme not in self.available_themes:
            raise SettingsError(f"there is no theme {config.theme!r}; there are {', '.join(self.available_themes)}")
        self.theme = config.theme or THEME_NAME
        self._bind(self.registry.add((*SWITCHES.values(), *APP_ACTIONS)))
        self.registry.check_all_known(_OWNERS)

    def compose(self) -> ComposeResult:
        yield TopBar(id="top")
        with Container(id="panes"):
            yield self._made(self._first)
        yield ActionBar(id="bottom")

    async def on_mount(self) -> None:
        await self.show_pane(self._first)
        self._keep_for_good()

    async def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.Key | events.Paste) and not event.is_forwarded:
            await self._keys.put(event)
        else:
            await super().on_event(event)

    def _drawn(self) -> asyncio.Event:
        return (self.shown_pane or self._panes[self._first]).drawn

    def _is_everywhere(self, key: str) -> bool:
        return any(key in spec.key.split(",") for spec in self.registry.available((APP,), read_only=False))

    # Panes

    @property
    def shown_pane(self) -> Pane | None:
        return self._panes.get(self._shown) if self._shown else None

    async def show_pane(self, pane_id: str) -> Pane:
        """Bring a pane into view, made now if it is its first time; of several, the last one asked for stays."""
        async with self._switching:
            return await self._show_pane(pane_id)

    async def _show_pane(self, pane_id: str) -> Pane:
        if pane_id not in self._panes:
            await self.query_one("#panes").mount(self._made(pane_id))
            self._keep_for_good()
        pane = self._panes[pane_id]
        if pane_id != self._shown:
            self._hide_shown()
            self._shown = pane_id
            for other in self._panes.values():
                other.display = other is pane
            pane.on_show_pane()
            self._focus_in(pane)
        self.show_actions()
        return pane

    def _keep_for_good(self) -> None:
        """Take modules and panes, which stay, out of the garbage collector's sight once they are drawn.

        It would look through all of them now and then, and keep a key waiting for 50 ms meanwhile.
        """
        if self._alone:
            self.call_after_refresh(_freeze)

    def _made(self, pane_id: str) -> Pane:
        pane = make_pane(pane_id, self.context)
        self._panes[pane_id] = pane
        self._bind(self.registry.add(pane.actions()))
        try:
            self.registry.check_all_known(_OWNERS)
        except SettingsError as error:
            # Somebody is at work by now: a key that does nothing is no reason to end.
            self.notify(str(error), severity="warning")
        return pane

    def _hide_shown(self) -> None:
        if pane := self.shown_pane:
            self._focus[pane.PANE_ID] = self.focused
            pane.on_hide_pane()

    def _focus_in(self, pane: Pane) -> None:
        """Put the focus where it was when the pane was last in view, else on what can first take it."""
        inside = [widget for widget in self.screen.focus_chain if pane in widget.ancestors_with_self]
        remembered = self._focus.get(pane.PANE_ID)
        self.screen.set_focus(remembered if remembered in inside else next(iter(inside), None), scroll_visible=False)

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: "SeverityLevel" = "information",
        timeout: float | None = None,
        markup: bool = False,
    ) -> None:
        """Say something as it is: what people type and programs say may look like markup, and is none."""
        super().notify(message, title=title, severity=severity, timeout=timeout, markup=False)

    @on(Navigation)
    async def go(self, message: Navigation) -> None:
        """Show the pane that a message is for, and hand it on."""
        pane = await self.show_pane(message.PANE_ID)
        await pane.receive(message)

    # Actions

    @property
    def available(self) -> tuple[ActionSpec, ...]:
        """What can be done now: here first, then everywhere."""
        owners = (self._shown, APP) if self._shown else (APP,)
        return self.registry.available(owners, read_only=self.context.read_only)

    def show_actions(self) -> None:
        """Draw the bars anew: another pane is shown, or what can be done has changed."""
        self.query_one(TopBar).show_tabs(self._shown or "", read_only=self.context.read_only)
        self.query_one(ActionBar).show_actions(spec for spec in self.available if spec.show)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action != "perform":
            return super().check_action(action, parameters)
        return any(spec.id == parameters[0] for spec in self.available)

    async def action_perform(self, action_id: str) -> None:
        """Do an action of the registry."""
        spec = self.registry[action_id]
        if spec.id in SWITCHES:
            await self.show_pane(spec.verb)
        else:
            await self.run_action(spec.verb, self if spec.owner == APP else self._panes[spec.owner])

    def action_help(self) -> None:
        from tui.shell.help import HelpScreen

        self.push_screen(HelpScreen(self.available))

    def action_palette(self) -> None:
        self.action_command_palette()

    def action_theme(self) -> None:
        self.action_change_theme()

    def action_read_only(self) -> None:
        """Switch read-only mode, unless the console was locked when it was started."""
        if self._locked:
            self.notify("this console can only look", severity="warning")
            return
        self.context = replace(self.context, read_only=not self.context.read_only)
        for pane in self._panes.values():
            pane.context = self.context
        self.show_actions()

    def _bind(self, specs: Iterable[ActionSpec]) -> None:
        for spec in specs:
            self.bind(spec.key, f"app.perform('{spec.id}')", description=spec.label, show=spec.show)
