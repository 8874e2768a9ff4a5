"""Compares every table of two lakehouses, regardless of their stores."""

from pathlib import Path

import duckdb

from dataflows.lakehouse.stores import LakehouseStore

SCHEMAS = ("staging", "cleaned", "serving")


def written_out(store: LakehouseStore, path: Path) -> Path:
    """All that the lakehouse's layers show, as plain tables of a file."""
    with duckdb.connect(str(path)) as connection:
        store.attach(connection, read_only=True)
        # A view of the landing's files stands for nothing that the lakehouse holds.
        shown = connection.execute(
            "SELECT schema_name, view_name FROM duckdb_views() WHERE database_name = 'lakehouse'"
            f" AND schema_name IN {SCHEMAS} AND view_name <> 'stg_psdalldata__release'"
        ).fetchall()
        for schema, view in shown:
            connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
            connection.execute(f'CREATE TABLE "{schema}"."{view}" AS FROM lakehouse."{schema}"."{view}"')
    return path


def differences(one: Path, other: Path) -> dict[str, tuple[int, int] | str]:
    """Per table, how many rows each side has that the other lacks; nothing when both hold the very same."""
    found: dict[str, tuple[int, int] | str] = {}
    with duckdb.connect() as connection:
        for path, name in ((one, "one"), (other, "other")):
            connection.execute(f"ATTACH '{path}' AS {name} (READ_ONLY)")
        described = [_columns(connection, name) for name in ("one", "other")]
        assert described[0].keys() == described[1].keys()
        for (schema, table), described_columns in described[0].items():
            name = f'"{schema}"."{table}"'
            if described_columns != described[1][schema, table]:
                found[f"{schema}.{table}"] = "other columns"
                continue
            counts = connection.execute(
                f"SELECT (SELECT COUNT(*) FROM (FROM one.{name} EXCEPT ALL FROM other.{name})),"
                f" (SELECT COUNT(*) FROM (FROM other.{name} EXCEPT ALL FROM one.{name}))"
            ).fetchone()
            assert counts is not None
            if counts != (0, 0):
                found[f"{schema}.{table}"] = counts
    return found


def _columns(connection: duckdb.DuckDBPyConnection, catalog: str) -> dict[tuple[str, str], list[dict[str, str]]]:
    rows = connection.execute(
        "SELECT schema_name, table_name, LIST((column_name, data_type) ORDER BY column_index)"
        " FROM duckdb_columns() WHERE database_name = $1 GROUP BY ALL",
        [catalog],
    ).fetchall()
    return {(schema, table): columns for schema, table, columns in rows}
