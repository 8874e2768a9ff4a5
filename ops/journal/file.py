"""The journal's SQLite file: its tables, its creation, and connections to read and to write.

WAL mode, so that readers and the writer never wait for each other. `synchronous=NORMAL`: a killed process loses
nothing; a power cut loses at most the last entries of the *journal*, never its consistency. Those entries are of runs
that the power cut ended, too, and data does not depend on them, so a flush to disk per step would gain nothing.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from dataflows.errors import JournalError
from ops.host.process import Process

BUSY_TIMEOUT_S = 10.0

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        parent_id INTEGER REFERENCES runs (id),
        pipeline TEXT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('running', 'done', 'failed', 'interrupted', 'died')),
        "trigger" TEXT NOT NULL,
        arguments TEXT NOT NULL,
        started_at TEXT NOT NULL,
        ended_at TEXT,
        pid INTEGER NOT NULL,
        process_started TEXT NOT NULL,
        host TEXT NOT NULL,
        worker TEXT,
        code_version TEXT NOT NULL,
        snapshots TEXT NOT NULL DEFAULT '[]',
        result TEXT,
        error TEXT,
        error_detail TEXT,
        log_path TEXT
    ) STRICT;
    CREATE INDEX runs_by_pipeline ON runs (pipeline);
    CREATE INDEX runs_by_pipeline_and_status ON runs (pipeline, status);
    CREATE INDEX runs_by_status ON runs (status);
    CREATE INDEX runs_by_parent ON runs (parent_id) WHERE parent_id IS NOT NULL;
    CREATE TABLE steps (
        id INTEGER PRIMARY KEY,
        run_id INTEGER NOT NULL REFERENCES runs (id),
        name TEXT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('running', 'done', 'failed', 'interrupted', 'died')),
        started_at TEXT NOT NULL,
        ended_at TEXT,
        detail TEXT NOT NULL
    ) STRICT;
    CREATE INDEX steps_by_run ON steps (run_id);
    """,
)
"""The migrations from `user_version` N to N + 1, oldest first. Never edit a released one: add the next."""


_SET_ASIDE = "run `materia run-all`, which sets it aside: only the history of runs is lost, no data"


def open_to_write(path: Path) -> sqlite3.Connection:
    """Open a connection to write; create or migrate the journal if necessary."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _create(path)
    _delete_dead_drafts(path)
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        _migrate(connection, path)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def set_aside_if_damaged(path: Path) -> Path | None:
    """Move a damaged journal into quarantine, so that a new one is created; returns its new path.

    Only the history of runs is lost, no data. The caller holds the writer lock.
    """
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            is_intact = connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
            is_intact = is_intact and connection.execute("PRAGMA user_version").fetchone()[0] >= 0
    except sqlite3.OperationalError:  # it is missing, locked, or not readable
        return None
    except sqlite3.DatabaseError:
        is_intact = False
    if is_intact:
        return None
    from ops.integrity.quarantine import set_aside
    from ops.journal.run import utc_now

    return set_aside(path, utc_now())


@contextmanager
def open_to_read(path: Path) -> Iterator[sqlite3.Connection | None]:
    """Open a read-only connection; yield None if there is no journal yet."""
    if not path.exists():
        yield None
        return
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as connection:
        if _version(connection, path) < len(MIGRATIONS):
            open_to_write(path).close()
        yield connection


@contextmanager
def typed_errors(path: Path) -> Iterator[None]:
    """Convert errors of SQLite and the file system to a JournalError with the file and the next step."""
    try:
        yield
    except (sqlite3.Error, OSError, UnicodeError, OverflowError) as error:
        raise JournalError(f"{error}: the run journal {path}; {_next_step(error)}") from error


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run a transaction that takes the write lock at its start, so that two writers cannot deadlock."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _create(path: Path) -> None:
    """Create the journal in a temporary file and link it into place atomically; the first process wins."""
    import tempfile

    handle, name = tempfile.mkstemp(prefix=f"{_draft_prefix(path)}{os.getpid()}-", dir=path.parent)
    os.close(handle)
    draft = Path(name)
    try:
        draft.chmod(0o644)
        with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            _migrate(connection, draft)
        if not path.exists():
            path.hardlink_to(draft)
    except FileExistsError:
        return
    finally:
        draft.unlink()


def _delete_dead_drafts(path: Path) -> None:
    """Delete the drafts, and SQLite's files beside them, of processes that died while they created a journal."""
    prefix = _draft_prefix(path)
    for left in path.parent.glob(f"{prefix}*"):
        pid = left.name.removeprefix(prefix).partition("-")[0]
        if pid.isdigit() and not Process(int(pid), "").is_alive():
            left.unlink(missing_ok=True)


def _draft_prefix(path: Path) -> str:
    return f".{path.name}-"


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    if _version(connection, path) == len(MIGRATIONS):
        return
    with transaction(connection):
        for version in range(_version(connection, path), len(MIGRATIONS)):
            for statement in MIGRATIONS[version].split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {version + 1}")


def _version(connection: sqlite3.Connection, path: Path) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version < 0:
        raise JournalError(f"the run journal {path} is damaged: its version is {version}; {_SET_ASIDE}")
    if version > len(MIGRATIONS):
        raise JournalError(
            f"the run journal {path} was written by a newer Materia (its version {version}, ours "
            f"{len(MIGRATIONS)}); update this one"
        )
    return version


def _next_step(error: Exception) -> str:
    if getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY"):
        return f"another process has been writing to it for more than {BUSY_TIMEOUT_S:.0f} s, so try again"
    if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
        return _SET_ASIDE
    return "check that its directory is writable and its disk is not full"
