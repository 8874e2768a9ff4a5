"""What SQLMesh's adapter of Spark does without asking Spark."""

from typing import Any

import pytest
from sqlglot import exp, parse_one
from sqlmesh.core.engine_adapter import SparkEngineAdapter

from dataflows.lakehouse.spark_adapter import DayByDayAdapter

Calls = list[tuple[Any, ...]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Which statement the adapter would have sent, and with which types."""
    found: Calls = []
    monkeypatch.setattr(
        DayByDayAdapter,
        "create_table",
        lambda _, name, types, **__: found.append(
            ("create table", name, {column: each.sql("spark") for column, each in types.items()})
        ),
    )
    monkeypatch.setattr(SparkEngineAdapter, "ctas", lambda _, name, *__, **___: found.append(("ctas", name)))
    return found


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param(
            "SELECT a::DATE, b::DECIMAL(18, 4) AS worth, c::TEXT[] FROM t WHERE FALSE LIMIT 0",
            ("create table", "t", {"a": "DATE", "worth": "DECIMAL(18, 4)", "c": "ARRAY<STRING>"}),
            id="every column is cast",
        ),
        pytest.param("SELECT a::DATE, b + 1 AS next FROM t WHERE FALSE LIMIT 0", ("ctas", "t"), id="one is not cast"),
        pytest.param("SELECT a::DATE FROM t", ("ctas", "t"), id="rows are wanted"),
        pytest.param("SELECT a::DATE FROM t LIMIT 10", ("ctas", "t"), id="some rows are wanted"),
    ],
)
def test_an_empty_table_is_created_from_casts_alone(query: str, expected: tuple[Any, ...], calls: Calls) -> None:
    adapter = object.__new__(DayByDayAdapter)
    parsed = parse_one(query, dialect="duckdb")
    assert isinstance(parsed, exp.Query)
    adapter.ctas("t", parsed)
    assert calls == [expected]
