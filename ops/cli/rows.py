"""Query results as a text table, CSV or JSON, straight from Arrow, without pandas."""

import csv
from collections.abc import Iterator, Sequence
from io import StringIO
from itertools import chain
from math import isfinite
from typing import TYPE_CHECKING, Any, TextIO

import click

from ops.cli.output import table
from ops.query.values import cell_text, values_of

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_ROWS = 10_000
_MAX_DECIMALS = 6

Row = tuple[Any, ...]


def rows_of(answer: "pa.Table") -> Iterator[Row]:
    """Yield every row as a tuple of Python values; column names may repeat."""
    for batch in answer.to_batches(max_chunksize=_BATCH_ROWS):
        yield from zip(*map(values_of, batch.columns), strict=True)


def text_of(answer: "pa.Table", limit: int) -> str:
    """Format the first `limit` rows as a table, numbers right-aligned, and state how many rows are not shown."""
    rows = list(rows_of(answer.slice(0, limit)))
    if answer.column_names == ["explain_key", "explain_value"]:
        return "\n".join(str(plan).rstrip() for _, plan in rows)
    names = [_one_line(name) for name in answer.column_names]
    columns = [_cells(values) for values in zip(*rows, strict=True)]
    # By index, not by name: column names may repeat.
    indexes = [str(index) for index in range(len(names))]
    right = [index for index, field in zip(indexes, answer.schema, strict=True) if _is_number(field.type)]
    lines = table(indexes, [names, *zip(*columns, strict=True)], right=right).splitlines()[1:]
    hidden_rows = answer.num_rows - len(rows)
    if not rows:
        lines.append("no rows")
    elif hidden_rows:
        more = f"{hidden_rows:,} more {'row' if hidden_rows == 1 else 'rows'}"
        lines.append(f"… {more}; --limit {answer.num_rows} shows all")
    return "\n".join(lines)


def csv_of(answer: "pa.Table", limit: int, file: TextIO) -> None:
    """Write a header and the first `limit` rows as CSV; NULL is an empty field."""
    for row in chain([answer.column_names], rows_of(answer.slice(0, limit))):
        line = StringIO()
        csv.writer(line, lineterminator="\n").writerow(["" if value is None else cell_text(value) for value in row])
        file.write(line.getvalue())


def _cells(values: Sequence[Any]) -> list[str]:
    """The texts of one column; floats get the same number of decimals, so that decimal points align."""
    texts = [_one_line(cell_text(value)) for value in values]
    decimals = max(
        (len(text.partition(".")[2]) for text, v in zip(texts, values, strict=True) if _is_float(v)), default=0
    )
    if 0 < decimals <= _MAX_DECIMALS:
        texts = [f"{v:.{decimals}f}" if _is_float(v) else text for text, v in zip(texts, values, strict=True)]
    return [click.style(text, dim=True) if v is None else text for text, v in zip(texts, values, strict=True)]


def _is_float(value: Any) -> bool:
    return isinstance(value, float) and isfinite(value)


def _is_number(kind: "pa.DataType") -> bool:
    from pyarrow import types

    return types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)


def _one_line(text: str) -> str:
    """Replace control characters and line breaks by spaces."""
    return "".join(char if char.isprintable() else " " for char in text)
