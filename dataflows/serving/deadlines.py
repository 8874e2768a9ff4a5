"""Interrupt queries at their deadline: one watcher thread for all queries of a reader."""

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_REPEAT_S = 0.05
"""An interrupt just before the query starts is lost, so it is repeated until the query ends."""
_IDLE_S = 1.0
"""The watching thread ends this long after the last deadline, when no query runs; the next query starts another."""


@dataclass(eq=False, slots=True)
class Deadline:
    """One guarded query: when it must end, and whether it had to be interrupted."""

    cursor: "DuckDBPyConnection"
    at: float
    passed: bool = False


class Deadlines:
    """The deadlines of the queries running now."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running: set[Deadline] = set()
        self._wakes_at = float("inf")
        self._watching = False

    def start(self, cursor: "DuckDBPyConnection", timeout_s: float) -> Deadline:
        """Interrupt `cursor` in `timeout_s`, and again until `stop`; never after it."""
        deadline = Deadline(cursor, time.monotonic() + timeout_s)
        with self._changed:
            self._running.add(deadline)
            if not self._watching:
                self._watching = True
                threading.Thread(target=self._watch, name="serving-deadlines", daemon=True).start()
            elif deadline.at < self._wakes_at:
                self._changed.notify()
        return deadline

    def advance(self, deadline: Deadline) -> None:
        """Interrupt its query now, and again until `stop`."""
        with self._changed:
            deadline.at = time.monotonic()
            self._changed.notify()

    def stop(self, deadline: Deadline) -> None:
        """Unregister a query that has ended."""
        with self._changed:
            self._running.discard(deadline)

    def _watch(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                for deadline in self._running:
                    if deadline.at <= now:
                        deadline.passed = True
                        deadline.cursor.interrupt()
                self._wakes_at = min(
                    (max(deadline.at, now + _REPEAT_S) for deadline in self._running), default=now + _IDLE_S
                )
                notified = self._changed.wait(self._wakes_at - now)
                if not notified and not self._running:
                    break
            self._watching = False
