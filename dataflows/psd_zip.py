"""A PSD zip: checked byte by byte, and turned into the Parquet that the transform reads."""

import errno
import io
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
from dataflows.files import disk_trouble, require_space

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

_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, ValueError, OverflowError)
"""What reading a broken, truncated or exotic zip raises."""

_ENCRYPTED = 0x1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Python inflates these in bounded pieces; the others would unpack a bomb in memory."""

_CHUNK_BYTES = 1 << 20
_MAX_READ_BYTES = 2 << 20
"""More than any read that `zipfile` makes of a sound release, and less than a directory of millions of members."""
_MAX_LINE_BYTES = 1 << 16
_EMPTY_ENDINGS = tuple(empty + end for empty in (b",", b'""') for end in (b"\n", b"\r"))
"""How a row ends in an empty field. The last column is never empty, and DuckDB passes over empty fields too many."""

_FORM_OF = {
    "commodity_code": r"[0-9]{7}",
    "commodity_description": r"[ -~]{1,200}",
    "country_code": r"[A-Z0-9]{2}",
    "country_name": r"[ -~]{1,200}",
    "market_year": r"(19|20)[0-9]{2}",
    "calendar_year": r"(19|20)[0-9]{2}",
    "month": r"0[0-9]|1[0-2]",
    "attribute_id": r"[0-9]{3}",
    "attribute_description": r"[ -~]{1,200}",
    "unit_id": r"[0-9]{2}",
    "unit_description": r"[ -~]{1,200}",
    "value": r"-?[0-9]{1,13}(\.[0-9]{1,4})?",
}
"""What a field looks like. The stable key of a fact relies on the codes being of this form."""


@dataclass(frozen=True)
class Contents:
    """What a verified zip holds."""

    member: str
    row_count: int
    written_on: date | None
    """The member's date inside the zip, if it has one: the day USDA made the file."""


def unpack(zip_path: Path, member: str, rows_path: Path) -> Contents:
    """Verify a zip whole (structure, CRC, header, every field, one row a fact) and write its rows as Parquet.

    The Parquet holds the twelve columns in snake_case, all text, in the file's order. Raises SnapshotError
    naming file and row; then `rows_path` does not exist.
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
        with disk_trouble(csv_path), _Sips(zip_path) as file, zipfile.ZipFile(file) as archive:
            info = _only_csv(archive, zip_path, member)
            require_space(csv_path.parent, info.file_size * 5 // 4, f"unpacking {zip_path.name}")
            with _opened(archive, info) as source, csv_path.open("wb") as target:
                line_count = _copy_counting_lines(source, target, zip_path)
                if target.tell() != info.file_size:
                    raise EOFError(f"{target.tell()} bytes unpacked, {info.file_size} announced")
            return _written_on(info), line_count
    except _DAMAGE as error:
        raise SnapshotError(f"{zip_path} is damaged: {error}; it was not landed, extract again") from error


class _Sips(io.FileIO):
    """A file that is read in small pieces only: `zipfile` reads a directory at once, however large it says it is."""

    def read(self, size: int | None = -1) -> bytes:
        wanted = _MAX_READ_BYTES + 1 if size is None or size < 0 else size
        piece = super().read(min(wanted, _MAX_READ_BYTES + 1)) or b""
        if len(piece) > _MAX_READ_BYTES:
            raise zipfile.BadZipFile("its directory is too large for a release")
        return piece


def _opened(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
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
    tables = [info for info in archive.infolist() if info.filename.lower().endswith(".csv")]
    if [info.filename for info in tables] != [member]:
        found = ", ".join(repr(info.filename) for info in archive.infolist()[:5]) or "nothing"
        raise SnapshotError(f"{zip_path} should hold one table, {member!r}; it holds {found}")
    if tables[0].flag_bits & _ENCRYPTED or tables[0].compress_type not in _METHODS:
        raise SnapshotError(f"{zip_path} is encrypted or packed in a way that USDA does not use")
    if tables[0].file_size > MAX_CSV_BYTES:
        raise SnapshotError(
            f"{zip_path} would unpack to {tables[0].file_size / 1e9:.1f} GB; no PSD file comes near that"
        )
    return tables[0]


def _copy_counting_lines(source: IO[bytes], target: IO[bytes], zip_path: Path) -> int:
    """Copy a CSV; checks the header and that it is text in lines. The count is our own, not the CSV reader's."""
    header = source.readline(_MAX_LINE_BYTES)
    if header.rstrip(b"\r\n").decode("ascii", "replace").split(",") != list(COLUMNS):
        shown = header[:200].decode("ascii", "backslashreplace").rstrip()
        raise SnapshotError(f"{zip_path}: row 1 is not PSD's header but {shown!r}")
    target.write(header)
    line_count, tail_bytes, seam = 0, 0, b""
    while chunk := source.read(_CHUNK_BYTES):
        if b"\0" in chunk:
            raise SnapshotError(f"{zip_path}: a NUL byte after row {line_count + 1}")
        seam += chunk
        if found := [at for ending in _EMPTY_ENDINGS if (at := seam.find(ending)) >= 0]:
            row = line_count + 2 + seam.count(b"\n", len(seam) - len(chunk), min(found))
            raise SnapshotError(f"{zip_path}: row {row} ends in an empty field")
        seam = seam[-2:]
        target.write(chunk)
        newlines = chunk.count(b"\n")
        line_count += newlines
        tail_bytes = len(chunk) - chunk.rfind(b"\n") - 1 if newlines else tail_bytes + len(chunk)
        if tail_bytes > _MAX_LINE_BYTES:
            raise SnapshotError(f"{zip_path}: row {line_count + 2} is longer than {_MAX_LINE_BYTES} bytes")
    if seam.endswith((b",", b'""')):
        raise SnapshotError(f"{zip_path}: row {line_count + 2} ends in an empty field")
    return line_count + (1 if tail_bytes else 0)


def _to_parquet(zip_path: Path, csv_path: Path, line_count: int, rows_path: Path) -> int:
    import duckdb

    with _csv_table(csv_path) as connection:
        try:
            connection.execute(f"COPY line TO {_quoted(rows_path)} (FORMAT parquet, COMPRESSION zstd)")
            connection.execute(f"CREATE VIEW landed AS SELECT * FROM read_parquet({_quoted(rows_path)})")
            row_count = connection.execute("SELECT COUNT(*) FROM landed").fetchall()[0][0]
        except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
            raise LandingError(f"{rows_path} can't be written: {str(error).splitlines()[0]}") from error
        except duckdb.Error as error:
            reason = str(error).splitlines()[0]
            raise SnapshotError(f"{zip_path}: not a CSV as USDA writes them: {reason}") from error
        if row_count == 0:
            raise SnapshotError(f"{zip_path}: the table is empty")
        if row_count != line_count:
            raise SnapshotError(f"{zip_path}: {line_count} lines were read as {row_count} rows")
        _check_forms(connection, zip_path)
        _check_one_row_a_fact(connection, zip_path)
    return row_count


@contextmanager
def _csv_table(csv_path: Path) -> Iterator["DuckDBPyConnection"]:
    """A connection with the view `line`: the CSV, every column text. Nothing is guessed from the data."""
    import duckdb

    columns = ", ".join(f"'{name.lower()}': 'VARCHAR'" for name in COLUMNS)
    connection = duckdb.connect()
    spill_path = csv_path.with_suffix(".spill")
    try:
        connection.execute(f"SET temp_directory={_quoted(spill_path)}")
        connection.execute(
            f"CREATE VIEW line AS SELECT * FROM read_csv({_quoted(csv_path)}, auto_detect=false, header=true, "
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
            # The pattern is written out: DuckDB compiles a parameter anew for every row.
            f" WHERE {column} IS NULL OR NOT regexp_full_match({column}, '{form}') LIMIT 1"
        ).fetchall()
        if wrong:
            row = connection.execute(
                f"SELECT row FROM (SELECT row_number() OVER () + 1 AS row, {column} FROM landed)"
                f" WHERE {column} IS NOT DISTINCT FROM ? LIMIT 1",
                [wrong[0][0]],
            ).fetchall()[0][0]
            raise SnapshotError(f"{zip_path}: row {row}: {column} is {wrong[0][0]!r}, not of the form {form}")


def _check_one_row_a_fact(connection: "DuckDBPyConnection", zip_path: Path) -> None:
    key = "commodity_code, country_code, market_year, attribute_id, unit_id"
    twice = connection.execute(
        f"SELECT {key}, COUNT(*) FROM landed GROUP BY {key} HAVING COUNT(*) > 1 ORDER BY {key} LIMIT 1"
    ).fetchall()
    if twice:
        *fact, count = twice[0]
        raise SnapshotError(f"{zip_path}: the fact {' '.join(fact)} stands in {count} rows, not one")


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
