"""The rows of an answer, as a table for people, as CSV, and as JSON; straight from Arrow, without pandas."""

import csv
import json
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from io import StringIO
from itertools import chain
from math import isfinite
from typing import TYPE_CHECKING, Any, TextIO

import click

from ops.cli.output import table

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_ROWS = 10_000
_MOST_DECIMALS = 6
_NULL = "NULL"

Row = tuple[Any, ...]


def rows_of(answer: "pa.Table") -> Iterator[Row]:
    """Every row as Python values, a batch at a time; two columns may bear one name."""
    for batch in answer.to_batches(max_chunksize=_BATCH_ROWS):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def text_of(answer: "pa.Table", limit: int) -> str:
    """The first `limit` rows, aligned: numbers to the right, NULL spelled out, and how many rows are not shown."""
    rows = list(rows_of(answer.slice(0, limit)))
    if answer.column_names == ["explain_key", "explain_value"]:
        return "\n".join(str(plan).rstrip() for _, plan in rows)
    names = [_one_line(name) for name in answer.column_names]
    columns = [_cells(values) for values in zip(*rows, strict=True)]
    # By place and not by name: a query may name two columns alike.
    places = [str(place) for place in range(len(names))]
    right = [place for place, field in zip(places, answer.schema, strict=True) if _is_number(field.type)]
    lines = table(places, [names, *zip(*columns, strict=True)], right=right).splitlines()[1:]
    left_out = answer.num_rows - len(rows)
    if not rows:
        lines.append("no rows")
    elif left_out:
        lines.append(f"… {left_out:,} more {'row' if left_out == 1 else 'rows'}; --limit {answer.num_rows} shows all")
    return "\n".join(lines)


def csv_of(answer: "pa.Table", limit: int, file: TextIO) -> None:
    """Write the first `limit` rows with their heads; NULL is an empty field."""
    for row in chain([answer.column_names], rows_of(answer.slice(0, limit))):
        line = StringIO()
        csv.writer(line, lineterminator="\n").writerow(["" if value is None else cell_text(value) for value in row])
        file.write(line.getvalue())


def json_text(value: Any) -> str:
    """A value as JSON: decimals are exact numbers, dates ISO 8601, what JSON has no number for (NaN) is null."""
    match value:
        case None | bool() | int() | str():
            return json.dumps(value, ensure_ascii=False)
        case float() | Decimal():
            return number_text(value) if isfinite(value) else "null"
        case dict():
            return "{" + ", ".join(f"{json_text(str(key))}: {json_text(each)}" for key, each in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(json_text, value)) + "]"
        case _:
            return json.dumps(cell_text(value), ensure_ascii=False)


def cell_text(value: Any) -> str:
    """A value as text: numbers in full, times in ISO 8601, bytes in hexadecimal, lists and structs as JSON."""
    match value:
        case None:
            return _NULL
        case bool():
            return str(value).lower()
        case float() | Decimal():
            return number_text(value)
        case date() | datetime() | time():
            return value.isoformat()
        case bytes():
            return value.hex()
        case list() | dict():
            return json_text(value)
        case _:
            return str(value)  # whole numbers and text, above all


def number_text(value: float | Decimal) -> str:
    """A number without an exponent or a needless `.0`, as exact as it is."""
    if not isfinite(value):
        return str(value)
    if isinstance(value, float):
        return format(Decimal(repr(value)).normalize() + 0, "f") if value else "0"
    return format(value, "f")


def _cells(values: Sequence[Any]) -> list[str]:
    """The texts of one column; numbers with a fraction get the same number of decimals, so that points align."""
    texts = [_one_line(cell_text(value)) for value in values]
    decimals = max(
        (len(text.partition(".")[2]) for text, v in zip(texts, values, strict=True) if _is_float(v)), default=0
    )
    if 0 < decimals <= _MOST_DECIMALS:
        texts = [f"{v:.{decimals}f}" if _is_float(v) else text for text, v in zip(texts, values, strict=True)]
    return [click.style(text, dim=True) if v is None else text for text, v in zip(texts, values, strict=True)]


def _is_float(value: Any) -> bool:
    return isinstance(value, float) and isfinite(value)


def _is_number(kind: "pa.DataType") -> bool:
    from pyarrow import types

    return types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)


def _one_line(text: str) -> str:
    """What a terminal shows on one line and obeys nothing of."""
    return "".join(char if char.isprintable() else " " for char in text)
