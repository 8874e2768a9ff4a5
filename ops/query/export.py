"""Writes the rows of a query to a file: CSV, Parquet or an Excel workbook, batch by batch."""

import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from itertools import chain
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from dataflows.errors import ExportError
from ops.query.values import cell_text, values_of

if TYPE_CHECKING:
    import pyarrow as pa

XLSX_MAX_ROWS: Final = 1_048_576
"""Rows of a worksheet, header included; these limits are Excel's own."""
XLSX_MAX_COLUMNS: Final = 16_384
_XLSX_FIRST_DAY: Final = date(1900, 3, 1)
"""Excel counts a 29 February 1900 that did not exist, and has no earlier years: earlier days are written as text."""
_XLSX_MAX_INTEGER: Final = 10**15
"""Excel shows 15 digits: longer integers are written as text."""
_ROW_GROUP_BATCHES: Final = 64


@dataclass(frozen=True)
class Written:
    """A file that was written."""

    path: Path
    rows: int
    size_bytes: int


def write_file(schema: "pa.Schema", batches: "Iterable[pa.RecordBatch]", target: Path, *, overwrite: bool) -> Written:
    """Write every row to `target`; its extension selects the format.

    The rows go to a temporary file beside `target`, which is renamed when it is complete. Raises ExportError for
    another extension, an existing file without `overwrite`, missing access, and values or sizes that the format
    cannot hold.
    """
    import pyarrow as pa

    write = FORMATS.get(target.suffix.lower().removeprefix("."))
    if write is None:
        raise ExportError(f"unsupported file extension: {target}; use .{', .'.join(FORMATS)}")
    try:
        target = target.expanduser()
        _require_free(target, overwrite)
        # A temporary file per thread: two exports may have the same target.
        partial = target.with_name(f".{target.name}.{os.getpid()}-{threading.get_native_id()}.partial")
        try:
            written = Written(target, write(schema, batches, partial), partial.stat().st_size)
            _require_free(target, overwrite)  # minutes may have passed
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    except (OSError, RuntimeError, pa.ArrowException) as error:  # RuntimeError: `~` of an unknown user
        raise ExportError(f"cannot write {target}: {error}") from error
    return written


def _require_free(target: Path, overwrite: bool) -> None:
    if target.exists() and not overwrite:
        raise ExportError(f"{target} exists already; choose another name (`materia export --force` overwrites)")


def _write_csv(schema: "pa.Schema", batches: "Iterable[pa.RecordBatch]", path: Path) -> int:
    import pyarrow as pa
    from pyarrow import csv

    flat = pa.schema([(field.name, _flat(field.type)) for field in schema])
    rows = 0
    with csv.CSVWriter(str(path), flat) as writer:
        for batch in batches:
            columns = [_flatten(column, kind) for column, kind in zip(batch.columns, flat.types, strict=True)]
            writer.write_batch(pa.record_batch(columns, schema=flat))
            rows += batch.num_rows
    return rows


def _write_parquet(schema: "pa.Schema", batches: "Iterable[pa.RecordBatch]", path: Path) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    rows = 0
    with parquet.ParquetWriter(str(path), schema, compression="zstd") as writer:
        pending: list[pa.RecordBatch] = []
        for batch in batches:
            pending.append(batch)
            rows += batch.num_rows
            if len(pending) == _ROW_GROUP_BATCHES:
                writer.write_table(pa.Table.from_batches(pending))
                pending = []
        if pending:
            writer.write_table(pa.Table.from_batches(pending))
    return rows


def _write_xlsx(schema: "pa.Schema", batches: "Iterable[pa.RecordBatch]", path: Path) -> int:
    """Write one worksheet. Text stays text: codes keep their zeros, and nothing becomes a formula or a link."""
    import pyarrow as pa
    from xlsxwriter import Workbook

    if len(schema) > XLSX_MAX_COLUMNS:
        raise ExportError(f"{len(schema):,} columns: a worksheet has at most {XLSX_MAX_COLUMNS:,}; select fewer")
    with TemporaryDirectory(prefix=f"{path.name}-", dir=path.parent) as folder:
        # Rows are written slower than they arrive: too many are refused first, and no query waits for the writer.
        spool = Path(folder, "rows.arrow")
        rows = _spool(schema, batches, spool)
        book = Workbook(path, {"constant_memory": True, "tmpdir": folder, "use_zip64": True})
        sheet = book.add_worksheet()
        sheet.freeze_panes(1, 0)
        sheet.set_column(0, max(len(schema) - 1, 0), 14)  # the default width is too narrow for a date
        formats = {
            date: book.add_format({"num_format": "yyyy-mm-dd"}),
            datetime: book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"}),
        }
        with pa.OSFile(str(spool)) as file:
            values = (zip(*map(values_of, batch.columns), strict=True) for batch in pa.ipc.open_stream(file))
            for row, line in enumerate(chain([schema.names], chain.from_iterable(values))):
                for column, value in enumerate(line):
                    if value is not None and _write_cell(sheet, row, column, value, formats) < 0:
                        raise ExportError(
                            f"the text in row {row:,}, column {schema.names[column]}, exceeds the 32,767 characters of "
                            "a cell; select less of it, or write .csv or .parquet"
                        )
        book.close()
    return rows


def _spool(schema: "pa.Schema", batches: "Iterable[pa.RecordBatch]", path: Path) -> int:
    """Write rows to an Arrow stream and return their number; raises ExportError if a worksheet cannot hold them."""
    import pyarrow as pa

    rows = 0
    with pa.ipc.new_stream(str(path), schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as stream:
        for batch in batches:
            rows += batch.num_rows
            if rows >= XLSX_MAX_ROWS:
                raise ExportError(
                    f"more than {XLSX_MAX_ROWS - 1:,} rows: a worksheet holds {XLSX_MAX_ROWS:,} with its header; "
                    "narrow the query, or write .csv or .parquet"
                )
            stream.write_batch(batch)
    return rows


def _write_cell(sheet: Any, row: int, column: int, value: Any, formats: dict[Any, Any]) -> int:
    """Write one value, as a number, a day or a time where Excel has it, else as text; negative if it is too long."""
    match value:
        case bool():
            return sheet.write_boolean(row, column, value)
        case int() if abs(value) < _XLSX_MAX_INTEGER:
            return sheet.write_number(row, column, value)
        case float() | Decimal() if isfinite(value):
            return sheet.write_number(row, column, value)
        case datetime() if value.tzinfo is None and value.date() >= _XLSX_FIRST_DAY:
            return sheet.write_datetime(row, column, value, formats[datetime])
        case date() if not isinstance(value, datetime) and value >= _XLSX_FIRST_DAY:
            return sheet.write_datetime(row, column, value, formats[date])
        case _:
            return sheet.write_string(row, column, cell_text(value))


def _flat(kind: "pa.DataType") -> "pa.DataType":
    """Return the CSV type of a column: lists, structs and maps become JSON."""
    import pyarrow as pa

    return pa.string() if pa.types.is_nested(kind) or pa.types.is_dictionary(kind) else kind


def _flatten(column: "pa.Array", kind: "pa.DataType") -> "pa.Array":
    import pyarrow as pa

    if column.type == kind:
        return column
    return pa.array([None if value is None else cell_text(value) for value in values_of(column)], pa.string())


FORMATS: "Final[dict[str, Callable[[pa.Schema, Iterable[pa.RecordBatch], Path], int]]]" = {
    "csv": _write_csv,
    "parquet": _write_parquet,
    "xlsx": _write_xlsx,
}
"""The writers by format, which is also the file's extension."""
