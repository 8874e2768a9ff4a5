"""Exports a result to a file or as clipboard text, from Arrow batches rather than with SQL."""

import csv
import io
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from dataflows.errors import MateriaError
from tui.query.cells import values_of

if TYPE_CHECKING:
    import pyarrow as pa

    from tui.query.spill import Spill

CLIPBOARD_ROWS = 10_000
CLIPBOARD_BYTES = 512 * 1024
"""Terminals drop longer OSC 52 sequences."""


def export(spill: "Spill", target: Path, *, overwrite: bool = False) -> int:
    """Write every row of `spill` to `target`, a `.csv` or `.parquet` file; returns the number of rows.

    The write is atomic. Raises MateriaError for another file extension, an existing file, missing access, and values
    that the format cannot represent.
    """
    import pyarrow as pa

    write = {".csv": _write_csv, ".parquet": _write_parquet}.get(target.suffix.lower())
    if write is None:
        raise MateriaError(f"unsupported file extension: {target}; use .csv or .parquet")
    try:
        target = target.expanduser()
        _require_free(target, overwrite)
        # A temporary file per thread: two exports may have the same target.
        partial = target.with_name(f".{target.name}.{os.getpid()}-{threading.get_native_id()}.partial")
        try:
            rows = write(spill, partial)
            _require_free(target, overwrite)  # minutes may have passed
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    except (OSError, RuntimeError, pa.ArrowException) as error:  # RuntimeError: `~` of an unknown user
        raise MateriaError(f"cannot write {target}: {error}") from error
    return rows


def _require_free(target: Path, overwrite: bool) -> None:
    if target.exists() and not overwrite:
        raise MateriaError(f"{target} exists already; choose another name")


def as_text(spill: "Spill", most_rows: int = CLIPBOARD_ROWS) -> tuple[str, int]:
    """Return the first rows as tab-separated text with a header, and their number."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(spill.schema.names)
    rows = 0
    for batch in spill.batches():
        for row in zip(*(values_of(column) for column in batch.columns), strict=True):
            if rows == most_rows or text.tell() > CLIPBOARD_BYTES:
                return text.getvalue(), rows
            writer.writerow(row)
            rows += 1
    return text.getvalue(), rows


def _write_csv(spill: "Spill", path: Path) -> int:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    flat = pa.schema([(field.name, _flat(field.type)) for field in spill.schema])
    rows = 0
    with arrow_csv.CSVWriter(str(path), flat) as writer:
        for batch in spill.batches():
            columns = [_flatten(column, kind) for column, kind in zip(batch.columns, flat.types, strict=True)]
            writer.write_batch(pa.record_batch(columns, schema=flat))
            rows += batch.num_rows
    return rows


def _write_parquet(spill: "Spill", path: Path) -> int:
    from pyarrow import parquet

    rows = 0
    with parquet.ParquetWriter(str(path), spill.schema, compression="zstd") as writer:
        pending: list[pa.RecordBatch] = []
        for batch in spill.batches():
            pending.append(batch)
            rows += batch.num_rows
            if len(pending) == 64:  # row groups of 131,072 rows
                writer.write_table(_table(pending))
                pending = []
        if pending:
            writer.write_table(_table(pending))
    return rows


def _table(batches: "list[pa.RecordBatch]") -> "pa.Table":
    import pyarrow as pa

    return pa.Table.from_batches(batches)


def _flat(kind: "pa.DataType") -> "pa.DataType":
    """Return the CSV type of a column: lists, structs and maps become text."""
    import pyarrow as pa

    return pa.string() if pa.types.is_nested(kind) or pa.types.is_dictionary(kind) else kind


def _flatten(column: "pa.Array", kind: "pa.DataType") -> "pa.Array":
    import pyarrow as pa

    if column.type == kind:
        return column
    return pa.array([None if value is None else str(value) for value in values_of(column)], pa.string())
