"""How a value looks in a grid: numbers exact and grouped, right-aligned; text plain; nothing as a dash."""

import math
import re
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

NOTHING = "·"
MAX_WIDTH = 44
"""Cells; longer text ends in an ellipsis, and is whole in the cell's own line below the grid."""
_SAMPLE = 64
_UNGROUPED = re.compile(r"(^|_)(year|id|code|number|i)$", re.IGNORECASE)
_BREAKS = re.compile(r"[\r\n\t\x00-\x1f\x7f]+")


def formatter(name: str) -> Callable[[Any], str]:
    """How the column `name` shows its values; years and identifiers without separators."""
    if _UNGROUPED.search(name):
        return lambda value: str(value) if isinstance(value, int) and not isinstance(value, bool) else plain(value)
    return plain


def plain(value: Any) -> str:
    """One line of text for `value`; floats exactly, without an idle `.0`."""
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
    """About how many cells the widest of `values` takes: exact for text, sampled for the rest."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not len(values):
        return 1
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        return pc.max(pc.utf8_length(values)).as_py() or 1
    sample = values.slice(0, _SAMPLE).to_pylist()
    if is_number(values.type):
        sample += pc.min_max(values).as_py().values()
    return max(len(show(value)) for value in sample)
