"""A result written to a file or to the clipboard: by this process, from Arrow batches, never through SQL."""

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


class ExportError(MateriaError):
    """A result could not be written where it was wanted."""


def export(spill: "Spill", target: Path, *, overwrite: bool = False) -> int:
    """Write every row of `spill` to `target`, as its ending says: `.csv` or `.parquet`; returns the rows.

    The file appears whole or not at all. Raises ExportError: another ending, a file that is there, no access, a kind
    of value that the file cannot hold.
    """
    import pyarrow as pa

    write = {".csv": _write_csv, ".parquet": _write_parquet}.get(target.suffix.lower())
    if write is None:
        raise ExportError(f"{target} ends in neither .csv nor .parquet; give it one of these endings")
    try:
        target = target.expanduser()
        _require_free(target, overwrite)
        # Each thread writes a file of its own: the same name may be asked for twice.
        partial = target.with_name(f".{target.name}.{os.getpid()}-{threading.get_native_id()}.partial")
        try:
            rows = write(spill, partial)
            _require_free(target, overwrite)  # minutes may have passed
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    except (OSError, RuntimeError, pa.ArrowException) as error:  # RuntimeError: the home of nobody
        raise ExportError(f"{target} could not be written: {error}") from error
    return rows


def _require_free(target: Path, overwrite: bool) -> None:
    if target.exists() and not overwrite:
        raise ExportError(f"{target} exists already; choose another name")


def as_text(spill: "Spill", most_rows: int = CLIPBOARD_ROWS) -> tuple[str, int]:
    """The first rows as tab-separated text with a header, as spreadsheets paste it, and how many they are."""
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
            columns = [_flattened(column, kind) for column, kind in zip(batch.columns, flat.types, strict=True)]
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
    """What a CSV file can hold of this type: lists, structs and maps become text."""
    import pyarrow as pa

    return pa.string() if pa.types.is_nested(kind) or pa.types.is_dictionary(kind) else kind


def _flattened(column: "pa.Array", kind: "pa.DataType") -> "pa.Array":
    import pyarrow as pa

    if column.type == kind:
        return column
    return pa.array([None if value is None else str(value) for value in values_of(column)], pa.string())
