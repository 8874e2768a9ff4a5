"""What a generation holds, as Iceberg needs to know it: columns, comments, and a fingerprint of every slice."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dataflows.errors import IcebergError, ServingBrokenError
from dataflows.serving.build import SERVING_TABLES
from dataflows.sql_text import literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SLICED_BY: Mapping[str, str] = {"fct_psd": "last_seen_on", "fct_psd_revision": "released_on"}
"""The column whose values part a large table; each value is a partition in Iceberg, and rewritten as a whole."""

WHOLE = "all"
"""The one slice of a table that is not parted."""

MEMORY_LIMIT = "512MB"
ROW_GROUP_ROWS = 40_960
"""What is held in memory before it is written; smaller than DuckDB's own, for a table of 178 columns."""

_CARRIED = {
    "BOOLEAN": ("boolean", "BOOLEAN"),
    "TINYINT": ("int", "INTEGER"),
    "SMALLINT": ("int", "INTEGER"),
    "INTEGER": ("int", "INTEGER"),
    "BIGINT": ("long", "BIGINT"),
    "FLOAT": ("float", "FLOAT"),
    "DOUBLE": ("double", "DOUBLE"),
    "DATE": ("date", "DATE"),
    "TIMESTAMP": ("timestamp", "TIMESTAMP"),
    "VARCHAR": ("string", "VARCHAR"),
}
"""DuckDB's types, what Iceberg calls them, and as what they are written."""


@dataclass(frozen=True)
class Column:
    """A column of a served table; `kind` is Iceberg's name of its type, `written_as` DuckDB's of the one it gets."""

    name: str
    kind: str
    written_as: str
    comment: str | None


@dataclass(frozen=True)
class Contents:
    """A served table: what it is made of, and a fingerprint of each slice that has rows."""

    table: str
    comment: str | None
    columns: tuple[Column, ...]
    slices: Mapping[str, str] = field(hash=False)

    @property
    def sliced_by(self) -> str | None:
        return SLICED_BY.get(self.table)

    @property
    def digest(self) -> str:
        return digest_of(self.slices)


def digest_of(slices: Mapping[str, str]) -> str:
    """One fingerprint of a whole table, from those of its slices."""
    return hashlib.sha256(json.dumps(sorted(slices.items())).encode()).hexdigest()[:32]


@contextmanager
def opened(path: Path, spill_dir: Path) -> Iterator["DuckDBPyConnection"]:
    """The generation at `path`, read-only, in a DuckDB that spills to `spill_dir` rather than take more memory."""
    import duckdb

    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": MEMORY_LIMIT,
        "threads": 1,  # each holds a row group of its own, and there is no hurry
        "temp_directory": str(spill_dir),
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    connection = duckdb.connect(":memory:", config=config)
    try:
        connection.execute(f"ATTACH {literal(path)} AS materia (READ_ONLY)")
        connection.execute("USE materia.serving")
        yield connection
    except duckdb.IOException as error:
        raise ServingBrokenError(f"{path} cannot be read: {error}; `materia serving verify` tells more") from error
    except duckdb.Error as error:
        raise IcebergError(f"{path} could not be carried to Iceberg: {error}") from error
    finally:
        connection.close()


def tables_of(connection: "DuckDBPyConnection") -> tuple[str, ...]:
    """The served tables that this generation has; an older one may lack what was added since."""
    there = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    return tuple(table for table in SERVING_TABLES if table in there)


def contents_of(connection: "DuckDBPyConnection", table: str) -> Contents:
    """Read a table's columns and compute its fingerprints. Raises IcebergError for a type that is not carried."""
    found = connection.execute(
        "SELECT column_name, data_type, comment FROM duckdb_columns() "
        "WHERE database_name = 'materia' AND schema_name = 'serving' AND table_name = ? ORDER BY column_index",
        [table],
    ).fetchall()
    columns = tuple(Column(name, *_carried(table, name, kind), comment) for name, kind, comment in found)
    (comment,) = connection.execute(
        "SELECT comment FROM duckdb_tables() WHERE database_name = 'materia' AND schema_name = 'serving' "
        "AND table_name = ?",
        [table],
    ).fetchone() or (None,)
    return Contents(table, comment, columns, _fingerprints(connection, table, columns))


def write_slice(
    connection: "DuckDBPyConnection", contents: Contents, key: str, ids: Mapping[str, int], to: Path
) -> None:
    """Write the rows of a slice as Parquet, in the order the generation has them in, with Iceberg's field ids."""
    select = ", ".join(f'"{column.name}"::{column.written_as} AS "{column.name}"' for column in contents.columns)
    where = f'WHERE "{contents.sliced_by}"::VARCHAR = {literal(key)}' if contents.sliced_by else ""
    field_ids = ", ".join(f'"{name}": {ids[name]}' for name in ids)
    connection.execute(
        f'COPY (SELECT {select} FROM "{contents.table}" {where}) TO {literal(to)} '
        f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP_ROWS}, FIELD_IDS {{{field_ids}}})"
    )


def _carried(table: str, column: str, kind: str) -> tuple[str, str]:
    if re.fullmatch(r"DECIMAL\(\d+,\d+\)", kind):
        return kind.lower().replace(",", ", "), kind
    if kind not in _CARRIED:
        raise IcebergError(
            f"serving.{table}.{column} is {kind}, which is not carried to Iceberg; cast it in its model to one of "
            f"{', '.join(_CARRIED)} or DECIMAL"
        )
    return _CARRIED[kind]


def _fingerprints(connection: "DuckDBPyConnection", table: str, columns: tuple[Column, ...]) -> dict[str, str]:
    """Per slice, a fingerprint of its rows, whatever their order, and of the columns, whatever theirs.

    DuckDB's `hash` takes a fiftieth of what MD5 takes, and is stable only within a version of DuckDB: after an
    upgrade everything is rewritten once.
    """
    import duckdb

    kinds = sorted((column.name, column.kind) for column in columns)
    row = ", ".join(f'"{name}"' for name, _ in kinds)
    key = f'"{SLICED_BY[table]}"::VARCHAR' if table in SLICED_BY else f"'{WHOLE}'"
    found = connection.execute(
        f'SELECT {key} AS slice, count(*), sum(hash({row})) FROM "{table}" GROUP BY slice'
    ).fetchall()
    if any(slice_key is None for slice_key, _, _ in found):
        raise IcebergError(f"serving.{table}.{SLICED_BY[table]} is NULL in some rows, which Iceberg's parts cannot be")
    return {
        slice_key: hashlib.sha256(f"{duckdb.__version__} {kinds} {rows} {added}".encode()).hexdigest()[:16]
        for slice_key, rows, added in found
    }
