"""The as-of macros in generations that are attached side by side."""

from pathlib import Path

import duckdb
import pytest

from dataflows.errors import QueryError
from dataflows.serving import ServingReader
from dataflows.serving.asof import asof_macros
from tests.support.served import serve

MACROS = ("psd_asof", "psd_known", "psd_asof_all", "psd_asof_coverage", "metric_asof")
CALLS = {
    **{macro: (f"{macro}('2025-08-12')", f"{macro}('1900-01-01')") for macro in MACROS},
    "group_asof": ("group_asof('WORLD', '2025-08-12')", "group_asof('WORLD', '1900-01-01')"),
    "estimate_path": ("estimate_path('Wheat', 'US', 2025, '028')", "estimate_path('Wheat', 'US', 1900, '028')"),
}
"""A call of each macro that has rows, and one that has none."""


@pytest.fixture
def attached(tmp_path: Path) -> duckdb.DuckDBPyConnection:
    """Two generations under names of the reader's choice."""
    for number in (1, 2):
        assert serve(tmp_path).number == number
    connection = duckdb.connect()
    for number in (1, 2):
        connection.execute(f"ATTACH '{tmp_path / f'serving-{number}.duckdb'}' AS g{number} (READ_ONLY)")
    return connection


@pytest.mark.parametrize("macro", CALLS)
def test_a_macro_answers_for_its_own_generation_or_not_at_all(attached: duckdb.DuckDBPyConnection, macro: str) -> None:
    """DuckDB binds a macro's tables in the database in USE; without a check it would answer from that one."""
    for number, other in ((1, 2), (2, 1)):
        attached.execute(f"USE g{number}")
        call, empty_call = CALLS[macro]
        assert attached.execute(f"FROM g{number}.serving.{call}").fetchall()
        assert attached.execute(f"FROM serving.{call}").fetchall()
        with pytest.raises(duckdb.Error, match=f"this macro is of generation {other}.*USE its database first"):
            attached.execute(f"FROM g{other}.serving.{call}").fetchall()
        with pytest.raises(duckdb.Error, match="USE its database first"):
            # Nothing stood on that day, and no such commodity is in either.
            attached.execute(
                f"SELECT COUNT(*) FROM g{other}.serving.{empty_call} WHERE commodity_code = '0000000'"
            ).fetchall()


def test_without_use_a_macro_finds_no_tables(attached: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(duckdb.CatalogException, match="does not exist"):
        attached.execute("FROM g1.serving.psd_asof('2025-08-12')")


def test_a_query_that_duckdb_cannot_bind_is_no_damage_of_the_file(tmp_path: Path) -> None:
    """DuckDB 1.5 fails with an internal error on an as-of macro beside a subquery of the days that it is asked for."""
    serve(tmp_path)
    days = "(SELECT DISTINCT DATE '2025-08-12' AS day FROM serving.dim_release) AS days"
    with ServingReader(tmp_path / "serving.duckdb") as reader:
        with pytest.raises(QueryError, match="a fault of its own: INTERNAL Error"):
            reader.query(f"FROM {days}, LATERAL (FROM serving.psd_asof(days.day))")
        assert reader.query("FROM serving.psd_asof('2025-08-12')").table.num_rows > 0


def test_every_fact_is_counted_once(attached: duckdb.DuckDBPyConnection) -> None:
    attached.execute("USE g1")
    facts = "SELECT COUNT(DISTINCT (commodity_code, country_code, market_year, attribute_id, unit_id)) FROM"
    (total,) = attached.execute(f"{facts} serving.fct_psd").fetchone()
    for day in ("1990-01-01", "2025-06-12", "2025-06-13", "2025-07-10", "2025-07-11", "2025-08-12", "2025-09-12"):
        counted = attached.execute(
            f"SELECT SUM(certain + uncertain + unknown + absent) FROM serving.psd_asof_coverage('{day}')"
        ).fetchone()
        assert counted == (total,)


def test_the_check_of_the_generation_adds_no_row(attached: duckdb.DuckDBPyConnection) -> None:
    attached.execute("USE g1")
    for statement in asof_macros("serving"):
        attached.execute(statement.replace("MACRO serving.", "MACRO memory.main."))
    for day in ("2025-06-12", "2025-07-22", "2025-08-12"):
        for call, _ in CALLS.values():
            dated = call.replace("2025-08-12", day)
            ours, plain = (
                attached.execute(f"FROM {schema}.{dated} ORDER BY ALL").fetchall()
                for schema in ("serving", "memory.main")
            )
            assert ours == plain != []
