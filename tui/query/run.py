"""Running a person's SQL: jailed, on one generation, within limits, stoppable, its rows spilled to disk."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dataflows.errors import DiskSpaceError, MateriaError, QueryError
from tui.query.spill import Spill
from tui.query.sql import View, shaped

if TYPE_CHECKING:
    from dataflows.serving import Generation
    from dataflows.serving.sandbox import Cell

MIB: Final = 1 << 20


@dataclass(frozen=True)
class QueryLimits:
    """What one query may take; beyond it, it is stopped."""

    timeout_s: float = 60.0
    memory_bytes: int = 1024 * MIB
    spill_bytes: int = 4096 * MIB
    """Disk for the rows of a result."""


class Pin:
    """A cell held for one result, so that it can be sorted and filtered within its generation after a swap."""

    def __init__(self, cell: "Cell", give_back: "Callable[[Cell], None]") -> None:
        self.cell = cell
        self.generation: Generation | None = None
        self.served: tuple[int, ...] | None = None
        """What was served when it was first asked; None before that."""
        self._give_back = give_back
        self._lock = threading.Lock()
        self._users = 1

    def keep(self) -> "Pin":
        """Hold it once more; every `keep` wants its own `close`."""
        with self._lock:
            self._users += 1
        return self

    def close(self) -> None:
        """Let go once; the last one gives the cell back."""
        with self._lock:
            self._users -= 1
            last = self._users == 0
        if last:
            self._give_back(self.cell)


class QueryRun:
    """One query and its rows: made and watched by the screen, executed by one worker thread.

    `spill` is set once the query has columns; its rows can be read from then on. `error` says why a run ended
    early: the rows it had by then stay readable.
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
        """`sql` seen through `view`, on the generation of `pin`, or on the newest, `served` now, when there is none."""
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
        """Whether it was asked of a generation that answered before."""
        self.served = pin.served if pin else served
        self._lock = threading.Lock()
        self._cell: Cell | None = None
        self._closed = False

    @property
    def generation(self) -> "Generation | None":
        """The generation that answers; None before it is known."""
        return self.pin.generation if self.pin else None

    @property
    def row_count(self) -> int:
        return self.spill.row_count if self.spill else 0

    @property
    def elapsed_s(self) -> float:
        return (self.ended_at or time.monotonic()) - self.started_at

    def execute(self, take_pin: "Callable[[], Pin]") -> None:
        """Run to the end, or to the first limit; raises nothing, `error` says what went wrong. Blocks."""
        try:
            text = shaped(self.sql, self.view)
            if not self.cancelled:
                self.pin = self.pin or take_pin()
                self.pin.served = self.served
                self._stream(text, self.pin)
        except MateriaError as error:
            self.error = None if self.cancelled else error
        except MemoryError:
            self.error = QueryError("the machine has no memory left for this query; narrow it")
        except OSError as error:
            self.error = DiskSpaceError(f"the rows could not be kept in {self._directory}: {error}")
        finally:
            self.ended_at = time.monotonic()
            self.finished = True
            self._close_when_unused()

    def cancel(self) -> None:
        """Stop it: what has arrived stays. Returns at once, from any thread."""
        with self._lock:
            self.cancelled = self.cancelled or not self.finished
            if self._cell:
                self._cell.interrupt()

    def close(self) -> None:
        """Stop it and give back its disk and its generation, when its thread has ended; idempotent.

        Returns at once: closing a generation frees all its memory, which would hold up the screen.
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
        with pin.cell.answer(text, timeout_s=self.limits.timeout_s, within=pin.generation) as answer:
            pin.generation = answer.generation
            with self._lock:
                self._cell = pin.cell
                if self.cancelled:
                    pin.cell.interrupt()  # and hear it out: a cell that is left halfway loses its generation
            try:
                schema, batches = answer.read()
                self.spill = Spill(self._directory, schema, self.limits.spill_bytes)
                for batch in batches:
                    self.spill.append(batch)
            finally:
                with self._lock:
                    self._cell = None
