"""Manages the queries of one console: sandboxes, limits, and the served generation."""

import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dataflows.errors import ReaderClosedError
from tui.query.run import Pin, QueryLimits, QueryRun
from tui.query.sql import View

if TYPE_CHECKING:
    from dataflows.serving import ServingReader
    from dataflows.serving.sandbox import Sandbox

_SPARE_CORES = 1
"""Cores reserved for the console, so that it responds while a query runs."""
_NICENESS = 5
"""Of the processes that run queries: the console has priority on every core."""
_MOST_CELLS = 2
"""One for the shown result, one ready for the next query."""


class QuerySession:
    """Runs user queries in sandboxes; the console's own queries use a separate reader."""

    def __init__(self, serving_path: Path, spill_dir: Path, limits: QueryLimits | None = None) -> None:
        from dataflows.serving import ServingReader

        self.serving_path = serving_path
        self._spill_dir = spill_dir
        self._limits = limits or QueryLimits()
        self._reader = ServingReader(serving_path, threads=1)
        self._lock = threading.Lock()  # guards the fields below
        self._idle: list[Sandbox] = []
        self._cell_count = 0
        self._closed = False
        self._seen: tuple[int, ...] | None = None

    @property
    def reader(self) -> "ServingReader":
        return self._reader

    @property
    def limits(self) -> QueryLimits:
        return self._limits

    def limit(self, limits: QueryLimits) -> None:
        """Set the limits of the queries to come."""
        with self._lock:
            if limits.memory_bytes != self._limits.memory_bytes:
                self._close_idle_sandboxes()  # a busy sandbox is closed when it is returned
            self._limits = limits
        self.prepare()

    def prepare(self) -> None:
        """Start a sandbox for the next query in advance: its process takes a third of a second to start."""
        with self._lock:
            if not (self._idle or self._closed) and self._cell_count < _MOST_CELLS:
                self._idle.append(self._new_sandbox())

    def new_run(self, sql: str, view: View, within: Pin | None = None) -> QueryRun:
        """Create a run on the generation of `within`, else on the newest generation."""
        if within is None:
            self._seen = self._identity()  # before the reader opens the file, so that a swap in between is not missed
        return QueryRun(sql, view, replace(self._limits), self._spill_dir, within, self._seen)

    def execute(self, run: QueryRun) -> None:
        """Execute a run; blocks and does not raise."""
        run.execute(self._pin)

    def newer_is_served(self) -> bool:
        """Whether the served file changed since the last query on the newest generation."""
        return self._identity() != self._seen

    def newer_than(self, run: QueryRun) -> bool:
        """Whether the served file changed since `run`."""
        return self._identity() not in (None, run.served)

    def close(self) -> None:
        """Refuse further queries; idempotent."""
        self._reader.close()
        with self._lock:
            self._closed = True
            self._close_idle_sandboxes()

    def _pin(self) -> Pin:
        with self._lock:
            if self._closed:
                raise ReaderClosedError("the console is closing")
            sandbox = self._idle.pop() if self._idle else self._new_sandbox()
        self.prepare()
        return Pin(sandbox, self._return_sandbox)

    def _return_sandbox(self, sandbox: "Sandbox") -> None:
        with self._lock:
            is_spare = len(self._idle) == _MOST_CELLS
            if self._closed or is_spare or sandbox.needs_recycling or sandbox.memory_bytes != self._limits.memory_bytes:
                self._cell_count -= 1
                sandbox.close()
            else:
                self._idle.append(sandbox)
        self.prepare()

    def _close_idle_sandboxes(self) -> None:
        self._cell_count -= len(self._idle)
        while self._idle:
            self._idle.pop().close()

    def _new_sandbox(self) -> "Sandbox":
        from dataflows.serving.sandbox import Sandbox

        self._cell_count += 1
        threads = max(1, (os.cpu_count() or 1) - _SPARE_CORES)
        return Sandbox(self.serving_path, memory_bytes=self._limits.memory_bytes, threads=threads, niceness=_NICENESS)

    def _identity(self) -> tuple[int, ...] | None:
        try:
            status = self.serving_path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
