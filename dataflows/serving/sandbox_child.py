"""The process of a cell: `python -m dataflows.serving.sandbox_child SERVING_PATH MEMORY_BYTES THREADS`.

It reads orders, a JSON line each, and writes answers in pieces (`cell.FRAME`). It ends when nobody is left to ask.
"""

import json
import os
import queue
import resource
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataflows.errors import QueryError, QueryRefusedError, QueryTimeoutError, ServingBrokenError, ServingError
from dataflows.serving.deadlines import Deadline, Deadlines
from dataflows.serving.generation import Generation
from dataflows.serving.reader import ServingReader
from dataflows.serving.sandbox import END, ERROR, FRAME, GENERATION, ROWS, SCHEMA

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

BATCH_ROWS = 2048
MAX_PIECE_BYTES = 64 << 20
"""No piece of an answer is larger, so that whoever reads it needs little memory."""
_MIB = 1 << 20
_UNCOUNTED_BYTES = 512 * _MIB
"""What DuckDB and Arrow need beside what DuckDB counts."""


class Answerer:
    """Answers one query after another; holds the generation that answered last."""

    def __init__(self, serving_path: Path, memory_bytes: int, threads: int, answers_fd: int) -> None:
        self._reader = ServingReader(serving_path, memory_limit_bytes=memory_bytes, threads=threads or None)
        self._memory_bytes = memory_bytes
        self._answers_fd = answers_fd
        self._deadlines = Deadlines()
        self._deadline: Deadline | None = None
        self._is_stopped = False
        self._held = ExitStack()
        self._cursor: DuckDBPyConnection | None = None
        self._generation: Generation | None = None

    def interrupt(self) -> None:
        """Stop the query that is being answered, even if DuckDB has yet to begin it; from another thread."""
        self._is_stopped = True
        if (deadline := self._deadline) is not None:
            self._deadlines.advance(deadline)

    def answer(self, order: dict[str, Any]) -> None:
        """Run one query and write its answer to the end."""
        self._is_stopped = False
        try:
            cursor, generation = self._generation_of(order["within"])
            self._write(GENERATION, generation.to_json().encode())
            self._reader.check(order["sql"])
            self._stream(cursor, order["sql"], order["timeout_s"])
            self._write(END)
        except ServingError as error:
            self._write(ERROR, json.dumps({"kind": type(error).__name__, "text": str(error)}).encode())

    def _generation_of(self, sha256: str | None) -> "tuple[DuckDBPyConnection, Generation]":
        """The newest generation; with `sha256` that very one, which was asked before."""
        if self._cursor is not None and self._generation is not None and sha256 == self._generation.sha256:
            return self._cursor, self._generation
        self._held.close()
        self._cursor, self._generation = self._held.enter_context(self._reader.cursor())
        if sha256 is not None and sha256 != self._generation.sha256:
            raise QueryError("the generation that answered before is no longer served; run the query again")
        return self._cursor, self._generation

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
            raise self._stopped(timeout_s) from error
        except duckdb.PermissionException as error:
            raise QueryRefusedError(str(error)) from error
        except (duckdb.OutOfMemoryException, MemoryError) as error:
            raise QueryError(
                f"the query needs more than its {self._memory_bytes // _MIB} MiB of memory; "
                f"narrow it, or raise the limit ({_first_line(error)})"
            ) from error
        except (duckdb.IOException, duckdb.FatalException, duckdb.InternalException) as error:
            raise ServingBrokenError(f"{self._reader.serving_path} cannot be read: {error}") from error
        except duckdb.Error as error:
            raise QueryError(str(error)) from error
        except OSError as error:  # how Arrow reports what DuckDB says in mid-stream
            if "INTERRUPT" in str(error):
                raise self._stopped(timeout_s) from error
            raise QueryError(_first_line(error)) from error
        finally:
            self._deadline = None
            self._deadlines.stop(deadline)

    def _stopped(self, timeout_s: float) -> QueryError:
        if self._is_stopped:
            return QueryError("the query was stopped")
        return QueryTimeoutError(f"the query was stopped after {timeout_s:g} s; narrow it, or raise the limit")

    def _write_rows(self, batch: "pa.RecordBatch") -> None:
        import pyarrow as pa

        if batch.nbytes > MAX_PIECE_BYTES:
            if batch.num_rows == 1:
                raise QueryError(f"a row has more than {MAX_PIECE_BYTES // _MIB} MiB; ask for less of it")
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
    """Answer until standard input ends."""
    serving_path, memory_bytes, threads = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    answers_fd = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints is no answer
    import duckdb  # noqa: F401 (before the bound: what it takes is not the query's)
    import pyarrow  # noqa: F401

    _bound(memory_bytes)
    answerer = Answerer(serving_path, memory_bytes, threads, answers_fd)
    orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(answerer, orders), daemon=True).start()
    while True:
        answerer.answer(orders.get())


def _listen(answerer: Answerer, orders: "queue.SimpleQueue[dict[str, Any]]") -> None:
    for line in sys.stdin.buffer:
        order = json.loads(line)
        if order.get("interrupt"):
            answerer.interrupt()
        else:
            orders.put(order)
    os._exit(0)  # whatever the query is in: nobody is left to hear its answer


def _bound(memory_bytes: int) -> None:
    """Have the kernel refuse what DuckDB does not count; no core dump of the data when it ends the process."""
    taken_bytes = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    limit = taken_bytes + memory_bytes + _UNCOUNTED_BYTES
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


if __name__ == "__main__":
    main(sys.argv[1:])
