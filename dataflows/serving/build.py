"""Builds a generation: the lakehouse's serving tables copied into a database file of their own."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dataflows.errors import TransformError
from dataflows.files import raise_if_refused, require_space
from dataflows.lakehouse.stores import LakehouseStore
from dataflows.serving.asof import asof_macros
from dataflows.serving.database import MACROS, TABLE_MACROS
from dataflows.serving.generation import GenerationFacts, WasdeCheck
from dataflows.serving.generation_table import write_generation_table
from dataflows.sql_text import literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SERVING_TABLES = (
    "dim_commodity",
    "dim_country",
    "dim_country_group",
    "dim_attribute",
    "dim_unit",
    "dim_release",
    "fct_psd",
    "fct_psd_revision",
    "fct_uncertain_span",
    "obt_commodity_metrics",
    "agg_world_balance",
    "agg_group_balance",
    "fct_metric",
    "agg_release_summary",
)
"""The tables of schema `serving` that every generation carries."""

WASDE_TABLES = ("fct_wasde", "agg_wasde_check")
"""The tables that a generation carries where WASDE reports are landed: views of the landing's files."""

ALL_TABLES = (*SERVING_TABLES, *WASDE_TABLES)
"""Every table that a generation may carry."""

_SERVED = (
    "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'serving' AND table_name <> 'generation' ORDER BY 1"
)
_CHECKED = """
    SELECT
      strftime(report_released_at, '%Y-%m'),
      format('{} {} {}: PSD {}, WASDE {:.0f} {}', commodity_name, market_year, attribute_name,
        coalesce(format('{:.0f}', psd_value), 'nothing'), wasde_value, unit_name),
      agrees
    FROM serving.agg_wasde_check ORDER BY commodity_code, market_year, attribute_id
"""


def build_generation(
    store: LakehouseStore,
    building_path: Path,
    reports_in: Path | None,
    describe: Callable[["DuckDBPyConnection"], GenerationFacts],
) -> GenerationFacts:
    """Copy the serving tables, their comments and the as-of macros to a new file at `building_path`.

    `reports_in` is the folder of the landing where it has WASDE reports. `describe` is called with the finished tables
    and says what generation they are. On return the file is closed and has no write-ahead log. Raises LakehouseError
    when the lakehouse can't be opened, TransformError when it lacks a table, DiskSpaceError or DiskError when the disk
    refuses to take it.
    """
    import duckdb

    for leftover in (building_path, building_path.with_name(building_path.name + ".wal")):
        leftover.unlink(missing_ok=True)
    connection = None
    try:
        connection = duckdb.connect(str(building_path))
        store.attach(connection, read_only=True)
        require_space(building_path.parent, store.size_bytes(connection) + (64 << 20), "building a generation")
        # One transaction sees one state, also of a lakehouse that other machines write to.
        connection.execute("BEGIN")
        connection.execute("CREATE SCHEMA serving")
        if reports_in is not None:
            connection.execute(f"SET file_search_path = {literal(reports_in)}")
        for table in ALL_TABLES if reports_in is not None else SERVING_TABLES:
            connection.execute(f"CREATE TABLE serving.{table} AS FROM lakehouse.serving.{table}")
            _copy_comments(connection, table)
        connection.execute("COMMIT")
        connection.execute("DETACH lakehouse")
        facts = describe(connection)
        write_generation_table(connection, facts)
        for statement in asof_macros("serving", facts, with_wasde=reports_in is not None):
            connection.execute(statement)
        _comment_macros(connection)
        connection.execute("CHECKPOINT")
    except duckdb.CatalogException as error:
        raise TransformError(f"{store} is not complete: {error}; run `materia pipeline run transform`") from error
    except (duckdb.IOException, duckdb.FatalException) as error:
        raise_if_refused(error, building_path)
        raise TransformError(f"{store} can't be copied: {error}; is it open in another program?") from error
    finally:
        if connection is not None:
            connection.close()
    return facts


def row_counts(connection: "DuckDBPyConnection") -> dict[str, int]:
    """Rows of every serving table of the current database."""
    tables = [name for (name,) in connection.execute(_SERVED).fetchall()]
    union = " UNION ALL ".join(f"SELECT '{table}', COUNT(*) FROM serving.{table}" for table in tables)
    return dict(connection.execute(union).fetchall())


def _comment_macros(connection: "DuckDBPyConnection") -> None:
    for call, comment in MACROS.items():
        name = call.partition("(")[0]
        kind = "MACRO TABLE" if name in TABLE_MACROS else "MACRO"
        connection.execute(f"COMMENT ON {kind} serving.{name} IS {literal(f'{call}: {comment}')}")


def wasde_check(connection: "DuckDBPyConnection") -> WasdeCheck | None:
    """How many world totals of the current database agree with WASDE's; None where no report of the month is landed."""
    if (WASDE_TABLES[1],) not in connection.execute(_SERVED).fetchall():
        return None
    rows = connection.execute(_CHECKED).fetchall()
    month = next((month for month, *_ in rows), None)
    return WasdeCheck(month, len(rows), tuple(name for _, name, agrees in rows if not agrees)) if month else None


def _copy_comments(connection: "DuckDBPyConnection", table: str) -> None:
    comments = connection.execute(
        "SELECT column_name, comment FROM lakehouse.serving.column_comment WHERE table_name = $table", {"table": table}
    ).fetchall()
    for column, comment in comments:
        what = f'COLUMN serving.{table}."{column}"' if column else f"TABLE serving.{table}"
        connection.execute(f"COMMENT ON {what} IS '{comment.replace(chr(39), chr(39) * 2)}'")
