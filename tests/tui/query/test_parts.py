"""Tests of the parts of the Query screen that need no terminal."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest

from dataflows.serving import ServingReader
from dataflows.sql_text import identifier, literal
from tui.query.catalog import read_catalog
from tui.query.cells import plain
from tui.query.chart import chart_data
from tui.query.clipboard import as_text
from tui.query.history import KEPT_QUERIES, PastQuery, QueryHistory
from tui.query.session import QuerySession
from tui.query.spill import Spill
from tui.query.sql import View, unique_names, wrap_in_view
from tui.query.window import Window


@pytest.fixture(scope="module")
def reader(served_once: Path) -> Iterator[ServingReader]:
    with ServingReader(served_once / "serving.duckdb") as open_body:
        yield open_body


def test_a_view_survives_comments_semicolons_and_odd_names(reader: ServingReader) -> None:
    sql = 'SELECT 1 AS "a ""b""", 2 AS c; -- done;  '
    assert reader.query(
        wrap_in_view(sql.replace("; -- done;", " -- done"), View('a "b"', condition="c = 2 -- x"))
    ).table.num_rows


@pytest.mark.parametrize("names", [("a", "a"), ("a", "a", "a_1"), ("a_1", "a", "A"), ("a", "a_1", "a", "a")])
def test_duplicate_column_names_are_numbered_as_in_duckdb(reader: ServingReader, names: tuple[str, ...]) -> None:
    sql = "SELECT " + ", ".join(f"{number} AS {name}" for number, name in enumerate(names))
    unique = unique_names(names)
    assert reader.query(f"SELECT * FROM ({sql})").table.schema.names == list(unique)
    for number, name in enumerate(unique):
        assert (
            reader.query(wrap_in_view(sql, View(name, condition=f"{identifier(name)} = {number}"))).table.num_rows == 1
        )


def test_literals_are_quoted_so_that_they_stay_one_value(reader: ServingReader) -> None:
    text = "it's; DROP -- x"
    assert reader.query(f"SELECT {literal(text)} AS text").table.to_pylist() == [{"text": text}]


def test_a_spill_gives_back_every_row_in_order_and_nothing_is_left_behind(tmp_path: Path) -> None:
    schema = pa.schema([("i", pa.int64()), ("kind", pa.dictionary(pa.int8(), pa.string()))])
    spill = Spill(tmp_path / "spills", schema, 1 << 30)
    for start in range(0, 5000, 1000):
        kinds = pa.array([str(i % 3) for i in range(start, start + 1000)]).dictionary_encode().cast(schema.types[1])
        spill.append(pa.record_batch([pa.array(range(start, start + 1000)), kinds], schema=schema))
    for row in (0, 999, 1000, 4999):
        batch, start = spill.batch_of(row)
        assert batch.column(0)[row - start].as_py() == row
        assert batch.column(1)[row - start].as_py() == str(row % 3)
    with pytest.raises(IndexError):
        spill.batch_of(5000)
    assert sum(batch.num_rows for batch in spill.batches()) == 5000
    assert not list((tmp_path / "spills").iterdir())
    spill.close()
    spill.close()


def test_history_is_bounded_keeps_a_query_once_and_passes_over_broken_lines(tmp_path: Path) -> None:
    history = QueryHistory(tmp_path / "state" / "queries.jsonl")
    for number in range(3):
        history.add(PastQuery(f"SELECT {number}", "2025-08-12"))
    with history.path.open("a") as file:
        file.writelines(f'{{"sql": "SELECT {n}", "at": "2025-08-12"}}\n' for n in range(3, KEPT_QUERIES + 5))
    history.add(PastQuery("SELECT 7", "2025-08-13"))
    kept = history.read()
    assert len(kept) == KEPT_QUERIES
    assert [past.at for past in kept if past.sql == "SELECT 7"] == ["2025-08-13"]
    assert history.path.stat().st_mode & 0o077 == 0
    history.path.write_text('half a line\n{"other": 1}\n' + json.dumps({"sql": "SELECT 1", "at": "x"}) + "\n")
    assert history.read() == (PastQuery("SELECT 1", "x"),)


def test_numbers_are_shown_whole_and_texts_on_one_line() -> None:
    assert plain(1234567.25) == "1,234,567.25"
    assert plain(7.0) == "7"
    assert plain(float("nan")) == "nan"
    assert plain("a\nb") == "a⏎b"
    assert plain(None) == "·"


@pytest.mark.parametrize(
    "expression",
    [
        "['a', 'b c', '', NULL]",
        "['it''s', 'x,y', 'NULL', 'null', ' a', 'q\"', 'b\\s', '[x', 'k: v', 'a=b', '(p)']",
        "{'a': 1, 'b c': 'x', 'it''s': NULL}",
        "MAP {'a': 1, 'b,c': 2}",
        "[DATE '2020-01-01', NULL]",
        "[1.5::DOUBLE, 2.0, 1e300, 'nan']",
        "[true, false]",
        "[TIMESTAMP '2020-01-01 10:00:00']",
        "[1.50::DECIMAL(9, 2), 1234567]",
        "[['a'], [NULL], []]",
        "[{'a': [1, 2]}]",
    ],
)
def test_nested_values_are_printed_as_duckdb_prints_them(reader: ServingReader, expression: str) -> None:
    (row,) = reader.query(f"SELECT {expression} AS value, ({expression})::VARCHAR AS text").table.to_pylist()
    assert plain(row["value"]) == row["text"]


def test_completion_offers_the_columns_of_the_tables_in_the_from_clause(reader: ServingReader) -> None:
    catalog = read_catalog(reader)

    def labels(prefix: str, text: str) -> list[str]:
        return [label for (label, _), _ in catalog.words(prefix, text)]

    both = "SELECT m FROM serving.fct_psd AS f JOIN dim_release USING (released_on) WHERE"
    assert labels("m", both)[:1] == ["market_year"] and "release_month" in labels("m", both)
    assert "iso3" not in labels("i", both), "dim_country is in no FROM clause"
    assert "iso3" in labels("i", "SELECT i")
    kinds = dict(label for label, _ in catalog.words("v", both))
    assert kinds["value"] == "DOUBLE" and kinds["valid_from"] == "DATE"
    macro = "SELECT st FROM serving.psd_asof_all(DATE '2025-07-01') AS a"
    assert labels("st", macro)[0] == "standing"
    assert [written for _, written in catalog.members("a.sta", macro)] == ["a.standing"]
    assert [written for _, written in catalog.members("f.valid_t", both)] == ["f.valid_to"]
    assert ("psd_known(day, checked_on)", "macro") in [label for label, _ in catalog.members("serving.psd", "")]


def test_a_chart_of_several_series_draws_that_of_the_row(tmp_path: Path) -> None:
    table = pa.table({"name": ["a", "a", "b", "b"], "market_year": [1, 2, 1, 2], "value": [5.0, 6.0, 7.0, 8.0]})
    spill = Spill(tmp_path, table.schema, 1 << 20)
    spill.append(table.to_batches()[0])
    data = chart_data(spill, 2, 2)
    assert data is not None
    assert (data.xs, data.ys, data.series, data.x_kind) == ((1.0, 2.0), (7.0, 8.0), "b", "year")


ENDLESS_DATES = ("'infinity'::DATE", "'-infinity'::TIMESTAMP", "DATE '20000-01-01'", "DATE '0044-03-15 (BC)'")


@pytest.mark.parametrize("date", ENDLESS_DATES)
def test_a_date_beyond_the_calendar_is_shown_copied_and_found_again(
    reader: ServingReader, tmp_path: Path, date: str
) -> None:
    sql = f"SELECT {date} AS day, 1 AS n, [{date}] AS days"
    table = reader.query(sql).table
    spill = Spill(tmp_path, table.schema, 1 << 20)
    spill.append(table.to_batches()[0])
    shown = Window(spill).texts_at(0, 0, 3)
    assert shown[0] in {"infinity", "-infinity", "20000-01-01", "-0043-03-15"}
    assert as_text(spill)[0].splitlines()[1].startswith(f"{shown[0]}\t1\t")
    assert chart_data(spill, 0, 1) is not None
    if "BC" not in date:
        alike = View(condition=f"day = {literal(shown[0])}")
        assert reader.query(wrap_in_view(sql, alike)).table.num_rows == 1


def test_a_number_equals_its_sql_literal(reader: ServingReader) -> None:
    random = Random(7)
    numbers = [random.random() * 10**k for k in range(-8, 9) for _ in range(40)]
    numbers += [float("inf"), float("-inf"), float("nan"), 1e300, 5e-324, -0.0, 3.46, 52450.0]
    tests = ", ".join(f"'{number!r}'::DOUBLE = {literal(number)}" for number in numbers)
    assert reader.query(f"SELECT list_bool_and([{tests}]) AS equal").table.to_pylist() == [{"equal": True}]


def test_a_chart_leaves_out_what_is_no_number(tmp_path: Path) -> None:
    table = pa.table({"x": [1.0, 2.0, 3.0, float("inf")], "y": [float("nan"), float("inf"), 5.0, 6.0]})
    spill = Spill(tmp_path, table.schema, 1 << 20)
    spill.append(table.to_batches()[0])
    data = chart_data(spill, 0, 1)
    assert data is not None and (data.xs, data.ys) == ((3.0,), (5.0,))


def test_a_history_of_broken_bytes_is_passed_over(tmp_path: Path) -> None:
    history = QueryHistory(tmp_path / "queries.jsonl")
    history.path.write_bytes(b"\xff\xfe\n" + json.dumps({"sql": "SELECT 1", "at": "x"}).encode() + b"\n")
    assert history.read() == (PastQuery("SELECT 1", "x"),)


def test_an_explain_behind_a_comment_is_not_wrapped() -> None:
    statement = "-- the plan\nEXPLAIN (ANALYZE, FORMAT json) SELECT 1"
    assert wrap_in_view(statement, View(sort_column="a")) == statement


def test_the_console_has_priority_over_its_queries(served_once: Path, tmp_path: Path) -> None:
    session = QuerySession(served_once / "serving.duckdb", tmp_path)
    try:
        run = session.new_run("SELECT 1", View())
        session.execute(run)
        assert run.error is None and run.pin is not None
        child = run.pin.sandbox._child.pid
        assert os.getpriority(os.PRIO_PROCESS, child) > os.getpriority(os.PRIO_PROCESS, 0)
        run.close()
    finally:
        session.close()
