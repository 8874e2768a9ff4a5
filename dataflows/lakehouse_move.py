"""Moving the lakehouse from one store to another: the same tables, views and macros, compared before they count.

All of it happens in one transaction of the target, so a move that dies has not happened. What SQLMesh remembers of
the tables is moved apart, by SQLMesh.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dataflows.ducklake import CATALOG
from dataflows.errors import LakehouseError
from dataflows.lakehouse import LakehouseStore
from dataflows.serving.asof import asof_macros

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_SOURCE = "materia_moved_from"
"""A name that no view uses for anything."""


@dataclass(frozen=True)
class MovedTable:
    """A table that is the same on both sides."""

    name: str
    """With its schema."""
    row_count: int


@dataclass(frozen=True)
class Move:
    """From where to where, and how to read the landing, which views name."""

    source: LakehouseStore
    target: LakehouseStore
    landing_dir: Path


def move(move: Move, *, replace: bool, told: Callable[[MovedTable], None]) -> bool:
    """Make the target the same as the source, table by table; `told` of each one that was found to be so.

    False when it was the same before. Raises LakehouseError when the source is empty, when the target holds
    something else and `replace` is not said, and when a copied table differs from its source; the target is then
    as it was.
    """
    with _both(move) as connection:
        tables = _tables(connection, _SOURCE)
        if not tables:
            raise LakehouseError(f"{move.source} holds no tables; run `materia pipeline run transform` first")
        there = _tables(connection, CATALOG)
        if there and not replace:
            differing = _differing(connection, tables, there)
            if differing:
                raise LakehouseError(
                    f"{move.target} holds something else ({', '.join(differing[:3])} of {len(tables)} tables differ); "
                    "say --replace to put this lakehouse in its place"
                )
            _tell(connection, tables, told)
            return False
        connection.execute("BEGIN")
        _empty(connection)
        for schema, table in tables:
            connection.execute(f'CREATE SCHEMA IF NOT EXISTS {CATALOG}."{schema}"')
            connection.execute(f"CREATE TABLE {_name(CATALOG, schema, table)} AS FROM {_name(_SOURCE, schema, table)}")
        if differing := _differing(connection, tables, tables):
            raise LakehouseError(f"{', '.join(differing)} came out differently in {move.target}; nothing was moved")
        _create_views(connection)
        _create_macros(connection)
        for schema, view in _views(connection, CATALOG):
            connection.execute(f"SELECT COUNT(*) FROM {_name(CATALOG, schema, view)}")
        connection.execute("COMMIT")
        _tell(connection, tables, told)
        return True


@contextmanager
def _both(move: Move) -> Iterator["DuckDBPyConnection"]:
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("SET preserve_insertion_order = false")
        connection.execute(f"SET file_search_path = '{str(move.landing_dir).replace(chr(39), chr(39) * 2)}'")
        move.source.attach(connection, read_only=True, alias=_SOURCE)
        move.target.attach(connection, read_only=False)
        try:
            yield connection
        except duckdb.Error as error:
            raise LakehouseError(
                f"{move.source} could not be moved to {move.target}, which is as it was: {error}"
            ) from error


def _tables(connection: "DuckDBPyConnection", catalog: str) -> list[tuple[str, str]]:
    rows = connection.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = $1 AND NOT internal ORDER BY ALL",
        [catalog],
    ).fetchall()
    return [(schema, table) for schema, table in rows]


def _differing(
    connection: "DuckDBPyConnection", ours: list[tuple[str, str]], theirs: list[tuple[str, str]]
) -> list[str]:
    """The tables that one side lacks, or in which either side has a row that the other has not."""
    found = [f"{schema}.{table}" for schema, table in sorted(set(ours) ^ set(theirs))]
    for schema, table in sorted(set(ours) & set(theirs)):
        one, other = _name(_SOURCE, schema, table), _name(CATALOG, schema, table)
        (rows,) = connection.execute(
            f"SELECT (SELECT COUNT(*) FROM (FROM {one} EXCEPT ALL FROM {other}))"
            f" + (SELECT COUNT(*) FROM (FROM {other} EXCEPT ALL FROM {one}))"
        ).fetchone() or (0,)
        if rows:
            found.append(f"{schema}.{table}")
    return found


def _tell(connection: "DuckDBPyConnection", tables: list[tuple[str, str]], told: Callable[[MovedTable], None]) -> None:
    for schema, table in tables:
        (rows,) = connection.execute(f"SELECT COUNT(*) FROM {_name(CATALOG, schema, table)}").fetchone() or (0,)
        told(MovedTable(f"{schema}.{table}", rows))


def _empty(connection: "DuckDBPyConnection") -> None:
    for schema, view in list(_views(connection, CATALOG)):
        connection.execute(f"DROP VIEW {_name(CATALOG, schema, view)}")
    for schema, table in _tables(connection, CATALOG):
        connection.execute(f"DROP TABLE {_name(CATALOG, schema, table)}")


def _views(connection: "DuckDBPyConnection", catalog: str) -> dict[tuple[str, str], str]:
    """The statement that made each view; what it reads it names in full, with the catalog."""
    rows = connection.execute(
        "SELECT schema_name, view_name, sql FROM duckdb_views() WHERE database_name = $1 AND NOT internal", [catalog]
    ).fetchall()
    return {(schema, view): _as_meant(sql) for schema, view, sql in rows}


def _as_meant(sql: str) -> str:
    """The statement with what databases change in it when they write it down put right.

    DuckDB writes a cross join as a comma, which binds more loosely than the joins behind it; no model has commas. A
    DuckLake names its own tables after what it happens to be attached as.
    """
    import sqlglot
    from sqlglot import exp

    statement = sqlglot.parse_one(sql, dialect="duckdb")
    for join in statement.find_all(exp.Join):
        if not any(join.args.get(part) for part in ("kind", "side", "method", "on", "using")):
            join.set("kind", "CROSS")
    for table in statement.find_all(exp.Table):
        if table.catalog == _SOURCE:
            table.set("catalog", exp.to_identifier(CATALOG))
    return statement.sql(dialect="duckdb")


def _create_views(connection: "DuckDBPyConnection") -> None:
    """Views read each other: those that can't be made yet are tried again after the others."""
    import duckdb

    left = _views(connection, _SOURCE)
    for schema in {schema for schema, _ in left}:
        connection.execute(f'CREATE SCHEMA IF NOT EXISTS {CATALOG}."{schema}"')
    while left:
        made = []
        for (schema, view), sql in left.items():
            # The statement names the view, at most its schema: this says in which catalog.
            connection.execute(f'USE {CATALOG}."{schema}"')
            try:
                connection.execute(sql)
            except duckdb.CatalogException as error:
                failed = error
                continue
            made.append((schema, view))
        if not made:
            raise LakehouseError(f"view {'.'.join(next(iter(left)))} can't be made anew: {failed}; nothing was moved")
        left = {name: sql for name, sql in left.items() if name not in made}
    connection.execute("USE memory")


def _create_macros(connection: "DuckDBPyConnection") -> None:
    schemas = connection.execute(
        "SELECT DISTINCT schema_name FROM duckdb_functions() WHERE database_name = $1 AND function_name = 'psd_asof'",
        [_SOURCE],
    ).fetchall()
    for (schema,) in schemas:
        for statement in asof_macros(f'{CATALOG}."{schema}"'):
            connection.execute(statement)


def _name(catalog: str, schema: str, table: str) -> str:
    return f'{catalog}."{schema}"."{table}"'
