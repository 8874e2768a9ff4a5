"""Interrupt queries at their deadline: one watcher thread for all queries of a reader."""

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_REPEAT_S = 0.05
"""An interrupt just before the query starts is lost, so it is repeated until the query ends."""


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
        self._closed = False

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

    def close(self) -> None:
        """End the watching thread once the last guarded query has ended; idempotent."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while self._running or not self._closed:
                now = time.monotonic()
                for deadline in self._running:
                    if deadline.at <= now:
                        deadline.passed = True
                        deadline.cursor.interrupt()
                self._wakes_at = min(
                    (max(deadline.at, now + _REPEAT_S) for deadline in self._running), default=float("inf")
                )
                if self._closed:
                    self._wakes_at = min(self._wakes_at, now + _REPEAT_S)
                self._changed.wait(None if self._wakes_at == float("inf") else self._wakes_at - now)
            self._watching = False
