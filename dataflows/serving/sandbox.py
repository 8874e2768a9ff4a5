"""A cell: a process of its own that runs what a person typed, within bounds that DuckDB alone does not keep.

A query can be stopped, and its memory counted, only between two pieces of DuckDB's work, and one call of a function
is one piece: `levenshtein` of two long texts runs for hours, `repeat` takes gigabytes that no limit counts, and
`json_structure` of a deeply nested text ends the process (measured, DuckDB 1.5.5). So such a query runs where the
kernel bounds its memory and where it can be killed, and whoever asked gets a typed error.
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
"""What comes before each piece of an answer: its kind, and its length in bytes."""
GENERATION, SCHEMA, ROWS, ERROR, END = b"G", b"S", b"R", b"E", b"Z"
GRACE_S = 2.0
"""A query that was asked to stop is killed so much later."""
WORN_BYTES = 256 << 20
"""A process with so much resident memory is worn; a fresh one takes 100 MiB."""
START_S = 60.0
"""The longest that a process may take to open what is served."""


@dataclass(frozen=True)
class CellAnswer:
    """The answer to one query, which may not be there yet, and the generation that it comes from."""

    generation: Generation
    read: "Callable[[], tuple[pa.Schema, Iterator[pa.RecordBatch]]]"
    """Waits for the answer to begin: its columns, and its rows as they come. To be called once."""


@dataclass(eq=False, slots=True)
class _Asked:
    """One query that is under way."""

    timeout_s: float
    is_late: bool = False
    is_over: bool = False


class _ProcessLostError(QueryError):
    """The process ended of itself."""


class Cell:
    """Runs queries on what is served at `serving_path`, one at a time; the next query replaces a process that was lost.

    `memory_bytes` is what a query may take. The process begins at once, so that it is ready when it is needed, and
    it ends with this one.
    """

    def __init__(self, serving_path: Path, *, memory_bytes: int, threads: int = 0) -> None:
        self.serving_path, self.memory_bytes = serving_path, memory_bytes
        # Nothing is imported from where we happen to be.
        python = (sys.executable, "-I", "-X", "utf8", "-m", "dataflows.serving.sandbox_child")
        self._command = (*python, str(serving_path), str(memory_bytes), str(threads))
        self._busy = threading.Lock()  # held while a query runs
        self._lock = threading.Lock()  # guards what follows; held for moments
        self._asked: _Asked | None = None
        self._closed = False
        self._child = self._begun()

    @contextmanager
    def answer(self, sql: str, *, timeout_s: float, within: Generation | None = None) -> Iterator[CellAnswer]:
        """Run one statement that only reads, on the newest generation or on `within`, which answered before.

        Raises QueryRefusedError, QueryTimeoutError, QueryError, ServingMissingError or ServingBrokenError, also while
        the batches are read. What has not been read when the block ends is given up.
        """
        with self._busy:
            order = {"sql": sql, "timeout_s": timeout_s, "within": within and within.sha256}
            asked, pieces, told = self._opened(order)
            try:
                generation = Generation.from_json(told, self.serving_path)
                with self._ended_after(timeout_s + GRACE_S, asked):
                    yield CellAnswer(generation, partial(self._read, asked, pieces))
            finally:
                if not asked.is_over:
                    self._end(asked)
                    self._child.wait()

    def interrupt(self) -> None:
        """Stop the query that runs, if any; from any thread, returns at once."""
        with self._lock:
            asked = self._asked
            if asked is not None and not asked.is_over:
                self._tell({"interrupt": True})
                _later(GRACE_S, self._end, asked)

    @property
    def is_worn(self) -> bool:
        """Whether earlier queries left so much memory taken that a new process serves better; False off Linux."""
        try:
            pages = int(Path(f"/proc/{self._child.pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            return False
        return pages * resource.getpagesize() > WORN_BYTES

    def close(self) -> None:
        """End the process, and with it the query that runs; idempotent."""
        with self._lock:
            self._closed = True
            self._reap()

    def _begun(self) -> "subprocess.Popen[bytes]":
        # No setting and no secret is inherited.
        return subprocess.Popen(
            self._command, env={}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def _opened(self, order: dict[str, Any]) -> tuple[_Asked, IO[bytes], bytes]:
        """The query, and the generation that its process has opened for it.

        What earlier queries left may leave too little memory for that, so a process that is lost here is replaced once.
        """
        try:
            return self._asked_and_opened(order)
        except _ProcessLostError:
            return self._asked_and_opened(order)

    def _asked_and_opened(self, order: dict[str, Any]) -> tuple[_Asked, IO[bytes], bytes]:
        asked, pieces = self._ask(order)
        with self._ended_after(START_S, asked):
            return asked, pieces, self._next(asked, pieces)

    def _ask(self, order: dict[str, Any]) -> tuple[_Asked, IO[bytes]]:
        with self._lock:
            if self._closed:
                raise ReaderClosedError(f"the cell of {self.serving_path} is closed")
            if self._child.poll() is not None:
                self._reap()
                self._child = self._begun()
            self._asked = _Asked(order["timeout_s"])
            self._tell(order)
            assert self._child.stdout is not None
            return self._asked, self._child.stdout

    def _tell(self, order: dict[str, Any]) -> None:
        """Say something to the process; one that is gone is noticed when its answer is read."""
        assert self._child.stdin is not None
        with suppress(OSError, ValueError):
            self._child.stdin.write(json.dumps(order).encode() + b"\n")
            self._child.stdin.flush()

    def _read(self, asked: _Asked, pieces: IO[bytes]) -> "tuple[pa.Schema, Iterator[pa.RecordBatch]]":
        import pyarrow as pa

        schema = pa.ipc.read_schema(pa.py_buffer(self._next(asked, pieces)))
        rest = iter(partial(self._next, asked, pieces), b"")
        return schema, (pa.ipc.open_stream(piece).read_next_batch() for piece in rest)

    def _next(self, asked: _Asked, pieces: IO[bytes]) -> bytes:
        """The next piece of the answer, empty at its end; raises the error that it ended in."""
        try:
            head = pieces.read(FRAME.size)
            kind, size_bytes = FRAME.unpack(head)
            piece = pieces.read(size_bytes)
            if len(piece) < size_bytes:
                raise EOFError
        except (struct.error, EOFError, OSError, ValueError) as error:
            raise self._lost(asked) from error
        asked.is_over = kind in (ERROR, END)
        if kind == ERROR:
            told = json.loads(piece)
            raise getattr(errors, told["kind"])(told["text"])
        return piece

    def _lost(self, asked: _Asked) -> errors.ServingError:
        """Why the process is gone; it is, when this returns."""
        asked.is_over = True
        code = self._child.wait()
        if asked.is_late:
            return QueryTimeoutError(f"the query was stopped after {asked.timeout_s:g} s; narrow it")
        if self._closed:
            return ReaderClosedError(f"the cell of {self.serving_path} was closed")
        return _ProcessLostError(
            f"the query ended the process that ran it (exit code {code}), most likely for want of memory or by a "
            "text nested too deeply; write it more simply"
        )

    @contextmanager
    def _ended_after(self, within_s: float, asked: _Asked) -> Iterator[None]:
        timer = _later(within_s, self._end, asked)
        try:
            yield
        finally:
            timer.cancel()

    def _end(self, asked: _Asked) -> None:
        """Kill the process if that query still runs in it."""
        with self._lock:
            if asked is self._asked and not asked.is_over:
                asked.is_late = True
                self._child.kill()

    def _reap(self) -> None:
        self._child.kill()
        self._child.wait()
        for pipe in filter(None, (self._child.stdin, self._child.stdout)):
            with suppress(OSError):
                pipe.close()


def _later(after_s: float, work: Any, asked: _Asked) -> threading.Timer:
    timer = threading.Timer(min(after_s, threading.TIMEOUT_MAX), work, (asked,))
    timer.daemon = True
    timer.start()
    return timer
