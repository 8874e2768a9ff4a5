"""Runs a user's SQL in a sandbox: on one generation, within limits, cancellable, with its rows spilled to disk."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dataflows.errors import DiskSpaceError, MateriaError, QueryError
from tui.query.spill import Spill
from tui.query.sql import View, wrap_in_view

if TYPE_CHECKING:
    from dataflows.serving import Generation
    from dataflows.serving.sandbox import Sandbox

MIB: Final = 1 << 20


@dataclass(frozen=True)
class QueryLimits:
    """The limits of one query; a query that exceeds one is stopped."""

    timeout_s: float = 60.0
    memory_bytes: int = 1024 * MIB
    spill_bytes: int = 4096 * MIB
    """Disk for the rows of a result."""


class Pin:
    """Holds a sandbox for one result, so that sorting and filtering use its generation even after a swap."""

    def __init__(self, sandbox: "Sandbox", return_sandbox: "Callable[[Sandbox], None]") -> None:
        self.sandbox = sandbox
        self.generation: Generation | None = None
        self.served: tuple[int, ...] | None = None
        """The identity of the served file at the first query; None before that."""
        self._return_sandbox = return_sandbox
        self._lock = threading.Lock()
        self._users = 1

    def keep(self) -> "Pin":
        """Add a reference; every `keep` needs its own `close`."""
        with self._lock:
            self._users += 1
        return self

    def close(self) -> None:
        """Drop a reference; the last one returns the sandbox."""
        with self._lock:
            self._users -= 1
            last = self._users == 0
        if last:
            self._return_sandbox(self.sandbox)


class QueryRun:
    """One query and its rows: created and observed by the screen, executed by one worker thread.

    `spill` is set once the columns are known; from then on rows can be read. `error` is the reason why a run ended
    early; its rows stay readable.
    """

    def __init__(
        self,
        sql: str,
        view: View,
        limits: QueryLimits,
        directory: Path,
        pin: Pin | None = None,
        served: tuple[int, ...] | None = None,
    ) -> None:
        """Create a run on the generation of `pin`, else on the newest, whose identity is `served`."""
        self.sql, self.view, self.limits = sql, view, limits
        self.spill: Spill | None = None
        self.error: MateriaError | None = None
        self.finished = False
        self.cancelled = False
        self.started_at = time.monotonic()
        self.ended_at: float | None = None
        self._directory = directory
        self.pin = pin.keep() if pin else None
        self.is_pinned = pin is not None
        """Whether it runs on the generation of an earlier result."""
        self.served = pin.served if pin else served
        self._lock = threading.Lock()
        self._sandbox: Sandbox | None = None
        self._closed = False

    @property
    def generation(self) -> "Generation | None":
        """The generation of the result; None until it is known."""
        return self.pin.generation if self.pin else None

    @property
    def row_count(self) -> int:
        return self.spill.row_count if self.spill else 0

    @property
    def elapsed_s(self) -> float:
        return (self.ended_at or time.monotonic()) - self.started_at

    def execute(self, take_pin: "Callable[[], Pin]") -> None:
        """Run to the end or to the first limit. Blocks; stores an exception in `error` instead of raising it."""
        try:
            text = wrap_in_view(self.sql, self.view)
            if not self.cancelled:
                self.pin = self.pin or take_pin()
                self.pin.served = self.served
                self._stream(text, self.pin)
        except MateriaError as error:
            self.error = None if self.cancelled else error
        except MemoryError:
            self.error = QueryError("out of memory; narrow the query")
        except OSError as error:
            self.error = DiskSpaceError(f"cannot store the rows in {self._directory}: {error}")
        finally:
            self.ended_at = time.monotonic()
            self.finished = True
            self._close_when_unused()

    def cancel(self) -> None:
        """Cancel the query; rows received so far are kept. Returns at once; callable from any thread."""
        with self._lock:
            self.cancelled = self.cancelled or not self.finished
            if self._sandbox:
                self._sandbox.interrupt()

    def close(self) -> None:
        """Cancel the query, and release its disk and generation once its thread has ended; idempotent.

        Returns at once, because releasing a generation frees its memory, which would block the screen.
        """
        self.cancel()
        with self._lock:
            self._closed = True
        threading.Thread(target=self._close_when_unused, name="query-close").start()

    def _close_when_unused(self) -> None:
        with self._lock:
            if not (self._closed and self.finished):
                return
            spill, pin = self.spill, self.pin
            self.spill = self.pin = None
        if spill:
            spill.close()
        if pin:
            pin.close()

    def _stream(self, text: str, pin: Pin) -> None:
        with pin.sandbox.answer(text, timeout_s=self.limits.timeout_s, within=pin.generation) as answer:
            pin.generation = answer.generation
            with self._lock:
                self._sandbox = pin.sandbox
                if self.cancelled:
                    pin.sandbox.interrupt()  # and still read the answer: else its generation is lost
            try:
                schema, batches = answer.read()
                self.spill = Spill(self._directory, schema, self.limits.spill_bytes)
                for batch in batches:
                    self.spill.append(batch)
            finally:
                with self._lock:
                    self._sandbox = None
