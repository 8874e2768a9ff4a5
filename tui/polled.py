"""A pane that looks at the world again and again while it is in view, off the event loop."""

from dataclasses import dataclass
from typing import Any

from textual import on
from textual.message import Message
from textual.timer import Timer
from textual.worker import get_current_worker

from tui.pane import Pane
from tui.panel import Failure, attempt


class PolledPane(Pane):
    """Calls `look` in a thread, `draw` with what it returned, and looks again `POLL_S` after that.

    `look` must not touch a widget. It may return None for "nothing has changed". What it raises is told in a
    message, once, and the pane stays as it is: no screen takes the others with it.
    """

    POLL_S = 2.0
    LATE_LOOKS_COUNT = True
    """Whether a look that was overtaken is drawn all the same; it must be where a look remembers what it has seen."""

    @dataclass
    class Seen(Message):
        """What a look has found, or why it found nothing."""

        snapshot: Any
        trouble: Failure | None = None

    _in_view = False
    _timer: Timer | None = None
    _told: Failure | None = None

    def look(self) -> Any:
        """Take a frozen snapshot of what the pane shows; runs in a thread."""
        raise NotImplementedError

    def draw(self, snapshot: Any) -> None:
        """Draw a snapshot."""
        raise NotImplementedError

    def on_show_pane(self) -> None:
        self._in_view = True
        self.look_again()

    def on_hide_pane(self) -> None:
        self._in_view = False
        self._stop_timer()

    def look_again(self) -> None:
        """Look now; a look that is under way is overtaken."""
        self._stop_timer()
        self.run_worker(self._look, thread=True, exclusive=True, group="look", exit_on_error=True)

    def _look(self) -> None:
        found = attempt(self.look)
        if get_current_worker().is_cancelled and not self.LATE_LOOKS_COUNT:
            return
        self.post_message(self.Seen(None, found) if isinstance(found, Failure) else self.Seen(found.value))

    @on(Seen)
    def _on_seen(self, message: Seen) -> None:
        message.stop()
        if message.snapshot is not None:
            self.draw(message.snapshot)
        if message.trouble is not None and message.trouble != self._told:
            self.notify(f"next: {message.trouble.next_step}", title=message.trouble.what, severity="error")
        self._told = message.trouble
        self.drawn.set()
        if self._in_view:
            self._stop_timer()
            self._timer = self.set_timer(self.POLL_S, self.look_again)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
