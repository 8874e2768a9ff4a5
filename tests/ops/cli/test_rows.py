import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from ops.cli.rows import csv_of, rows_of, text_of
from ops.query.values import cell_text, json_text


def test_numbers_stand_to_the_right_and_their_points_align() -> None:
    answer = pa.table({"name": ["corn", None], "value": [1234.5, 10.25], "year": [2025, None], "none": [None, 1.0]})
    assert text_of(answer, 50).splitlines() == [
        "name    value  year  none",
        "corn  1234.50  2025  NULL".replace("NULL", "\x1b[2mNULL\x1b[0m"),
        "NULL    10.25  NULL     1".replace("NULL", "\x1b[2mNULL\x1b[0m"),
    ]


def test_rows_beyond_a_limit_are_counted() -> None:
    answer = pa.table({"n": list(range(2_000))})
    assert text_of(answer, 1).splitlines() == ["n", "0", "… 1,999 more rows; --limit 2000 shows all"]
    assert text_of(answer, 1_999).splitlines()[-1] == "… 1 more row; --limit 2000 shows all"
    assert "more" not in text_of(answer, 2_000)


def test_no_rows_still_show_their_heads() -> None:
    assert text_of(pa.table({"a": pa.array([], pa.int32()), "b": []}), 50).splitlines() == ["a  b", "no rows"]


def test_two_columns_of_one_name_keep_their_values() -> None:
    answer = pa.Table.from_arrays([pa.array([1]), pa.array(["x"])], names=["a", "a"])
    assert list(rows_of(answer)) == [(1, "x")]
    assert text_of(answer, 5).splitlines() == ["a  a", "1  x"]


def test_a_terminal_obeys_nothing_of_a_cell() -> None:
    shown = text_of(pa.table({"\x1b[31mred": ["a\nb\x1b]0;title\x07"]}), 50)
    assert "\x1b" not in shown and len(shown.splitlines()) == 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (7, "7"),
        (Decimal("12.5000"), "12.5000"),
        (Decimal("123456789012345678901234567890"), "123456789012345678901234567890"),
        (0.1, "0.1"),
        (1e-7, "0.0000001"),
        (15173.0, "15173"),
        (float("nan"), "null"),
        (float("inf"), "null"),
        (date(2026, 3, 1), '"2026-03-01"'),
        (datetime(2026, 3, 1, 12, tzinfo=UTC), '"2026-03-01T12:00:00+00:00"'),
        ('say "corn"', '"say \\"corn\\""'),
        (b"\x00\xff", '"00ff"'),
        ([1, None, {"a": Decimal("0.10")}], '[1, null, {"a": 0.10}]'),
    ],
)
def test_a_value_is_json_without_losing_anything(value: object, text: str) -> None:
    assert json_text(value) == text
    json.loads(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "NULL"),
        (False, "false"),
        (2021, "2021"),
        (-0.5, "-0.5"),
        (1e22, "10000000000000000000000"),
        (float("-inf"), "-inf"),
        (date(2026, 3, 1), "2026-03-01"),
        ([Decimal("1.0"), "x"], '[1.0, "x"]'),
    ],
)
def test_a_value_is_text_in_full(value: object, text: str) -> None:
    assert cell_text(value) == text


def test_csv_quotes_what_needs_it_and_leaves_null_empty() -> None:
    answer = pa.table({"name": ["Oil, Palm", None, ""], "value": [1.0, 2.5, None]})
    file = io.StringIO()
    csv_of(answer, 3, file)
    assert file.getvalue() == 'name,value\n"Oil, Palm",1\n,2.5\n,\n'
