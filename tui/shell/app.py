"""The console application: creates panes on first use, registers actions and routes messages between panes."""

import asyncio
import gc
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import events, on
from textual.app import App, ComposeResult
from textual.containers import Container
from textual.widget import Widget

from dataflows.errors import SettingsError
from tui.shell.actions import APP, APP_ACTIONS, ActionSpec, Registry
from tui.shell.bars import ActionBar, TopBar
from tui.shell.child import READ_ONLY, CommandEnded
from tui.shell.config import TuiConfig
from tui.shell.context import ConsoleContext
from tui.shell.keys import KeyQueue
from tui.shell.messages import Navigation
from tui.shell.pane import PANES, Pane, actions_of, make_pane
from tui.shell.theme import MATERIA, MATERIA_16, THEME_NAME
from tui.widgets.formatting import shortened

if TYPE_CHECKING:
    from textual.command import Provider
    from textual.driver import Driver
    from textual.notifications import SeverityLevel

SWITCHES = {
    f"{APP}.{pane_id}": ActionSpec(
        f"{APP}.{pane_id}", str(number), pane_id, f"Go to the {pane_id.title()} screen", show=False
    )
    for number, pane_id in enumerate(PANES, 1)
}


_MAX_WAIT_S = 5.0
"""The longest that an action waits until its screen shows something."""
_RELEASE_POLL_S = 2.0
_RELEASE_NOTICE_S = 300.0
"""How long the headline of a new release stays, unless it is clicked or the Releases screen is shown."""
_ROOMY_LINES = 30
"""From this height on, the whole headline leaves enough of a screen visible."""
_RELEASES = "releases"
_STYLES = Path(__file__).parents[1]
_OWNERS = (APP, *PANES)
_HEIGHTS = [(0, "-short"), (24, "-high"), (36, "-tall")]
_WIDTHS = [(0, "-tiny"), (70, "-narrow"), (100, "-wide")]


def _freeze_collector() -> None:
    gc.freeze()
    gc.enable()


def _palette() -> "type[Provider]":
    from tui.shell.palette import ActionProvider

    return ActionProvider


class ConsoleApp(App[None]):
    """Materia's console. `locked`: read-only mode cannot be switched off. `owns_process`: nothing else runs in it."""

    CSS = """
    Screen { layout: vertical; background: $background; }
    * { scrollbar-size-vertical: 1; scrollbar-size-horizontal: 1; }
    """
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
        owns_process: bool = False,
    ) -> None:
        super().__init__()
        if first not in PANES:
            raise SettingsError(f"unknown screen {first!r}; screens: {', '.join(PANES)}")
        config = config or TuiConfig()
        self.context = context
        self.registry = Registry(config.keys)
        self._locked = locked
        self._owns_process = owns_process
        self._first = first
        self._panes: dict[str, Pane] = {}
        self._shown: str | None = None
        self._switching = asyncio.Lock()
        self._focus: dict[str, Widget | None] = {}
        self._newest_release: date | None = None
        self._is_announced = False
        self._keys = KeyQueue(self, super().on_event, self._drawn_event, self._is_global_key)
        self.register_theme(MATERIA)
        self.register_theme(MATERIA_16)
        if config.theme is not None and config.theme not in self.available_themes:
            raise SettingsError(f"unknown theme {config.theme!r}; themes: {', '.join(self.available_themes)}")
        self.theme = config.theme or THEME_NAME
        self._bind(self.registry.add((*SWITCHES.values(), *APP_ACTIONS)))
        self.registry.check_all_known(_OWNERS)

    def compose(self) -> ComposeResult:
        self._read_style("shell/console.tcss")
        yield TopBar(id="top")
        with Container(id="panes"):
            yield self._create_pane(self._first)
        yield ActionBar(id="bottom")

    async def on_mount(self) -> None:
        if self._owns_process:
            # By default it would leave the terminal as it is now. SIGHUP keeps its default: then the terminal is gone.
            leave = partial(self.exit, return_code=128 + signal.SIGTERM)
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leave)
        await self.show_pane(self._first)
        self.watch(self.screen, "focused", self.show_actions, init=False)
        self._freeze_after_refresh()
        self.call_after_refresh(self._watch_releases)

    def _watch_releases(self) -> None:
        """Remember the newest release and announce later ones; reading it would delay the first frame."""
        news = self.context.releases.latest(self.context.settings)
        self._newest_release = news.released_on if news else date.min
        self.set_interval(_RELEASE_POLL_S, self._announce_release)

    def get_driver_class(self) -> "type[Driver]":
        from textual.drivers.linux_driver import LinuxDriver

        from tui.shell.driver import TerminalDriver

        driver = super().get_driver_class()
        return TerminalDriver if driver is LinuxDriver else driver

    async def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.Key | events.Paste):
            if not self.screen_stack:
                return  # The console is closing; Textual would fail without a screen.
            if not event.is_forwarded:
                await self._keys.put(event)
                return
        await super().on_event(event)

    def _announce_release(self) -> None:
        """Show the headline of a release that is served since the console was opened, on any screen."""
        news = self.context.releases.latest(self.context.settings)
        if news and news.headline and self._newest_release and news.released_on > self._newest_release:
            self._newest_release = news.released_on
            self._is_announced = self._shown != _RELEASES  # which shows the changes itself
            parts = news.parts if self.size.height >= _ROOMY_LINES else news.parts[:1]
            lines = [*parts, "4 shows what changed"] if self._is_announced else []
            timeout = _RELEASE_NOTICE_S if self._is_announced else None
            self.notify("\n".join(lines), title=f"The release of {news.released_on} is served", timeout=timeout)

    def _drawn_event(self) -> asyncio.Event:
        return (self.shown_pane or self._panes[self._first]).drawn

    def _is_global_key(self, key: str) -> bool:
        return any(key in spec.key.split(",") for spec in self.registry.available((APP,), read_only=False))

    # Panes

    @property
    def shown_pane(self) -> Pane | None:
        return self._panes.get(self._shown) if self._shown else None

    async def show_pane(self, pane_id: str) -> Pane:
        """Show a pane, creating it on first use. Concurrent calls are serialized; the last one wins."""
        async with self._switching:
            return await self._show_pane(pane_id)

    async def _show_pane(self, pane_id: str) -> Pane:
        if pane_id not in self._panes:
            await self.query_one("#panes").mount(self._create_pane(pane_id))
            self._freeze_after_refresh()
        pane = self._panes[pane_id]
        if pane_id != self._shown:
            self._hide_shown()
            self._shown = pane_id
            for other in self._panes.values():
                other.display = other is pane
            pane.on_show_pane()
            self._focus_in(pane)
            if pane_id == _RELEASES and self._is_announced:
                self._is_announced = False
                self.clear_notifications()
        self.show_actions()
        return pane

    def _freeze_after_refresh(self) -> None:
        """Exclude modules and panes, which live as long as the process, from garbage collection once they are drawn.

        A full collection would scan them all and delay a key by 50 ms.
        """
        if self._owns_process:
            self.call_after_refresh(_freeze_collector)

    def _read_style(self, name: str) -> None:
        """Add a style sheet. One in `CSS_PATH` is parsed twice before the first frame, whatever that shows."""
        path = _STYLES / name
        self.stylesheet.add_source(path.read_text(encoding="utf-8"), (str(path), ""))

    def _create_pane(self, pane_id: str) -> Pane:
        self._read_style(f"{pane_id}/{pane_id}.tcss")
        pane = make_pane(pane_id, self.context)
        self._panes[pane_id] = pane
        self._bind(self.registry.add(pane.actions()))
        try:
            self.registry.check_all_known(_OWNERS)
        except SettingsError as error:
            # The console is in use by now: a wrong key binding is no reason to exit.
            self.notify(str(error), severity="warning")
        return pane

    def _hide_shown(self) -> None:
        if pane := self.shown_pane:
            self._focus[pane.PANE_ID] = self.focused
            pane.on_hide_pane()

    def _focus_in(self, pane: Pane) -> None:
        """Restore the focus that the pane had when it was last shown, else focus its first focusable widget."""
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
        """Show a notification without interpreting markup: user input and error messages may contain brackets."""
        super().notify(message, title=title, severity=severity, timeout=timeout, markup=False)

    @on(Navigation)
    async def go(self, message: Navigation) -> None:
        """Show the pane that a message is addressed to, and deliver the message."""
        pane = await self.show_pane(message.PANE_ID)
        await pane.receive(message)

    @on(Pane.ActionsChanged)
    def _on_actions_changed(self) -> None:
        self.show_actions()

    @on(CommandEnded)
    def show_command_result(self, message: CommandEnded) -> None:
        """Show how a command ended that a pane started."""
        severity: SeverityLevel = "information" if message.exit_code == 0 else "error"
        self.notify(shortened(message.last_line) or "done", title=message.command, severity=severity)

    # Actions

    @property
    def available(self) -> tuple[ActionSpec, ...]:
        """The actions available now: those of the shown pane first, then the global ones."""
        owners = (self._shown, APP) if self._shown else (APP,)
        return self.registry.available(owners, read_only=self.context.read_only)

    @property
    def everything(self) -> tuple[ActionSpec, ...]:
        """The actions of all screens: those of the shown one first, then the global ones, then the others."""
        for pane_id in PANES:
            if pane_id not in self._panes:
                self.registry.add(actions_of(pane_id))
        owners = dict.fromkeys((self._shown or APP, APP, *PANES))
        return self.registry.available(owners, read_only=self.context.read_only)

    @property
    def reachable(self) -> tuple[ActionSpec, ...]:
        """The available actions with those of their keys that the focused widget leaves to them."""
        focused = self.screen_stack[0].focused
        return tuple(spec for each in self.available if (spec := each.without_keys_of(focused)).key)

    def show_actions(self) -> None:
        """Redraw both bars after the shown pane, the focus or the available actions changed."""
        if not self.screen_stack:
            return  # the console is closing; a message of an action that ended meanwhile arrives late
        bottom = self.screen_stack[0]  # a dialog may be open
        bottom.query_one(TopBar).show_tabs(self._shown or "", read_only=self.context.read_only)
        bottom.query_one(ActionBar).show_actions(spec for spec in self.reachable if spec.show and self._has_use(spec))

    def _has_use(self, spec: ActionSpec) -> bool:
        pane = self.shown_pane
        return pane is None or spec.owner != pane.PANE_ID or pane.has_use(spec.verb)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action != "perform":
            return super().check_action(action, parameters)
        return any(spec.id == parameters[0] for spec in self.available)

    async def action_perform(self, action_id: str) -> None:
        """Run a registered action."""
        spec = self.registry[action_id]
        if spec.id in SWITCHES:
            await self.show_pane(spec.verb)
        else:
            await self.run_action(spec.verb, self if spec.owner == APP else self._panes[spec.owner])

    def go_and_perform(self, action_id: str) -> None:
        """Show the screen of an action and run it there; refused in read-only mode if it changes something."""
        self.run_worker(self._go_and_perform(self.registry[action_id]), group="perform")

    async def _go_and_perform(self, spec: ActionSpec) -> None:
        if spec.writes and self.context.read_only:
            self.notify(READ_ONLY, severity="warning")
            return
        if spec.owner != APP:
            pane = await self.show_pane(spec.owner)
            with suppress(TimeoutError):
                await asyncio.wait_for(pane.drawn.wait(), _MAX_WAIT_S)
        await self.action_perform(spec.id)

    def action_help(self) -> None:
        from tui.shell.help import HelpScreen

        self.push_screen(HelpScreen(self.reachable))

    def action_palette(self) -> None:
        self.action_command_palette()

    def action_theme(self) -> None:
        self.action_change_theme()

    def action_read_only(self) -> None:
        """Toggle read-only mode, unless the console was started with `--locked`."""
        if self._locked:
            self.notify("this console is locked to read-only mode", severity="warning")
            return
        self.context = replace(self.context, read_only=not self.context.read_only)
        for pane in self._panes.values():
            pane.context = self.context
        self.show_actions()

    def _bind(self, specs: Iterable[ActionSpec]) -> None:
        for spec in specs:
            self.bind(spec.key, f"app.perform('{spec.id}')", description=spec.label, show=spec.show)
