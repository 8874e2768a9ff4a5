"""Run user SQL in a separate process, with time and memory limits that DuckDB alone does not enforce.

DuckDB checks for interrupts and memory use only between two tasks, and one function call is one task: `levenshtein`
of two long texts runs for hours, `repeat` allocates gigabytes that no limit counts, and `json_structure` of a deeply
nested text crashes the process (measured, DuckDB 1.5.5). In a child process the kernel limits the memory, the query
can be killed, and the caller gets a typed error.
"""

import json
import resource
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from dataflows import errors
from dataflows.errors import QueryError, QueryTimeoutError, ReaderClosedError
from dataflows.serving.generation import Generation

if TYPE_CHECKING:
    import pyarrow as pa

FRAME = struct.Struct(">cQ")
"""Header of each message of an answer: its kind and its length in bytes."""
GENERATION, SCHEMA, ROWS, ERROR, END = b"G", b"S", b"R", b"E", b"Z"
GRACE_S = 2.0
"""Seconds between an interrupt and the kill."""
RECYCLE_BYTES = 256 << 20
"""A process with more resident memory is replaced; a fresh one takes 100 MiB."""
START_S = 60.0
"""Timeout for the child to open the served generation."""


@dataclass(frozen=True)
class SandboxAnswer:
    """The answer to one query, possibly still running, and the generation it reads."""

    generation: Generation
    read: "Callable[[], tuple[pa.Schema, Iterator[pa.RecordBatch]]]"
    """Wait for the first data; return the schema and an iterator over the batches. Call it once."""


@dataclass(eq=False, slots=True)
class _RunningQuery:
    """The state of one running query."""

    timeout_s: float
    is_late: bool = False
    is_over: bool = False


class _ProcessLostError(QueryError):
    """The child process exited during a query."""


class Sandbox:
    """Runs queries on the generation served at `serving_path`, one at a time; restarts a child that exited.

    `memory_bytes` is the memory limit of a query, and `niceness` lowers the child's priority. The child starts at once,
    so that it is ready for the first query, and ends with this process.
    """

    def __init__(self, serving_path: Path, *, memory_bytes: int, threads: int = 0, niceness: int = 0) -> None:
        self.serving_path, self.memory_bytes = serving_path, memory_bytes
        # -I: import nothing from the working directory.
        python = (sys.executable, "-I", "-X", "utf8", "-m", "dataflows.serving.sandbox_child")
        self._command = (*python, str(serving_path), str(memory_bytes), str(threads), str(niceness))
        self._busy = threading.Lock()  # held while a query runs
        self._lock = threading.Lock()  # guards what follows; held for moments
        self._running: _RunningQuery | None = None
        self._closed = False
        self._child = self._start_child()

    @contextmanager
    def answer(self, sql: str, *, timeout_s: float, within: Generation | None = None) -> Iterator[SandboxAnswer]:
        """Run one read-only statement on the newest generation, or on `within`, the generation of an earlier answer.

        Raises QueryRefusedError, QueryTimeoutError, QueryError, ServingMissingError or ServingBrokenError, also while
        the batches are read. Leaving the block cancels what has not been read.
        """
        with self._busy:
            order = {"sql": sql, "timeout_s": timeout_s, "within": within and within.sha256}
            query, pieces, sidecar = self._open_with_retry(order)
            try:
                generation = Generation.from_json(sidecar, self.serving_path)
                with self._kill_after(timeout_s + GRACE_S, query):
                    yield SandboxAnswer(generation, partial(self._read, query, pieces))
            finally:
                if not query.is_over:
                    self._kill_if_running(query)
                    self._child.wait()

    def interrupt(self) -> None:
        """Cancel the running query, if any. Callable from any thread; does not wait."""
        with self._lock:
            query = self._running
            if query is not None and not query.is_over:
                self._send({"interrupt": True})
                _start_timer(GRACE_S, self._kill_if_running, query)

    @property
    def needs_recycling(self) -> bool:
        """Whether earlier queries left so much memory allocated that a new child is needed; False outside Linux."""
        try:
            pages = int(Path(f"/proc/{self._child.pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            return False
        return pages * resource.getpagesize() > RECYCLE_BYTES

    def close(self) -> None:
        """Kill the child and its running query; idempotent."""
        with self._lock:
            self._closed = True
            self._kill_child()

    def _start_child(self) -> "subprocess.Popen[bytes]":
        # The child inherits no settings and no secrets.
        return subprocess.Popen(
            self._command, env={}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def _open_with_retry(self, order: dict[str, Any]) -> tuple[_RunningQuery, IO[bytes], bytes]:
        """Send a query and wait until the child has opened a generation for it.

        Leftovers of earlier queries may leave too little memory, so a child that exits here is replaced once.
        """
        try:
            return self._open(order)
        except _ProcessLostError:
            return self._open(order)

    def _open(self, order: dict[str, Any]) -> tuple[_RunningQuery, IO[bytes], bytes]:
        query, pieces = self._send_query(order)
        with self._kill_after(START_S, query):
            return query, pieces, self._next(query, pieces)

    def _send_query(self, order: dict[str, Any]) -> tuple[_RunningQuery, IO[bytes]]:
        with self._lock:
            if self._closed:
                raise ReaderClosedError(f"the sandbox of {self.serving_path} is closed")
            if self._child.poll() is not None:
                self._kill_child()
                self._child = self._start_child()
            self._running = _RunningQuery(order["timeout_s"])
            self._send(order)
            assert self._child.stdout is not None
            return self._running, self._child.stdout

    def _send(self, order: dict[str, Any]) -> None:
        """Write a request to the child. If the child has exited, reading its answer fails."""
        assert self._child.stdin is not None
        with suppress(OSError, ValueError):
            self._child.stdin.write(json.dumps(order).encode() + b"\n")
            self._child.stdin.flush()

    def _read(self, query: _RunningQuery, pieces: IO[bytes]) -> "tuple[pa.Schema, Iterator[pa.RecordBatch]]":
        import pyarrow as pa

        schema = pa.ipc.read_schema(pa.py_buffer(self._next(query, pieces)))
        rest = iter(partial(self._next, query, pieces), b"")
        return schema, (pa.ipc.open_stream(piece).read_next_batch() for piece in rest)

    def _next(self, query: _RunningQuery, pieces: IO[bytes]) -> bytes:
        """Return the next message of the answer, empty at its end; raise the error that the child reports."""
        try:
            head = pieces.read(FRAME.size)
            kind, size_bytes = FRAME.unpack(head)
            piece = pieces.read(size_bytes)
            if len(piece) < size_bytes:
                raise EOFError
        except (struct.error, EOFError, OSError, ValueError) as error:
            raise self._wait_and_explain(query) from error
        query.is_over = kind in (ERROR, END)
        if kind == ERROR:
            failure = json.loads(piece)
            raise getattr(errors, failure["kind"])(failure["text"])
        return piece

    def _wait_and_explain(self, query: _RunningQuery) -> errors.ServingError:
        """Wait for the child to exit and return the error that explains it."""
        query.is_over = True
        code = self._child.wait()
        if query.is_late:
            return QueryTimeoutError(f"the query was stopped after {query.timeout_s:g} s; narrow it")
        if self._closed:
            return ReaderClosedError(f"the sandbox of {self.serving_path} was closed")
        return _ProcessLostError(
            f"the query ended the process that ran it (exit code {code}), most likely out of memory or a text "
            "nested too deeply; simplify the query"
        )

    @contextmanager
    def _kill_after(self, within_s: float, query: _RunningQuery) -> Iterator[None]:
        timer = _start_timer(within_s, self._kill_if_running, query)
        try:
            yield
        finally:
            timer.cancel()

    def _kill_if_running(self, query: _RunningQuery) -> None:
        """Kill the child if it still runs that query."""
        with self._lock:
            if query is self._running and not query.is_over:
                query.is_late = True
                self._child.kill()

    def _kill_child(self) -> None:
        self._child.kill()
        self._child.wait()
        for pipe in filter(None, (self._child.stdin, self._child.stdout)):
            with suppress(OSError):
                pipe.close()


def _start_timer(after_s: float, work: Any, query: _RunningQuery) -> threading.Timer:
    timer = threading.Timer(min(after_s, threading.TIMEOUT_MAX), work, (query,))
    timer.daemon = True
    timer.start()
    return timer
