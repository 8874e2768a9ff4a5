"""Values of a query's result: as Python values, as text and as JSON, straight from Arrow, without pandas."""

import json
from datetime import date, datetime, time
from decimal import Decimal
from math import isfinite
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

_NULL = "NULL"
_INFINITIES = frozenset(sign * ((1 << bits) - 1) for sign in (1, -1) for bits in (31, 63))
"""DuckDB's representation of infinite dates and times."""


def values_of(column: "pa.Array") -> list[Any]:
    """Convert a column to Python values; dates outside Python's range, such as DuckDB's infinity, become text."""
    try:
        return column.to_pylist()
    except (OverflowError, ValueError):
        return [value_of(column, row) for row in range(len(column))]


def value_of(column: "pa.Array", row: int) -> Any:
    """Convert one value of a column, like `values_of`."""
    value = column[row]
    try:
        return value.as_py()
    except (OverflowError, ValueError):
        return _format_beyond_calendar(value)


def _format_beyond_calendar(value: "pa.Scalar") -> str:
    import pyarrow as pa

    if pa.types.is_nested(value.type):
        return f"a {value.type} with a date that is not in the calendar"
    if value.value in _INFINITIES:
        return "infinity" if value.value > 0 else "-infinity"
    return str(value.cast(pa.string()))


def json_text(value: Any) -> str:
    """A value as JSON: decimals are exact numbers, dates are ISO 8601, NaN and infinity are null."""
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
            return str(value)  # mostly integers and text


def number_text(value: float | Decimal) -> str:
    """A number in full precision, without an exponent or a trailing `.0`."""
    if not isfinite(value):
        return str(value)
    if isinstance(value, float):
        return format(Decimal(repr(value)).normalize() + 0, "f") if value else "0"
    return format(value, "f")
