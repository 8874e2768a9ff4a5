"""The report's CSV, `oce-wasde-report-data-YYYY-MM.csv`: a line per figure, all tables below each other."""

import csv
import io
from collections.abc import Iterator
from datetime import date

from dataflows.errors import ReportError
from dataflows.source.wasde.report import (
    Figure,
    Report,
    attribute_of,
    checked,
    known_table,
    market_year,
    number,
    plain,
    region_of,
    report_month,
)

HEADER = (
    "WasdeNumber",
    "ReportDate",
    "ReportTitle",
    "Attribute",
    "ReliabilityProjection",
    "Commodity",
    "Region",
    "MarketYear",
    "ProjEstFlag",
    "AnnualQuarterFlag",
    "Value",
    "Unit",
    "ReleaseDate",
    "ReleaseTime",
    "ForecastYear",
    "ForecastMonth",
)


def parse_csv(data: bytes) -> Report:
    """Read a report. Raises ReportError for a header, table or column that is not known, and for two months in one."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(lines, [])
        if tuple(header) != HEADER:
            raise ReportError(f"moved column: row 1 is {','.join(header)[:200]!r}, not WASDE's header")
        rows = [_record(row, line) for row, line in enumerate(lines, 2) if line]
    except csv.Error as error:
        raise ReportError(f"damaged CSV: {error}") from error
    dates = {(row["ReportDate"], row["ReleaseDate"]) for row in rows}
    if len(dates) != 1:
        raise ReportError(f"it holds {len(dates)} reports, not one")
    ((month, day),) = dates
    try:
        released_on = date.fromisoformat(day)
    except ValueError:
        raise ReportError(f"{day[:40]!r} is no release date") from None
    return checked(report_month(month), released_on, _figures(rows))


def _record(row: int, line: list[str]) -> dict[str, str]:
    if len(line) != len(HEADER):
        raise ReportError(f"moved column: row {row} has {len(line)} fields, not {len(HEADER)}")
    return dict(zip(HEADER, line, strict=True))


def _figures(rows: list[dict[str, str]]) -> Iterator[Figure]:
    for row in rows:
        table = None if row["ReliabilityProjection"] else known_table(row["ReportTitle"])
        if table is None:
            continue
        region, year = region_of(row["Region"]), market_year(row["MarketYear"], table)
        attribute = attribute_of(row["Attribute"], table)
        if _unit(row["Unit"]) != _unit(table.unit):
            raise ReportError(f"{table.title!r} is in {row['Unit']!r}, not {table.unit}")
        if (value := number(row["Value"], f"{table.title}, {region}, {year}")) is not None:
            yield Figure(table.title, region, year, attribute, table.unit, value)


def _unit(text: str) -> str:
    """A unit as it is compared: `Million 480-Pound Bales` is `Million 480 Pound Bales` in the CSV."""
    return plain(text.replace("-", " ").replace("lb.", "Pound")).casefold()
