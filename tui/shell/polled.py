"""The base class of panes that poll: `look` reads in a thread, `draw` shows the result."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from textual import on
from textual.message import Message
from textual.timer import Timer

from tui.shell.pane import Pane
from tui.widgets.panel import Failure, Found, attempt


class PolledPane(Pane):
    """Calls `look` in a thread, passes its result to `draw`, and repeats this `POLL_S` after each draw.

    `look` must not touch a widget or store state: a later call may overtake it, and then its result is discarded. It
    returns None when nothing has changed. An exception in `look` is shown once as a notification; the pane keeps its
    last content.
    """

    POLL_S = 2.0

    @dataclass
    class Seen(Message):
        """The result of one `look`, or its failure; `number` counts the calls."""

        snapshot: Any
        failure: Failure | None = None
        number: int = 0

    _last_number = 0
    _seen_number = 0
    _awaited_number = 0
    _in_view = False
    _timer: Timer | None = None
    _last_failure: Failure | None = None
    _holds_keys = False
    """Whether keys wait for something other than a look."""

    look: Callable[[], Any]
    """Reads a frozen snapshot of what the pane shows; runs in a thread. A method of each pane."""
    draw: Callable[[Any], None]
    """Draws a snapshot. A method of each pane."""

    def on_show_pane(self) -> None:
        self._in_view = True
        self.look_again()

    def on_hide_pane(self) -> None:
        self._in_view = False
        self._stop_timer()

    def look_again(self, *, awaited: bool = False) -> None:
        """Look now, superseding a look in progress. With `awaited`, keys wait until the result is drawn."""
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
            self.post_message(self.ActionsChanged())
        if message.failure is not None and message.failure != self._last_failure:
            self.notify(f"next: {message.failure.next_step}", title=message.failure.what, severity="error")
        if message.failure is not None or self._last_failure is not None:
            self.context.sightings.note(self.PANE_ID, message.failure, self.context.clock())
        self._last_failure = message.failure
        if message.number >= self._awaited_number and not self._holds_keys:
            self.drawn.set()
        if self._in_view:
            self._stop_timer()
            # Not `set_timer`: if its start is delayed longer than its interval, it never fires.
            self._timer = self.set_interval(self.POLL_S, self.look_again)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
