"""Selects chart data from a result: a number over days, over another number, or over the row number."""

import math
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final

from ops.query.values import value_of
from tui.query.cells import is_number

if TYPE_CHECKING:
    import pyarrow as pa

    from tui.query.spill import Spill

MOST_POINTS: Final = 2_000
"""Maximum number of points; a screen has fewer columns."""


@dataclass(frozen=True)
class ChartData:
    """Points ordered by x, and their description."""

    x_name: str
    y_name: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    x_kind: str
    """`day`, `year`, `number` or `row`."""
    every: int
    """The sampling interval in rows."""
    series: str
    """The texts that identify the drawn series; empty if there is only one."""


def chart_data(spill: "Spill", row: int, column: int) -> ChartData | None:
    """Return `column` (else the first numeric column that is not a year) over the first day or year column.

    Returns None without a numeric column. If several rows share an x value, only rows with the same texts as `row` are
    drawn.
    """
    y = _value_column(spill.schema, column)
    if y is None:
        return None
    x, x_kind = _axis_column(spill.schema, y)
    every = max(1, -(-spill.row_count // MOST_POINTS))
    points = _points(spill, x, y, range(0, spill.row_count, every), {})
    series: dict[int, str] = {}
    if len({place for place, _ in points}) < len(points):
        series = _texts(spill, row)
        points = _points(spill, x, y, range(0, spill.row_count, every), series)
    points.sort()
    names = spill.schema.names
    return ChartData(
        x_name="row" if x is None else names[x],
        y_name=names[y],
        xs=tuple(x for x, _ in points),
        ys=tuple(y for _, y in points),
        x_kind=x_kind,
        every=every,
        series=", ".join(series.values()),
    )


def _points(spill: "Spill", x: int | None, y: int, rows: range, series: dict[int, str]) -> list[tuple[float, float]]:
    points: list[tuple[float, float]] = []
    for row in rows:
        batch, start = spill.batch_of(row)
        if any(value_of(batch.column(i), row - start) != text for i, text in series.items()):
            continue
        value = _number(value_of(batch.column(y), row - start))
        place = row if x is None else _number(value_of(batch.column(x), row - start))
        if value is not None and place is not None and math.isfinite(value) and math.isfinite(place):
            points.append((float(place), value))
    return points


def _texts(spill: "Spill", row: int) -> dict[int, str]:
    """Return the texts of a row, which identify its series."""
    batch, start = spill.batch_of(row)
    values = ((i, value_of(column, row - start)) for i, column in enumerate(batch.columns))
    return {i: value for i, value in values if isinstance(value, str)}


def _value_column(schema: "pa.Schema", column: int) -> int | None:
    numbers = [i for i, kind in enumerate(schema.types) if is_number(kind)]
    if column in numbers and not _is_year(schema.names[column]):
        return column
    return next((i for i in numbers if not _is_year(schema.names[i])), numbers[0] if numbers else None)


def _axis_column(schema: "pa.Schema", taken: int) -> tuple[int | None, str]:
    import pyarrow.types as types

    for i, kind in enumerate(schema.types):
        if i != taken and (types.is_date(kind) or types.is_timestamp(kind)):
            return i, "day"
    for i, kind in enumerate(schema.types):
        if i != taken and is_number(kind) and (_is_year(schema.names[i]) or i < taken):
            return i, "year" if _is_year(schema.names[i]) else "number"
    return None, "row"


def _is_year(name: str) -> bool:
    return name.lower().endswith("year")


def _number(value: Any) -> float | None:
    if isinstance(value, datetime):
        return value.toordinal() + (value.hour * 3600 + value.minute * 60 + value.second) / 86_400
    if isinstance(value, date):
        return float(value.toordinal())
    return None if value is None or isinstance(value, str) else float(value)
