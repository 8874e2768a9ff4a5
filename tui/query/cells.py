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
_BREAKS = re.compile(r"[\r\n\t\x00-\x1f\x7f]+")


def formatter(name: str) -> Callable[[Any], str]:
    """Return the formatter of the column `name`; years and identifiers have no separators."""
    if _UNGROUPED.search(name):
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
    return _BREAKS.sub("⏎", str(value))


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
