"""Formats values for the grid: numbers exact and with separators, text on one line, NULL as a dot."""

import math
import re
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ops.query.values import values_of

if TYPE_CHECKING:
    import pyarrow as pa

NOTHING = "·"
MAX_WIDTH = 44
"""In terminal cells; longer text is cut with an ellipsis and shown whole below the grid."""
_SAMPLE = 64
_UNGROUPED = re.compile(r"(^|_)(year|id|code|number|i)$", re.IGNORECASE)
_IS_QUOTED = re.compile(r"""^$|^\s|\s$|[][{}(),:='"]|^null$""", re.IGNORECASE)
"""Texts that DuckDB quotes inside a list, struct or map."""
_BREAKS = re.compile(r"[\r\n\t\x00-\x1f\x7f]+")


def is_key(name: str) -> bool:
    """Whether a column of this name holds years or identifiers, which are numbers without being measures."""
    return bool(_UNGROUPED.search(name))


def formatter(name: str) -> Callable[[Any], str]:
    """Return the formatter of the column `name`; years and identifiers have no separators."""
    if is_key(name):
        return lambda value: str(value) if isinstance(value, int) and not isinstance(value, bool) else plain(value)
    return plain


def plain(value: Any) -> str:
    """Format `value` as one line of text; floats are exact, without a trailing `.0`."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | Decimal):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,}".removesuffix(".0") if math.isfinite(value) else str(value)
    if isinstance(value, datetime):
        return value.isoformat(" ", "seconds")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes):
        return f"{value[:16].hex()}{'…' if len(value) > 16 else ''} ({len(value)} B)"
    return _BREAKS.sub("⏎", nested_text(value) if isinstance(value, list | dict) else str(value))


def nested_text(value: Any) -> str:
    """Format a list, struct or map, or a value inside one, as DuckDB prints it: `[a, NULL]`, `{'a': 1}`, `{a=1}`."""
    match value:
        case None:
            return "NULL"
        case bool():
            return str(value).lower()
        case dict():
            return "{" + ", ".join(f"{_quoted(str(key))}: {nested_text(each)}" for key, each in value.items()) + "}"
        case [tuple(), *_]:  # Arrow's form of a map
            return "{" + ", ".join(f"{nested_text(key)}={nested_text(each)}" for key, each in value) + "}"
        case list():
            return "[" + ", ".join(map(nested_text, value)) + "]"
        case datetime():
            text = value.isoformat(" ")
        case int() | float() | Decimal() | date():
            return str(value)
        case bytes():
            return value.hex()
        case _:
            text = str(value)
    return _quoted(text) if _IS_QUOTED.search(text) else text


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def is_number(kind: "pa.DataType") -> bool:
    """Whether values of this Arrow type are numbers."""
    import pyarrow.types as types

    return types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)


def natural_width(values: "pa.Array", show: Callable[[Any], str]) -> int:
    """Return the width of the widest value in cells: exact for text, sampled otherwise."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not len(values):
        return 1
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        return pc.max(pc.utf8_length(values)).as_py() or 1
    sample = values_of(values.slice(0, _SAMPLE))
    if is_number(values.type):
        sample += pc.min_max(values).as_py().values()
    return max(len(show(value)) for value in sample)
