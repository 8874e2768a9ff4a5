"""A PSD zip: checked byte by byte, and turned into the Parquet that the transform reads."""

import codecs
import errno
import io
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import IO, TYPE_CHECKING

from dataflows.errors import LandingError, SnapshotError
from dataflows.files import disk_errors, require_space
from dataflows.sql_text import literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

COLUMNS = (
    "Commodity_Code",
    "Commodity_Description",
    "Country_Code",
    "Country_Name",
    "Market_Year",
    "Calendar_Year",
    "Month",
    "Attribute_ID",
    "Attribute_Description",
    "Unit_ID",
    "Unit_Description",
    "Value",
)
"""The header of every PSD file since at least 2021 (read off real files)."""

MAX_CSV_BYTES = 4 << 30
"""Twenty times the largest file known; beyond it a zip is a bomb, not a release."""

ZIP_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, ValueError, OverflowError)
"""What reading a broken, truncated or exotic zip raises."""

_ENCRYPTED = 0x1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Python inflates these in bounded pieces; the others would unpack a bomb in memory."""

_CHUNK_BYTES = 1 << 20
_MAX_READ_BYTES = 2 << 20
"""Larger than any read of `zipfile` for a valid release, smaller than a directory of millions of members."""
_MAX_LINE_BYTES = 1 << 16
_ROWS_SHOWN = 5
_PADDING = b"\r\n\x1a"
"""What may follow the last row: line ends, and Ctrl-Z, the end-of-file mark of DOS programs."""
_REFUSED_BYTES = (
    (b"\0", "holds a NUL byte"),
    (b"\x1a", "contains an end-of-file mark (Ctrl-Z) before further rows"),
    # The last column is never empty, and DuckDB silently ignores surplus empty fields.
    *((empty + end, "ends in an empty field") for empty in (b",", b'""') for end in (b"\n", b"\r")),
)
"""Bytes that no row may contain, and why. Errors that DuckDB notices are located only after it reports them."""

_NAME = r"[\p{L}\p{M}\p{N}\p{P}\p{S}\p{Zs}]+"
"""Printable text of any script: no control or format characters, no line or paragraph separators."""
_MAX_NAME_CHARACTERS = 200
_FORM_OF = {
    "commodity_code": r"[0-9]{7}",
    "commodity_description": _NAME,
    "country_code": r"[A-Z0-9]{2}",
    "country_name": _NAME,
    "market_year": r"(19|20)[0-9]{2}",
    "calendar_year": r"(19|20)[0-9]{2}",
    "month": r"0[0-9]|1[0-2]",
    "attribute_id": r"[0-9]{3}",
    "attribute_description": _NAME,
    "unit_id": r"[0-9]{2}",
    "unit_description": _NAME,
    "value": r"-?[0-9]{1,13}(\.[0-9]{1,4})?",
}
"""The format of each field. The stable key of a fact relies on this format of the codes."""


@dataclass(frozen=True)
class Contents:
    """The contents of a verified zip."""

    member: str
    row_count: int
    written_on: date | None
    """The member's date inside the zip, if it has one: the day USDA wrote the file."""


def unpack(zip_path: Path, member: str, rows_path: Path) -> Contents:
    """Verify a zip (structure, CRC, header, every field, one row per fact) and write its rows as Parquet.

    The Parquet holds the twelve columns in snake_case, all text, in the file's order. Raises SnapshotError naming
    file and row, which is its line in the CSV (the header is row 1); then `rows_path` does not exist.
    """
    csv_path = rows_path.with_suffix(".csv")
    try:
        written_on, line_count = _inflate(zip_path, member, csv_path)
        row_count = _to_parquet(zip_path, csv_path, line_count, rows_path)
    except BaseException:
        rows_path.unlink(missing_ok=True)
        raise
    finally:
        csv_path.unlink(missing_ok=True)
    return Contents(member=member, row_count=row_count, written_on=written_on)


def _inflate(zip_path: Path, member: str, csv_path: Path) -> tuple[date | None, int]:
    """Write the member to `csv_path`; returns its date and how many lines follow the header."""
    try:
        with disk_errors(csv_path), _BoundedReads(zip_path) as file, zipfile.ZipFile(file) as archive:
            info = _only_csv(archive, zip_path, member)
            require_space(csv_path.parent, info.file_size * 5 // 4, f"unpacking {zip_path.name}")
            with open_member(archive, info) as source, csv_path.open("wb") as target:
                line_count = _copy_counting_lines(source, target, zip_path)
                if source.tell() != info.file_size:
                    raise EOFError(f"{source.tell()} bytes unpacked, {info.file_size} announced")
            return _written_on(info), line_count
    except ZIP_DAMAGE as error:
        raise SnapshotError(f"{zip_path} is damaged: {error}; it was not landed, extract again") from error


class _BoundedReads(io.FileIO):
    """A file that refuses large reads: `zipfile` reads a whole directory, however large the zip declares it."""

    def read(self, size: int | None = -1) -> bytes:
        wanted = _MAX_READ_BYTES + 1 if size is None or size < 0 else size
        piece = super().read(min(wanted, _MAX_READ_BYTES + 1)) or b""
        if len(piece) > _MAX_READ_BYTES:
            raise zipfile.BadZipFile("its directory is too large for a release")
        return piece


def open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    """Open a member; raises one of ZIP_DAMAGE for an encrypted or exotically packed one, or a wrong position."""
    if info.flag_bits & _ENCRYPTED or info.compress_type not in _METHODS:
        raise zipfile.BadZipFile("it is encrypted or packed in a way that USDA does not use")
    try:
        return archive.open(info)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise EOFError("its directory points outside of the file") from error


def _written_on(info: zipfile.ZipInfo) -> date | None:
    try:
        return date(*info.date_time[:3])
    except ValueError:  # some tools write no date, as month 0
        return None


def _only_csv(archive: zipfile.ZipFile, zip_path: Path, member: str) -> zipfile.ZipInfo:
    tables = [info for info in archive.infolist() if info.filename.lower().endswith(".csv") and not _is_metadata(info)]
    if [info.filename for info in tables] != [member]:
        found = ", ".join(repr(info.filename) for info in archive.infolist()[:5]) or "nothing"
        raise SnapshotError(f"{zip_path} must contain one table, {member!r}; it contains {found}")
    if tables[0].file_size > MAX_CSV_BYTES:
        raise SnapshotError(f"{zip_path} would unpack to {tables[0].file_size / 1e9:.1f} GB; PSD files are far smaller")
    return tables[0]


def _is_metadata(info: zipfile.ZipInfo) -> bool:
    """Whether a member is macOS metadata: a file's name without its data."""
    folder, _, name = info.filename.rpartition("/")
    return folder.split("/")[0] == "__MACOSX" and name.startswith("._")


def _copy_counting_lines(source: IO[bytes], target: IO[bytes], zip_path: Path) -> int:
    """Copy a CSV as UTF-8, without a byte order mark and without padding at its end; returns how many rows it has.

    Checks the header, and that the rest is text in lines. The count is our own, not the CSV reader's.
    """
    header = source.readline(_MAX_LINE_BYTES).removeprefix(codecs.BOM_UTF8)
    names = header.rstrip(_PADDING)
    if names.decode("ascii", "replace").split(",") != list(COLUMNS):
        shown = header[:200].decode("ascii", "backslashreplace").rstrip()
        raise SnapshotError(f"{zip_path}: row 1 is not PSD's header but {shown!r}")
    target.write(names)
    # A line end is copied with the next row, so that bytes after the last row are omitted.
    line_count, kept = 0, header[len(names) :]
    while chunk := source.read(_CHUNK_BYTES):
        text = b"".join((kept, chunk, source.readline(_MAX_LINE_BYTES)))
        if text[0] not in _PADDING:
            raise SnapshotError(f"{zip_path}: row {line_count + 1} is longer than {_MAX_LINE_BYTES} bytes")
        rows = text.rstrip(_PADDING)
        kept = text[len(rows) :]
        if refused := _refuse(rows):
            at, why = refused
            row = line_count + 1 + rows.count(b"\n", 0, at + 1)
            raise SnapshotError(f"{zip_path}: row {row} {why}")
        target.write(rows if rows.isascii() else _as_utf8(rows, line_count, zip_path))
        line_count += rows.count(b"\n")
        if len(kept) > _MAX_LINE_BYTES:
            raise SnapshotError(f"{zip_path}: {len(kept)} bytes of padding after row {line_count + 1}")
    return line_count


def _refuse(rows: bytes) -> tuple[int, str] | None:
    """The position of the first forbidden bytes, and why they are refused."""
    found = [(at, why) for what, why in _REFUSED_BYTES if (at := rows.find(what)) >= 0]
    if not found and rows.endswith((b",", b'""')):
        return len(rows) - 1, "ends in an empty field"
    return min(found, default=None)


def _as_utf8(rows: bytes, line_count: int, zip_path: Path) -> bytes:
    """Rows in UTF-8 or Windows-1252, as UTF-8; each row on its own, for hardly any text is valid in both."""
    lines = rows.split(b"\n")
    for index, line in enumerate(lines):
        try:
            line.decode()
        except UnicodeDecodeError:
            try:
                lines[index] = line.decode("cp1252").encode()
            except UnicodeDecodeError as error:
                row, byte = line_count + 1 + index, line[error.start]
                raise SnapshotError(
                    f"{zip_path}: row {row} is neither UTF-8 nor Windows-1252: it contains the byte 0x{byte:02X}"
                ) from error
    return b"\n".join(lines)


def _to_parquet(zip_path: Path, csv_path: Path, line_count: int, rows_path: Path) -> int:
    import duckdb

    with _csv_table(csv_path) as connection:
        try:
            connection.execute(f"COPY line TO {literal(rows_path)} (FORMAT parquet, COMPRESSION zstd)")
            connection.execute(f"CREATE VIEW landed AS SELECT * FROM read_parquet({literal(rows_path)})")
            row_count = connection.execute("SELECT COUNT(*) FROM landed").fetchall()[0][0]
        except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
            raise LandingError(f"{rows_path} can't be written: {str(error).splitlines()[0]}") from error
        except duckdb.Error as error:
            raise SnapshotError(
                f"{zip_path}: not a CSV as USDA writes them: {_csv_reason(str(error), csv_path)}"
            ) from error
        if row_count == 0:
            raise SnapshotError(f"{zip_path}: the table is empty")
        _check_forms(connection, zip_path)
        if row_count != line_count:
            where = _odd_line(csv_path) or f"{line_count} lines were read as {row_count} rows"
            raise SnapshotError(f"{zip_path}: {where}")
        _check_one_row_a_fact(connection, zip_path)
    return row_count


def _csv_reason(message: str, csv_path: Path) -> str:
    """The reason and the row, from DuckDB's message: a copy of the line, the reason, possible fixes."""
    if line := re.search(r"CSV Error on Line: (\d+)", message):
        reason = [line for line in re.split("Possible (?:fixes|Solution)", message)[0].splitlines() if line.strip()][-1]
        return f"row {line[1]}: {reason[:200]}"
    return _odd_line(csv_path) or message.splitlines()[0]


def _odd_line(csv_path: Path) -> str | None:
    """The first line that is empty (DuckDB skips it) or contains a carriage return (DuckDB cannot read it)."""
    with csv_path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            text = line.removesuffix(b"\n").removesuffix(b"\r")
            if not text:
                return f"row {number} is empty, and more rows follow"
            if b"\r" in text:
                return f"row {number} contains a carriage return that is not a line end"
    return None


@contextmanager
def _csv_table(csv_path: Path) -> Iterator["DuckDBPyConnection"]:
    """A connection with the view `line`: the CSV, every column text. Nothing is guessed from the data."""
    import duckdb

    columns = ", ".join(f"'{name.lower()}': 'VARCHAR'" for name in COLUMNS)
    connection = duckdb.connect()
    spill_path = csv_path.with_suffix(".spill")
    try:
        connection.execute(f"SET temp_directory={literal(spill_path)}")
        connection.execute(
            f"CREATE VIEW line AS SELECT * FROM read_csv({literal(csv_path)}, auto_detect=false, header=true, "
            f"columns={{{columns}}}, delim=',', quote='\"', escape='\"', "
            f"nullstr='', max_line_size={_MAX_LINE_BYTES})"
        )
        yield connection
    finally:
        connection.close()
        shutil.rmtree(spill_path, ignore_errors=True)


def _check_forms(connection: "DuckDBPyConnection", zip_path: Path) -> None:
    """Look at the distinct values of each column, which are few; find the row only when one is wrong."""
    for column, form in _FORM_OF.items():
        wrong = connection.execute(
            f"SELECT {column} FROM (SELECT DISTINCT {column} FROM landed)"
            # The pattern is written out: DuckDB compiles a parameter again for every row.
            f" WHERE {column} IS NULL OR NOT regexp_full_match({column}, '{form}')"
            f" OR length({column}) > {_MAX_NAME_CHARACTERS} LIMIT 1"
        ).fetchall()
        if wrong:
            row = connection.execute(
                f"SELECT row FROM (SELECT row_number() OVER () + 1 AS row, {column} FROM landed)"
                f" WHERE {column} IS NOT DISTINCT FROM ? LIMIT 1",
                [wrong[0][0]],
            ).fetchall()[0][0]
            wanted = (
                f"printable text of 1 to {_MAX_NAME_CHARACTERS} characters" if form is _NAME else f"of the form {form}"
            )
            raise SnapshotError(f"{zip_path}: row {row}: {column} is {wrong[0][0]!r}, not {wanted}")


def _check_one_row_a_fact(connection: "DuckDBPyConnection", zip_path: Path) -> None:
    key = "commodity_code, country_code, market_year, attribute_id, unit_id"
    twice = connection.execute(
        f"SELECT {key}, COUNT(*) FROM landed GROUP BY {key} HAVING COUNT(*) > 1 ORDER BY {key} LIMIT 1"
    ).fetchall()
    if twice:
        *fact, count = twice[0]
        found = connection.execute(
            f"SELECT row FROM (SELECT row_number() OVER () + 1 AS row, {key} FROM landed)"
            f" WHERE ({key}) = (?, ?, ?, ?, ?) ORDER BY row LIMIT {_ROWS_SHOWN}",
            fact,
        ).fetchall()
        rows = ", ".join(str(row) for (row,) in found) + (", …" if count > _ROWS_SHOWN else "")
        raise SnapshotError(f"{zip_path}: the fact {' '.join(fact)} is in {count} rows, not one: rows {rows}")
