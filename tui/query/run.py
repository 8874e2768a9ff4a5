"""Running a person's SQL: jailed, on one generation, within limits, stoppable, its rows spilled to disk."""

import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dataflows.errors import DiskSpaceError, MateriaError, QueryError, QueryRefusedError
from tui.query.spill import BATCH_ROWS, Spill
from tui.query.sql import View, shaped

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from dataflows.serving import Generation, ServingReader
    from dataflows.serving.deadlines import Deadlines

MIB: Final = 1 << 20


@dataclass(frozen=True)
class QueryLimits:
    """What one query may take; beyond it, it is stopped."""

    timeout_s: float = 60.0
    memory_bytes: int = 1024 * MIB
    spill_bytes: int = 4096 * MIB
    """Disk for the rows of a result."""


class Pin:
    """One generation held open, so that a result can be sorted and filtered within it after a swap."""

    def __init__(self, reader: "ServingReader") -> None:
        """Holds the newest generation; raises ServingError when there is none."""
        self._stack = ExitStack()
        self._root, self.generation = self._stack.enter_context(reader.cursor())
        self._lock = threading.Lock()
        self._users = 1

    def cursor(self) -> "DuckDBPyConnection":
        """A cursor of its own on this generation; the caller closes it."""
        from dataflows.serving.database import new_cursor

        return new_cursor(self._root)

    def keep(self) -> "Pin":
        """Hold it once more; every `keep` wants its own `close`."""
        with self._lock:
            self._users += 1
        return self

    def close(self) -> None:
        """Let go once; the last one lets the reader close the generation."""
        with self._lock:
            self._users -= 1
            last = self._users == 0
        if last:
            self._stack.close()


class QueryRun:
    """One query and its rows: made and watched by the screen, executed by one worker thread.

    `spill` is set once the query has columns; its rows can be read from then on. `error` says why a run ended
    early: the rows it had by then stay readable.
    """

    def __init__(self, sql: str, view: View, limits: QueryLimits, directory: Path, pin: Pin | None = None) -> None:
        """`sql` seen through `view`, on the generation of `pin`, or on the newest when there is none."""
        self.sql, self.view, self.limits = sql, view, limits
        self.spill: Spill | None = None
        self.error: MateriaError | None = None
        self.finished = False
        self.cancelled = False
        self.started_at = time.monotonic()
        self.ended_at: float | None = None
        self._directory = directory
        self.pin = pin.keep() if pin else None
        self._lock = threading.Lock()
        self._cursor: DuckDBPyConnection | None = None
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

    def execute(self, reader: "ServingReader", deadlines: "Deadlines") -> None:
        """Run to the end, or to the first limit; raises nothing, `error` says what went wrong. Blocks."""
        try:
            text = shaped(self.sql, self.view)
            if self.pin is None:
                self.pin = Pin(reader)
            reader.check(text)
            self._stream(text, deadlines)
        except MateriaError as error:
            self.error = error
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
            self.cancelled = True
            if self._cursor:
                self._cursor.interrupt()

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

    def _stream(self, text: str, deadlines: "Deadlines") -> None:
        import duckdb

        cursor = self.pin.cursor()  # type: ignore[union-attr]
        with self._lock:
            self._cursor = cursor
        deadline = deadlines.start(cursor, self.limits.timeout_s)
        try:
            if not self.cancelled:
                self._spill(cursor.execute(text).to_arrow_reader(BATCH_ROWS))
        except duckdb.InterruptException:
            if not self.cancelled:
                self.error = self._timed_out()
        except duckdb.PermissionException as error:
            self.error = QueryRefusedError(str(error))
        except duckdb.OutOfMemoryException as error:
            self.error = QueryError(
                f"the query needs more than its {self.limits.memory_bytes // MIB} MiB of memory; "
                f"narrow it, or raise the limit ({_first_line(error)})"
            )
        except duckdb.Error as error:
            self.error = QueryError(str(error))
        except OSError as error:  # how Arrow reports what DuckDB says in mid-stream
            if "INTERRUPT" not in str(error):
                self.error = QueryError(_first_line(error))
            elif not self.cancelled:
                self.error = self._timed_out()
        finally:
            deadlines.stop(deadline)
            with self._lock:
                self._cursor = None
                cursor.interrupt()  # a stream that was left halfway; close() would wait for all of it
            cursor.close()

    def _spill(self, batches: "pa.RecordBatchReader") -> None:
        spill = self.spill = Spill(self._directory, batches.schema, self.limits.spill_bytes)
        try:
            for batch in batches:
                if batch.num_rows:
                    spill.append(batch)
                if self.cancelled:
                    break
        finally:
            batches.close()  # frees a sorted result without Python's lock; forgetting it would hold that

    def _timed_out(self) -> QueryError:
        return QueryError(f"the query was stopped after {self.limits.timeout_s:g} s; narrow it, or raise the limit")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
