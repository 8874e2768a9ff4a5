"""The queries of one console: the reader they go through, their limits, and the generation they saw."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tui.query.run import Pin, QueryLimits, QueryRun
from tui.query.sql import View

if TYPE_CHECKING:
    from dataflows.serving import ServingReader

_SPARE_CORES = 1
"""Left to the console, so that keys are answered while a query takes all that it can get."""


class QuerySession:
    """Starts queries on a reader of its own, bounded in memory; the console's other screens keep theirs."""

    def __init__(self, serving_path: Path, spill_dir: Path, limits: QueryLimits | None = None) -> None:
        from dataflows.serving.deadlines import Deadlines

        self.serving_path = serving_path
        self._spill_dir = spill_dir
        self._limits = limits or QueryLimits()
        self._deadlines = Deadlines()
        self._reader = self._new_reader()
        self._seen: tuple[int, ...] | None = None

    @property
    def reader(self) -> "ServingReader":
        return self._reader

    @property
    def limits(self) -> QueryLimits:
        return self._limits

    def limit(self, limits: QueryLimits) -> None:
        """Set the limits of the queries to come."""
        if limits.memory_bytes != self._limits.memory_bytes:
            self._reader.close()  # running queries finish on it
            self._limits = limits
            self._reader = self._new_reader()
        self._limits = limits

    def new_run(self, sql: str, view: View, within: Pin | None = None) -> QueryRun:
        """A query to be executed: on the generation of `within`, else on the newest there is then."""
        if within is None:
            self._seen = self._identity()  # before the reader looks: a swap in between is seen again, not missed
        return QueryRun(sql, view, replace(self._limits), self._spill_dir, within)

    def execute(self, run: QueryRun) -> None:
        """Run it to its end; blocks, raises nothing."""
        run.execute(self._reader, self._deadlines)

    def newer_is_served(self) -> bool:
        """Whether something else is served than when the last query on the newest generation was made."""
        return self._identity() != self._seen

    def close(self) -> None:
        """Refuse further queries; idempotent."""
        self._reader.close()
        self._deadlines.close()

    def _new_reader(self) -> "ServingReader":
        from dataflows.serving import ServingReader

        threads = max(1, (os.cpu_count() or 1) - _SPARE_CORES)
        return ServingReader(self.serving_path, memory_limit_bytes=self._limits.memory_bytes, threads=threads)

    def _identity(self) -> tuple[int, ...] | None:
        try:
            status = self.serving_path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
