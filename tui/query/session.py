"""The queries of one console: the cells they run in, their limits, and the generation they saw."""

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
    from dataflows.serving.sandbox import Cell

_SPARE_CORES = 1
"""Left to the console, so that keys are answered while a query takes all that it can get."""
_MOST_CELLS = 2
"""One holds the result on the screen, one is ready for the next query."""


class QuerySession:
    """Starts queries, each in a cell; what the console itself asks goes through a reader of its own."""

    def __init__(self, serving_path: Path, spill_dir: Path, limits: QueryLimits | None = None) -> None:
        from dataflows.serving import ServingReader

        self.serving_path = serving_path
        self._spill_dir = spill_dir
        self._limits = limits or QueryLimits()
        self._reader = ServingReader(serving_path, threads=1)
        self._lock = threading.Lock()  # guards what follows
        self._idle: list[Cell] = []
        self._made = 0
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
                self._empty()  # a cell at work is closed when it is given back
            self._limits = limits
        self.prepare()

    def prepare(self) -> None:
        """Have a cell ready for the next query: its process takes a third of a second to begin."""
        with self._lock:
            if not (self._idle or self._closed) and self._made < _MOST_CELLS:
                self._idle.append(self._new_cell())

    def new_run(self, sql: str, view: View, within: Pin | None = None) -> QueryRun:
        """A query to be executed: on the generation of `within`, else on the newest there is then."""
        if within is None:
            self._seen = self._identity()  # before the reader looks: a swap in between is seen again, not missed
        return QueryRun(sql, view, replace(self._limits), self._spill_dir, within, self._seen)

    def execute(self, run: QueryRun) -> None:
        """Run it to its end; blocks, raises nothing."""
        run.execute(self._pin)

    def newer_is_served(self) -> bool:
        """Whether something else is served than when the last query on the newest generation was made."""
        return self._identity() != self._seen

    def newer_than(self, run: QueryRun) -> bool:
        """Whether something is served that `run`, which may be older than a query that failed, did not see."""
        return self._identity() not in (None, run.served)

    def close(self) -> None:
        """Refuse further queries; idempotent."""
        self._reader.close()
        with self._lock:
            self._closed = True
            self._empty()

    def _pin(self) -> Pin:
        with self._lock:
            if self._closed:
                raise ReaderClosedError("the console is closing")
            cell = self._idle.pop() if self._idle else self._new_cell()
        self.prepare()
        return Pin(cell, self._take_back)

    def _take_back(self, cell: "Cell") -> None:
        with self._lock:
            is_spare = len(self._idle) == _MOST_CELLS
            if self._closed or is_spare or cell.is_worn or cell.memory_bytes != self._limits.memory_bytes:
                self._made -= 1
                cell.close()
            else:
                self._idle.append(cell)
        self.prepare()

    def _empty(self) -> None:
        self._made -= len(self._idle)
        while self._idle:
            self._idle.pop().close()

    def _new_cell(self) -> "Cell":
        from dataflows.serving.sandbox import Cell

        self._made += 1
        threads = max(1, (os.cpu_count() or 1) - _SPARE_CORES)
        return Cell(self.serving_path, memory_bytes=self._limits.memory_bytes, threads=threads)

    def _identity(self) -> tuple[int, ...] | None:
        try:
            status = self.serving_path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
