"""A pane that looks at the world again and again while it is in view, off the event loop."""

from abc import ABCMeta, abstractmethod
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from textual import on
from textual.message import Message
from textual.message_pump import _MessagePumpMeta
from textual.timer import Timer

from tui.shell.pane import Pane
from tui.widgets.panel import Failure, Found, attempt


class _AbstractPane(ABCMeta, _MessagePumpMeta):
    """Textual's metaclass, and that of classes which lack something: a class has one metaclass."""


class PolledPane(Pane, metaclass=_AbstractPane):
    """Calls `look` in a thread, `draw` with what it returned, and looks again `POLL_S` after that.

    `look` must not touch a widget, nor remember anything: it may be overtaken by a later one, and is forgotten then. It
    may return None for "nothing has changed since what is drawn". What it raises is told in a message, once, and the
    pane stays as it is: no screen takes the others with it.
    """

    POLL_S = 2.0

    @dataclass
    class Seen(Message):
        """What a look has found, or why it found nothing; `number` is which look it was."""

        snapshot: Any
        trouble: Failure | None = None
        number: int = 0

    _last_number = 0
    _seen_number = 0
    _awaited_number = 0
    _in_view = False
    _timer: Timer | None = None
    _told: Failure | None = None
    _holds_keys = False
    """A pane has keys wait for something else than a look."""

    @abstractmethod
    def look(self) -> Any:
        """Take a frozen snapshot of what the pane shows; runs in a thread."""

    @abstractmethod
    def draw(self, snapshot: Any) -> None:
        """Draw a snapshot."""

    def on_show_pane(self) -> None:
        self._in_view = True
        self.look_again()

    def on_hide_pane(self) -> None:
        self._in_view = False
        self._stop_timer()

    def look_again(self, *, awaited: bool = False) -> None:
        """Look now; a look that is under way is overtaken. An `awaited` one has keys wait until it is drawn."""
        self._stop_timer()
        self._last_number += 1
        if awaited:
            self._awaited_number = self._last_number
            self.drawn.clear()
        look = partial(self._look, self._last_number)
        self.run_worker(look, thread=True, exclusive=True, group="look", exit_on_error=True)

    def _look(self, number: int) -> None:
        found = attempt(self.look)
        seen = self.Seen(found.value) if isinstance(found, Found) else self.Seen(None, found)
        self.post_message(replace(seen, number=number))

    @on(Seen)
    def _on_seen(self, message: Seen) -> None:
        message.stop()
        if message.number < self._seen_number:
            return
        self._seen_number = message.number
        if message.snapshot is not None:
            self.draw(message.snapshot)
        if message.trouble is not None and message.trouble != self._told:
            self.notify(f"next: {message.trouble.next_step}", title=message.trouble.what, severity="error")
        self._told = message.trouble
        if message.number >= self._awaited_number and not self._holds_keys:
            self.drawn.set()
        if self._in_view:
            self._stop_timer()
            # Not `set_timer`: held up while it begins, for longer than it takes, it loses its only tick.
            self._timer = self.set_interval(self.POLL_S, self.look_again)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
