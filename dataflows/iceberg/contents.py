"""What a generation holds: columns, comments, a fingerprint per slice, and the rows of a slice."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dataflows.errors import IcebergError, ServingBrokenError
from dataflows.serving.build import ALL_TABLES
from dataflows.sql_text import literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from pyarrow import RecordBatchReader
    from pyiceberg.schema import Schema

SLICED_BY: Mapping[str, str] = {"fct_psd": "last_seen_on", "fct_psd_revision": "released_on"}
"""The partition column of each large table. A slice is the rows of one value."""

WHOLE = "all"
"""The one slice of a table without a partition column."""

CELLS_PER_BATCH = 8_000_000
"""Values that are held in memory at a time; a batch becomes one data file."""


@dataclass(frozen=True)
class Contents:
    """A serving table: its comment, its columns with types and comments, and a fingerprint of each slice with rows."""

    table: str
    comment: str
    schema: "Schema" = field(hash=False)
    slices: Mapping[str, str] = field(hash=False)

    @property
    def sliced_by(self) -> str | None:
        return SLICED_BY.get(self.table)


def digest_of(slices: Mapping[str, str]) -> str:
    """Return one fingerprint of a table from those of its slices."""
    return hashlib.sha256(json.dumps(sorted(slices.items())).encode()).hexdigest()[:32]


@contextmanager
def open_generation(path: Path) -> Iterator["DuckDBPyConnection"]:
    """Open the generation at `path` read-only. Raises ServingBrokenError, or IcebergError for a failed query."""
    import duckdb

    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": "512MB",
        "threads": 1,  # keeps the order of rows, and one batch in memory
        "temp_directory": "",
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    connection = duckdb.connect(":memory:", config=config)
    try:
        connection.execute(f"ATTACH {literal(path)} AS materia (READ_ONLY)")
        connection.execute("USE materia.serving")
        yield connection
    except duckdb.IOException as error:
        raise ServingBrokenError(f"{error} (reading {path}); next: materia serving verify") from error
    except duckdb.Error as error:
        raise IcebergError(f"{error} (reading {path} for Iceberg); next: materia serving verify") from error
    finally:
        connection.close()


def list_tables(connection: "DuckDBPyConnection") -> tuple[str, ...]:
    """Return the serving tables of this generation; an old one may lack tables that were added since."""
    found = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    return tuple(table for table in ALL_TABLES if table in found)


def read_contents(connection: "DuckDBPyConnection", table: str) -> Contents:
    """Read a table's columns and compute its fingerprints.

    Raises IcebergError for a type that Iceberg lacks, and for a NULL in the partition column.
    """
    (comment,) = connection.execute(
        f"SELECT comment FROM duckdb_tables() WHERE database_name = 'materia' AND table_name = {literal(table)}"
    ).fetchone() or (None,)
    schema = _read_schema(connection, table)
    return Contents(table, comment or "", schema, _fingerprints(connection, table, schema))


def read_slice(connection: "DuckDBPyConnection", contents: Contents, key: str) -> "RecordBatchReader":
    """Return the rows of a slice in the generation's order, in batches of bounded size."""
    where = f'WHERE "{contents.sliced_by}"::VARCHAR = {literal(key)}' if contents.sliced_by else ""
    relation = connection.sql(f'FROM "{contents.table}" {where}')
    return relation.to_arrow_reader(CELLS_PER_BATCH // len(contents.schema.fields))


def _read_schema(connection: "DuckDBPyConnection", table: str) -> "Schema":
    """Return the columns as Iceberg has them, numbered from 1."""
    import pyarrow
    from pyiceberg.io.pyarrow import UnsupportedPyArrowTypeException, pyarrow_to_schema

    comments = dict(
        connection.execute(
            "SELECT column_name, comment FROM duckdb_columns() "
            f"WHERE database_name = 'materia' AND comment IS NOT NULL AND table_name = {literal(table)}"
        ).fetchall()
    )
    fields = connection.sql(f'FROM "{table}" LIMIT 0').to_arrow_table().schema
    described = [
        column.with_metadata({"PARQUET:field_id": str(number), "doc": comments.get(column.name, "")})
        for number, column in enumerate(fields, 1)
    ]
    try:
        return pyarrow_to_schema(pyarrow.schema(described))
    except UnsupportedPyArrowTypeException as error:
        raise IcebergError(f"{error} (serving.{table}); cast the column in its model to a type of Iceberg") from error


def _fingerprints(connection: "DuckDBPyConnection", table: str, schema: "Schema") -> dict[str, str]:
    """Return a fingerprint per slice that depends on rows, column names and types, not on their order.

    DuckDB's `hash` takes a fiftieth of the time of MD5 and is stable only within a version of DuckDB: after an
    upgrade every slice is written once.
    """
    import duckdb

    kinds = sorted((column.name, str(column.field_type)) for column in schema.fields)
    row = ", ".join(f'"{name}"' for name, _ in kinds)
    key = f'"{SLICED_BY[table]}"::VARCHAR' if table in SLICED_BY else f"'{WHOLE}'"
    found = connection.execute(
        f'SELECT {key} AS slice, count(*), sum(hash({row})) FROM "{table}" GROUP BY slice'
    ).fetchall()
    if any(slice_key is None for slice_key, _, _ in found):
        raise IcebergError(f"serving.{table}.{SLICED_BY[table]} is NULL in some rows; partitions need a value")
    return {
        slice_key: hashlib.sha256(f"{duckdb.__version__} {kinds} {rows} {hashes}".encode()).hexdigest()[:16]
        for slice_key, rows, hashes in found
    }
