"""A report in a zip of its own, as it lies in the landing, and its figures as Parquet.

The landing keeps zips: they carry a CRC, and a report of 2 MB needs 70 KB.
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path

from dataflows.errors import ReportError
from dataflows.source.psd_zip import ZIP_DAMAGE, Contents, open_member
from dataflows.source.wasde.csv import parse_csv
from dataflows.source.wasde.report import MAX_REPORT_BYTES, Report
from dataflows.source.wasde.xml import parse_xml

_FIRST_DAY_OF_ZIP = (1980, 1, 1, 0, 0, 0)


def parse(data: bytes, name: str) -> Report:
    """Read a report in either form. Raises ReportError, naming it, for what is none or is not as USDA prints it."""
    try:
        if len(data) > MAX_REPORT_BYTES:
            raise ReportError(f"more than {MAX_REPORT_BYTES >> 20} MiB; USDA's reports are far smaller")
        start = data[:256].removeprefix(b"\xef\xbb\xbf").lstrip()
        return parse_xml(data) if start.startswith(b"<") else parse_csv(data)
    except ReportError as error:
        raise ReportError(f"{error} ({name}); no report was landed") from error


def pack(data: bytes, name: str, zip_path: Path) -> None:
    """Write a report to a zip that depends on the report and its name only."""
    with zipfile.ZipFile(zip_path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name, _FIRST_DAY_OF_ZIP), data, zipfile.ZIP_DEFLATED)


def unpack(zip_path: Path, member: str, rows_path: Path) -> Contents:
    """Verify a packed report and write its figures as Parquet. Raises ReportError naming the file."""
    name, data = unpacked(zip_path)
    if name != member:
        raise ReportError(f"{zip_path} contains {name!r}, not {member!r}; restore it from a backup")
    report = parse(data, member)
    _write_rows(report, rows_path)
    return Contents(member=member, row_count=len(report.figures), written_on=None)


def unpacked(zip_path: Path) -> tuple[str, bytes]:
    """The name and the bytes of a packed report. Raises ReportError for a damaged zip."""
    reports = list(reports_in(zip_path))
    if len(reports) != 1:
        raise ReportError(f"{zip_path} contains {len(reports)} files, not 1; restore it from a backup")
    return reports[0]


def reports_in(zip_path: Path) -> Iterator[tuple[str, bytes]]:
    """The names and the bytes of all files in a zip. Raises ReportError for a damaged zip."""
    try:
        with zipfile.ZipFile(zip_path) as archive:
            for info in archive.infolist():
                yield info.filename, _bytes(archive, info)
    except ZIP_DAMAGE as error:
        raise ReportError(f"{zip_path} is damaged: {error}; restore it from a backup") from error


def _bytes(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with open_member(archive, info) as file:
        return file.read(MAX_REPORT_BYTES + 1)


def _write_rows(report: Report, rows_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "title": [each.title for each in report.figures],
        "region": [each.region for each in report.figures],
        "market_year": [str(each.market_year) for each in report.figures],
        "attribute_id": [each.attribute for each in report.figures],
        "unit": [each.unit for each in report.figures],
        "value": [each.value for each in report.figures],
    }
    pq.write_table(pa.table(columns), rows_path, compression="zstd")
