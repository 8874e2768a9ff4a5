"""One writer per lakehouse, even if several machines share it.

A lakehouse file belongs to a data directory, whose lock is sufficient. Others may be shared, so their lock is beside a
DuckLake's catalog, on Spark beside SQLMesh's state: a file, or an advisory lock of the PostgreSQL server. The server
releases it when the connection ends; a child that inherits the connection's handle keeps it open.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dataflows.errors import LakehouseError, LockHeldError, MissingToolError
from dataflows.lakehouse.ducklake import DuckLake, PostgresCatalog
from dataflows.lakehouse.spark import SparkLakehouse
from ops.host.lock import writer_lock

_KEY = 0x6D617465726961
"""The key of the advisory lock: `materia` in ASCII. A database holds one lakehouse, so one key is enough."""

_CONNECT_TIMEOUT_S = 10
# If a machine disappears without closing the connection, keepalives let the server notice it.
_KEEPALIVE = "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"

_HOLDER = """
    SELECT application_name, host(client_addr), backend_start
    FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND granted AND (classid::BIGINT << 32 | objid::BIGINT) = %s
"""


@contextmanager
def lakehouse_lock(lake: DuckLake | SparkLakehouse | None, holder: str) -> Iterator[tuple[int, ...]]:
    """Hold the lock of a lakehouse for `holder`, such as `transform`; yields the handles for a child to inherit.

    Without one nothing is locked. Does not wait: raises LockHeldError if another process, here or on another
    machine, holds it, and LakehouseError if the catalog's server does not answer.
    """
    if lake is None:
        yield ()
    elif isinstance(lake.lock_at, PostgresCatalog):
        with _advisory_lock(lake, lake.lock_at, holder) as handle:
            yield (handle,)
    else:
        with writer_lock(lake.lock_at, holder) as lock:
            yield (lock.fileno(),)


@contextmanager
def _advisory_lock(lake: DuckLake | SparkLakehouse, catalog: PostgresCatalog, holder: str) -> Iterator[int]:
    connection = connect(lake, catalog, holder)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", (_KEY,))
            if cursor.fetchone() != (True,):
                cursor.execute(_HOLDER, (_KEY,))
                raise LockHeldError(_held_message(catalog, cursor.fetchone()))
        yield connection.fileno()
    finally:
        connection.close()


def catalog_exists(lake: DuckLake) -> bool:
    """Whether the DuckLake has been created; raises LakehouseError if the catalog's server does not answer."""
    if not isinstance(lake.catalog, PostgresCatalog):
        return lake.catalog.path.exists()
    connection = connect(lake, lake.catalog, "doctor")
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass('public.ducklake_metadata') IS NOT NULL")
            return cursor.fetchone() == (True,)
    finally:
        connection.close()


def connect(lake: DuckLake | SparkLakehouse, catalog: PostgresCatalog, holder: str) -> Any:
    """A connection to a PostgreSQL server of a lakehouse; raises LakehouseError or MissingToolError."""
    try:
        import psycopg2
    except ImportError:
        raise MissingToolError(
            f"PostgreSQL needs psycopg2-binary; install the extra: `uv sync --extra {lake.extra}`, "
            f"on the supervisor's host MATERIA_EXTRAS={lake.extra}"
        ) from None
    try:
        connection = psycopg2.connect(
            host=catalog.host,
            port=catalog.port,
            dbname=catalog.database,
            user=catalog.user,
            password=catalog.password,
            sslmode=catalog.sslmode,
            connect_timeout=_CONNECT_TIMEOUT_S,
            application_name=f"materia {holder} on {socket.gethostname()}",
            options=_KEEPALIVE,
        )
    except psycopg2.Error as error:
        raise LakehouseError(f"{catalog} does not answer: {' '.join(str(error).split())}; {lake.check_step}") from error
    connection.autocommit = True
    return connection


def _held_message(catalog: PostgresCatalog, found: tuple[Any, ...] | None) -> str:
    name, address, since = found or ("another process", "an unknown address", None)
    start = f" since {since:%Y-%m-%d %H:%M:%S %Z}" if since else ""
    return f"another run is writing to {catalog}: {name} ({address}) holds the lock{start}; try again when it has ended"
