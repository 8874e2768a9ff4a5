"""The swap-aware reader: every query sees one generation, whole, and the newest one when it starts."""

import os
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from dataflows.errors import (
    QueryError,
    QueryRefusedError,
    QueryTimeoutError,
    ReaderClosedError,
    ServingBrokenError,
    ServingError,
    ServingMissingError,
)
from dataflows.serving.deadlines import Deadlines
from dataflows.serving.generation import Generation, foreign_generation, read_sidecar

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

_OPEN_ATTEMPTS = 50
"""How often a file that is replaced while being opened is tried again."""
_CHECKED_QUERIES = 1024
"""How many accepted SQL texts are remembered."""
_CHECKED_CHARACTERS = 65536
"""Longer SQL texts are checked each time instead of being remembered."""

Parameters = Sequence[Any] | Mapping[str, Any] | None
Identity = tuple[int, int, int, int]
"""Device, inode, modification time (ns), size (bytes): no two files share them while one is held open."""


@dataclass(frozen=True)
class Answer:
    """The rows of one query, and the generation they came from."""

    table: "pa.Table"
    generation: Generation


@dataclass(eq=False, slots=True)
class _OpenFile:
    """One served file, open: its root connection, how many queries are using it, and its idle cursors."""

    identity: Identity
    generation: Generation
    root: "DuckDBPyConnection"
    users: int
    idle: "list[DuckDBPyConnection]" = field(default_factory=list)

    def close(self) -> None:
        """Close the root connection, and with it, as DuckDB does, every cursor of it."""
        self.root.close()


class ServingReader:
    """Reads what is served at `serving_path`, from any number of threads, across swaps.

    A running query finishes on the generation it started on, which is closed when the last such query ends.
    `memory_limit_bytes` and `threads` bound DuckDB per generation (default: DuckDB's own). Nothing is opened
    before the first query.
    """

    def __init__(
        self, serving_path: Path, *, memory_limit_bytes: int | None = None, threads: int | None = None
    ) -> None:
        self.serving_path = serving_path
        self._stat_path = os.fspath(serving_path)  # stat of a Path takes half as long again
        self._limits = {"memory_limit_bytes": memory_limit_bytes, "threads": threads}
        self._lock = threading.Lock()  # guards what follows; held for microseconds
        self._opening = threading.Lock()  # held while a file is opened, so that one thread opens it for all
        self._current: _OpenFile | None = None
        self._closed = False
        self._checked: dict[str, None] = {}
        self._deadlines = Deadlines()

    def query(self, sql: str, params: Parameters = None, *, timeout_s: float | None = None) -> Answer:
        """Run one read-only statement; return all rows and the generation they came from.

        Raises QueryRefusedError (not run), QueryTimeoutError (stopped after `timeout_s`), QueryError (with
        DuckDB's message), ServingMissingError, ServingBrokenError, ReaderClosedError. The first query with
        parameters has DuckDB import pandas where that is installed: a second or two, once per process.
        """
        opened = self._acquire()
        try:
            cursor = self._take_cursor(opened)
            try:
                self._check(cursor, sql)
                table = self._run(cursor, sql, params, timeout_s)
            finally:
                opened.idle.append(cursor)
        except ServingBrokenError:
            self._open_again(opened)
            raise
        finally:
            self._release(opened)
        return Answer(table, opened.generation)

    @contextmanager
    def cursor(self) -> "Iterator[tuple[DuckDBPyConnection, Generation]]":
        """A DuckDB cursor of its own on the newest generation, to stream big results; closed afterwards.

        Raises DuckDB's errors and runs any SQL: pass user SQL to `check` first.
        Another thread may stop its query with the cursor's `interrupt()`.
        """
        with self._using() as opened:
            cursor = self._new_cursor(opened)
            try:
                yield cursor, opened.generation
            finally:
                cursor.interrupt()  # an unfinished stream; close() would wait for all of it
                cursor.close()

    def check(self, sql: str) -> None:
        """Raise QueryRefusedError unless `sql` is one statement that only reads, QueryError when not SQL."""
        with self._using() as opened:
            cursor = self._take_cursor(opened)
            try:
                self._check(cursor, sql)
            finally:
                opened.idle.append(cursor)

    def generation(self) -> Generation:
        """The generation that a query starting now would see; opens it when it is new."""
        with self._using() as opened:
            return opened.generation

    def close(self) -> None:
        """Refuse further queries; running ones finish, and the last of them closes the file. Idempotent."""
        with self._lock:
            self._closed = True
            unused = self._retire_current()
        if unused:
            unused.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _using(self) -> Iterator[_OpenFile]:
        """The newest file, counted as used for the length of the block; opened again after it failed in it."""
        opened = self._acquire()
        import duckdb  # opening the file has imported it

        try:
            yield opened
        except (ServingBrokenError, duckdb.FatalException):
            self._open_again(opened)
            raise
        finally:
            self._release(opened)

    def _acquire(self) -> _OpenFile:
        """The newest file, counted as used once more; opens it when it is new."""
        return self._use_if_current(_identity(self._stat_path)) or self._use_newest()

    def _release(self, opened: _OpenFile) -> None:
        """Count one use less; the last use of a file that is no longer current closes it."""
        with self._lock:
            opened.users -= 1
            unused = opened.users == 0 and opened is not self._current
        if unused:
            opened.close()

    def _use_if_current(self, identity: Identity | None) -> _OpenFile | None:
        with self._lock:
            if self._closed:
                raise ReaderClosedError(f"the reader of {self.serving_path} is closed; make a new one")
            if self._current is None or self._current.identity != identity:
                return None
            self._current.users += 1
            return self._current

    def _use_newest(self) -> _OpenFile:
        """Open the file that is served now, unless another thread has just done so."""
        with self._opening:
            for _ in range(_OPEN_ATTEMPTS):
                opened = self._use_if_current(_identity(self._stat_path)) or self._open()
                if opened:
                    return opened
        if not os.path.lexists(self.serving_path):
            raise ServingMissingError(f"nothing is served at {self.serving_path} yet; run `materia run-all`")
        target = os.path.realpath(self.serving_path)
        raise ServingBrokenError(
            f"{self.serving_path} leads to {target}, which does not exist, or was replaced {_OPEN_ATTEMPTS} times "
            "while it was opened; run `materia run-all`, which publishes again"
        )

    def _open(self) -> _OpenFile | None:
        """Open the served file and make it the current one, used once; None when it changed meanwhile."""
        from dataflows.serving.database import open_read_only

        path = Path(os.path.realpath(self.serving_path))
        identity = _identity(path)
        if identity is None:
            return None
        try:
            root = open_read_only(path, **self._limits)
            try:
                generation = _describe(path, root)
            except BaseException:
                root.close()
                raise
        except (ServingBrokenError, FileNotFoundError):
            if _identity(path) != identity:
                return None
            raise
        opened = _OpenFile(identity, generation, root, users=1)
        if _identity(path) != identity:
            opened.close()
            return None
        with self._lock:
            closed = self._closed
            unused = opened if closed else self._retire_current()
            if not closed:
                self._current = opened
        if unused:
            unused.close()
        if closed:
            raise ReaderClosedError(f"the reader of {self.serving_path} was closed while it opened the file")
        return opened

    def _retire_current(self) -> _OpenFile | None:
        """Drop the current file (the lock is held); return it for closing when it is unused."""
        retired, self._current = self._current, None
        return retired if retired and retired.users == 0 else None

    def _open_again(self, opened: _OpenFile) -> None:
        """Let the next query open the file again, because DuckDB invalidates an instance after a fatal error."""
        with self._lock:
            if self._current is opened:
                self._retire_current()

    def _take_cursor(self, opened: _OpenFile) -> "DuckDBPyConnection":
        try:
            return opened.idle.pop()
        except IndexError:
            return self._new_cursor(opened)

    def _new_cursor(self, opened: _OpenFile) -> "DuckDBPyConnection":
        from dataflows.serving.database import new_cursor

        with self._opening:  # a root connection may create one cursor at a time
            return new_cursor(opened.root)

    def _check(self, cursor: "DuckDBPyConnection", sql: str) -> None:
        """Check a text once: its syntax, which is all that is judged, is the same for every generation."""
        if sql in self._checked:
            return
        import duckdb

        from dataflows.serving.sql_policy import check_query

        try:
            check_query(cursor, sql)
        except duckdb.Error as error:
            raise query_error(error, self.serving_path) from error
        if len(sql) <= _CHECKED_CHARACTERS:
            with self._lock:
                self._checked[sql] = None
                if len(self._checked) > _CHECKED_QUERIES:
                    del self._checked[next(iter(self._checked))]

    def _run(self, cursor: "DuckDBPyConnection", sql: str, params: Parameters, timeout_s: float | None) -> "pa.Table":
        import duckdb

        deadline = None if timeout_s is None else self._deadlines.start(cursor, timeout_s)
        try:
            return cursor.execute(sql, params).to_arrow_table()
        except (duckdb.Error, ValueError, TypeError) as error:  # the latter two: parameters it can't convert
            if isinstance(error, duckdb.InterruptException) and deadline and deadline.passed:
                raise QueryTimeoutError(f"the query was stopped after {timeout_s:g} s; narrow it") from error
            raise query_error(error, self.serving_path) from error
        finally:
            if deadline:
                self._deadlines.stop(deadline)


def query_error(error: Exception, serving_path: Path) -> ServingError:
    """The typed error for a failure of DuckDB: a refused query, a query that cannot run, or a damaged served file."""
    import duckdb

    if isinstance(error, duckdb.PermissionException):
        return QueryRefusedError(str(error))
    if isinstance(error, duckdb.InterruptException):
        return QueryError(f"the query was interrupted: {error}")
    if isinstance(error, duckdb.IOException | duckdb.FatalException):
        return ServingBrokenError(f"{serving_path} cannot be read: {error}; check it with `materia serving verify`")
    if isinstance(error, duckdb.InternalException):
        first_line, _, _ = str(error).partition("\n")
        return QueryError(
            f"DuckDB cannot run this query, by a fault of its own: {first_line}. Write it another way; "
            "if other queries fail as well, check the served file with `materia serving verify`"
        )
    return QueryError(str(error))


def _identity(path: str | Path) -> Identity | None:
    """Return the identity of the file behind `path`; None when missing. Raises ServingBrokenError when unknown."""
    try:
        status = os.stat(path)  # noqa: PTH116 (once per query)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ServingBrokenError(f"{path}: {error.strerror}; see `materia serving list`") from error
    if not stat.S_ISREG(status.st_mode):
        raise ServingBrokenError(f"{path} is no file; see `materia serving list`")
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def _describe(path: Path, root: "DuckDBPyConnection") -> Generation:
    """The generation at `path`: its sidecar, else its `serving.generation` table, else only time and size."""
    from dataflows.serving.generation_table import read_generation_table

    described = read_sidecar(path)
    if described:
        return described
    facts = read_generation_table(root)
    foreign = foreign_generation(path)
    return replace(foreign, **vars(facts)) if facts else foreign
