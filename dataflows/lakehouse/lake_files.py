"""The files of a DuckLake or of Spark's warehouse: verify them, and empty a DuckLake whose files are damaged.

Both record the size of each file and no hash, and never change a file. So the first check decodes the whole file, and
each later check compares its sha256 with that of the first.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from dataflows.errors import LakehouseError
from dataflows.lakehouse.ducklake import CATALOG, DuckLake, PostgresCatalog
from dataflows.lakehouse.spark import SparkLakehouse
from dataflows.sql_text import literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_TABLES = f"SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = '{CATALOG}' ORDER BY ALL"
_FILES = """
    SELECT data_file, data_file_size_bytes FROM ducklake_list_files({catalog}, {table}, schema => {schema})
    UNION ALL
    SELECT delete_file, delete_file_size_bytes FROM ducklake_list_files({catalog}, {table}, schema => {schema})
    WHERE delete_file IS NOT NULL
"""
_STATE_SCHEMA = "sqlmesh"


@dataclass(frozen=True)
class CheckedFile:
    """A file of the lake's newest tables after its check."""

    where: str
    sha256: str
    """Empty where it could not be read."""
    why: str | None
    """What is wrong with it; None if nothing is."""


def check_files(lake: DuckLake | SparkLakehouse, known: Mapping[str, str]) -> Iterator[CheckedFile]:
    """Read every file that the newest tables need; `known` has the sha256 of files that were checked before.

    Raises LakehouseError when the catalog cannot be read.
    """
    import duckdb

    with duckdb.connect() as connection:
        for where, size_bytes in _list_files(connection, lake):
            yield _check(connection, where, size_bytes, known.get(where))


def needed_files(lake: DuckLake | SparkLakehouse) -> set[str]:
    """The files that the newest tables need. Raises LakehouseError when the catalog cannot be read."""
    import duckdb

    with duckdb.connect() as connection:
        return {where for where, _ in _list_files(connection, lake)}


def _list_files(connection: "DuckDBPyConnection", lake: DuckLake | SparkLakehouse) -> list[tuple[str, int]]:
    """The newest tables' files with their sizes in bytes."""
    import duckdb

    if isinstance(lake, SparkLakehouse):
        return list(lake.recorded_files().items())

    lake.attach(connection, read_only=True)
    try:
        return [
            file
            for schema, table in connection.execute(_TABLES).fetchall()
            for file in connection.execute(
                _FILES.format(catalog=literal(CATALOG), table=literal(table), schema=literal(schema))
            ).fetchall()
        ]
    except duckdb.Error as error:
        raise LakehouseError(f"{lake} can't be read: {error}; look at the catalog's server or file") from error


def _check(connection: "DuckDBPyConnection", where: str, size_bytes: int, known: str | None) -> CheckedFile:
    import duckdb

    try:
        read = connection.execute("SELECT size, sha256(content) FROM read_blob($file)", {"file": where}).fetchone()
        if read is None:
            return CheckedFile(where, "", "it is missing")
        size, sha256 = read
        if size != size_bytes:
            return CheckedFile(where, sha256, f"it has {size:,} bytes instead of {size_bytes:,}")
        if known is None:
            connection.execute("SELECT bit_xor(hash(r)) FROM read_parquet($file) AS r", {"file": where}).fetchall()
        elif sha256 != known:
            return CheckedFile(where, sha256, "its sha256 is not that of the last check")
    except (duckdb.IOException, duckdb.HTTPException) as error:
        if getattr(error, "status_code", None) == HTTPStatus.NOT_FOUND:
            return CheckedFile(where, "", "it is missing")
        raise LakehouseError(f"{where} can't be read: {error}; look at DUCKLAKE_DATA or SPARK_WAREHOUSE") from error
    except duckdb.Error as error:
        return CheckedFile(where, "", f"it can't be decoded: {str(error).splitlines()[0]}")
    return CheckedFile(where, sha256, None)


def empty(lake: DuckLake) -> None:
    """Drop everything in the lake and SQLMesh's state of it; the next transform builds it again from the landing.

    The catalog stays, and the housekeeping deletes the dropped files later. The caller holds the lakehouse's lock.
    Raises LakehouseError.
    """
    import duckdb

    with duckdb.connect() as connection:
        lake.attach(connection, read_only=False)
        try:
            schemas = connection.execute(
                f"SELECT schema_name FROM duckdb_schemas() WHERE database_name = '{CATALOG}' AND schema_name <> 'main'"
            ).fetchall()
            for (schema,) in schemas:
                connection.execute(f'DROP SCHEMA {CATALOG}."{schema}" CASCADE')
            if isinstance(lake.catalog, PostgresCatalog):
                connection.execute(
                    f"ATTACH {literal(lake.catalog.target.removeprefix('postgres:'))} AS state (TYPE postgres)"
                )
                connection.execute(f"CALL postgres_execute('state', 'DROP SCHEMA IF EXISTS {_STATE_SCHEMA} CASCADE')")
        except duckdb.Error as error:
            raise LakehouseError(f"{lake} can't be emptied: {error}; drop its database and its data by hand") from error
    if not isinstance(lake.catalog, PostgresCatalog):
        lake.catalog.state_path.unlink(missing_ok=True)
