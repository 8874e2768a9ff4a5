"""The child process of a sandbox: `python -m dataflows.serving.sandbox_child PATH MEMORY_BYTES THREADS NICENESS`.

It reads orders as JSON lines and writes answers as framed messages (`sandbox.FRAME`). It exits when stdin closes.
"""

import json
import os
import queue
import resource
import sys
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataflows.errors import QueryError, QueryTimeoutError, ServingBrokenError, ServingError
from dataflows.serving.deadlines import Deadline, Deadlines
from dataflows.serving.generation import Generation
from dataflows.serving.reader import ServingReader, query_error
from dataflows.serving.sandbox import END, ERROR, FRAME, GENERATION, ROWS, SCHEMA

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

BATCH_ROWS = 2048
MAX_PIECE_BYTES = 64 << 20
"""Size limit of one message, so that the reader needs little memory."""
_MIB = 1 << 20
_UNCOUNTED_BYTES = 512 * _MIB
"""Memory of DuckDB and Arrow that DuckDB does not count."""


class QueryRunner:
    """Runs one query after another; keeps the last generation open."""

    def __init__(self, serving_path: Path, memory_bytes: int, threads: int, answers_fd: int) -> None:
        self._reader = ServingReader(serving_path, memory_limit_bytes=memory_bytes, threads=threads or None)
        self._memory_bytes = memory_bytes
        self._answers_fd = answers_fd
        self._deadlines = Deadlines()
        self._deadline: Deadline | None = None
        self._is_stopped = False
        self._open_generation = ExitStack()
        self._cursor: DuckDBPyConnection | None = None
        self._generation: Generation | None = None

    def interrupt(self) -> None:
        """Cancel the running query, even before DuckDB starts it. Called from another thread."""
        self._is_stopped = True
        if (deadline := self._deadline) is not None:
            self._deadlines.advance(deadline)

    def answer(self, order: dict[str, Any]) -> None:
        """Run one query and write its whole answer."""
        self._is_stopped = False
        try:
            cursor, generation = self._generation_of(order["within"])
            self._write(GENERATION, generation.to_json().encode())
            self._reader.check(order["sql"])
            self._stream(cursor, order["sql"], order["timeout_s"])
            self._write(END)
        except ServingError as error:
            if isinstance(error, ServingBrokenError):
                self._close_generation(error)
            self._write(ERROR, json.dumps({"kind": type(error).__name__, "text": str(error)}).encode())

    def _generation_of(self, sha256: str | None) -> "tuple[DuckDBPyConnection, Generation]":
        """Open the newest generation, or return the open one when it has this `sha256`."""
        if self._cursor is not None and self._generation is not None and sha256 == self._generation.sha256:
            return self._cursor, self._generation
        self._close_generation()
        self._cursor, self._generation = self._open_generation.enter_context(self._reader.cursor())
        if sha256 is not None and sha256 != self._generation.sha256:
            raise QueryError("the generation that answered before is no longer served; run the query again")
        return self._cursor, self._generation

    def _close_generation(self, error: ServingBrokenError | None = None) -> None:
        """Close what is open; after an `error` of the file the next query opens it again."""
        self._cursor = self._generation = None
        with suppress(ServingBrokenError), self._open_generation.pop_all():
            if error:
                raise error

    def _stream(self, cursor: "DuckDBPyConnection", sql: str, timeout_s: float) -> None:
        import duckdb

        deadline = self._deadline = self._deadlines.start(cursor, timeout_s)
        if self._is_stopped:
            self._deadlines.advance(deadline)
        try:
            batches = cursor.execute(sql).to_arrow_reader(BATCH_ROWS)
            self._write(SCHEMA, batches.schema.serialize().to_pybytes())
            for batch in batches:
                self._write_rows(batch)
        except duckdb.InterruptException as error:
            raise self._stop_error(timeout_s) from error
        except (duckdb.OutOfMemoryException, MemoryError) as error:
            raise QueryError(
                f"the query needs more than its {self._memory_bytes // _MIB} MiB of memory; "
                f"narrow it, or raise the limit ({_first_line(error)})"
            ) from error
        except duckdb.Error as error:
            raise query_error(error, self._reader.serving_path) from error
        except OSError as error:  # Arrow wraps DuckDB errors in the middle of a stream
            if "INTERRUPT" in str(error):
                raise self._stop_error(timeout_s) from error
            raise QueryError(_first_line(error)) from error
        finally:
            self._deadline = None
            self._deadlines.stop(deadline)

    def _stop_error(self, timeout_s: float) -> QueryError:
        if self._is_stopped:
            return QueryError("the query was stopped")
        return QueryTimeoutError(f"the query was stopped after {timeout_s:g} s; narrow it, or raise the limit")

    def _write_rows(self, batch: "pa.RecordBatch") -> None:
        import pyarrow as pa

        if batch.nbytes > MAX_PIECE_BYTES:
            if batch.num_rows == 1:
                raise QueryError(f"a row has more than {MAX_PIECE_BYTES // _MIB} MiB; select less of it")
            half = batch.num_rows // 2
            self._write_rows(batch.slice(0, half))
            self._write_rows(batch.slice(half))
        elif batch.num_rows:
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, batch.schema) as writer:
                writer.write_batch(batch)
            self._write(ROWS, sink.getvalue())

    def _write(self, kind: bytes, piece: Any = b"") -> None:
        view = memoryview(piece)
        for data in (memoryview(FRAME.pack(kind, view.nbytes)), view):
            while data.nbytes:
                data = data[os.write(self._answers_fd, data) :]


def main(arguments: list[str]) -> None:
    """Run queries until standard input ends."""
    serving_path, memory_bytes, threads = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    os.nice(int(arguments[3]))
    answers_fd = os.dup(1)
    os.dup2(2, 1)  # output of libraries must not mix with the answer
    import duckdb  # noqa: F401 (before the limit is set, so that imports do not count)
    import pyarrow  # noqa: F401

    _limit_memory(memory_bytes)
    runner = QueryRunner(serving_path, memory_bytes, threads, answers_fd)
    orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_read_orders, args=(runner, orders), daemon=True).start()
    while True:
        runner.answer(orders.get())


def _read_orders(runner: QueryRunner, orders: "queue.SimpleQueue[dict[str, Any]]") -> None:
    for line in sys.stdin.buffer:
        order = json.loads(line)
        if order.get("interrupt"):
            runner.interrupt()
        else:
            orders.put(order)
    os._exit(0)  # the parent has exited; do not wait for the query


def _limit_memory(memory_bytes: int) -> None:
    """Set kernel limits: memory including what DuckDB does not count, and no core dump of the data."""
    taken_bytes = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    limit = taken_bytes + memory_bytes + _UNCOUNTED_BYTES
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


if __name__ == "__main__":
    main(sys.argv[1:])
