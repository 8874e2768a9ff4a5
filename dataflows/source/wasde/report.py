"""A WASDE report: what its world tables say, checked against the tables and columns that are known.

The tables, their columns and their units are listed in seeds of the transform, which maps them to PSD's codes. A report
with another table or column is refused, because a figure in a wrong column cannot be recognised later.
"""

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path

from dataflows.errors import ReportError, SettingsError
from dataflows.source.release import Month
from dataflows.source.release_dates import USUAL_DAY, last_listed_month, usda_release_times

DATASET = "wasde"
"""The name of this source in the landing."""

MAX_REPORT_BYTES = 32 << 20
"""Eight times the largest report known."""

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
NO_VALUE = ("", "NA", "--", "-")
"""What a cell holds for which USDA publishes no figure."""

_SEEDS = Path(__file__).resolve().parents[3] / "transform" / "sqlmesh_materia" / "seeds"
_FOOTNOTE = re.compile(r"\s*(?:\b\d/|(?<!\d)/\d)(?=\s|$)")
_OTHER_TABLES = re.compile(r"U\.\s?S\. |World and U\.\s?S\.? |Mexico Sugar|Reliability of ", re.IGNORECASE)
"""How the titles of the tables begin that are not read: in US units, sums of other tables, statistics of errors."""
_YEAR = re.compile(r"((?:19|20)\d\d)/(\d\d)\b.*")
_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?")
_SMALL = re.compile(r"\d/")
"""A footnote in place of a figure: cotton, less than 5,000 bales."""
_BALANCED = ("World Wheat Supply and Use", "World Corn Supply and Use")
"""The tables in whose world rows use is stocks + production - stocks in all 178 reports of 2010 to 2025."""
_TOLERANCE = 0.035
"""Three rounded figures of two decimals."""


@dataclass(frozen=True)
class Table:
    """A table that is read: its unit and the attributes of its columns, in their order."""

    title: str
    unit: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Figure:
    """A printed figure of a world table; `value` is a decimal number as text, in the table's unit."""

    title: str
    region: str
    market_year: int
    attribute: str
    unit: str
    value: str


@dataclass(frozen=True)
class Report:
    """A checked report."""

    month: Month
    released_on: date | None
    """The day that the report itself names; XML names only the month."""
    figures: tuple[Figure, ...]


def plain(label: str) -> str:
    """A printed label without footnote marks, line breaks and doubled spaces."""
    return " ".join(_FOOTNOTE.sub(" ", " ".join(label.split())).split())


def known_table(title: str) -> Table | None:
    """The table of a title; None for one that is not read. Raises ReportError for an unknown one."""
    wanted = plain(re.sub(r"\(Cont'?d?\.?\)", "", title))
    if table := _tables().get(wanted.casefold()):
        return table
    if _OTHER_TABLES.match(wanted):
        return None
    raise ReportError(f"unknown table {wanted!r}")


def attribute_of(label: str, table: Table) -> str:
    """The attribute of a column's label. Raises ReportError for a column that the table does not have."""
    attribute = _columns().get(plain(label).casefold())
    if attribute not in table.columns:
        raise ReportError(f"unknown column {plain(label)!r} in {table.title!r}")
    return attribute


def market_year(label: str, table: Table) -> int:
    """The year in which a market year such as `2021/22 Proj.` begins."""
    found = _YEAR.fullmatch(plain(label))
    if found is None or (int(found[1]) + 1) % 100 != int(found[2]):
        raise ReportError(f"{plain(label)!r} is no market year in {table.title!r}")
    return int(found[1])


def region_of(label: str) -> str:
    """A printed region, spelled as the transform knows it: capitals differ from page to page."""
    name = plain(label)
    return _regions().get(name.casefold(), name)


def number(text: str, where: str) -> str | None:
    """A printed figure as a decimal number; None where USDA publishes none, 0 where it is too small to be printed."""
    value = text.strip()
    if value in NO_VALUE:
        return None
    if _SMALL.fullmatch(value):
        return "0"
    if not _NUMBER.fullmatch(value):
        raise ReportError(f"{value[:40]!r} is no figure ({where})")
    return value.replace(",", "")


def report_month(text: str) -> Month:
    """The month of `September 2021`."""
    name, _, year = " ".join(text.split()).partition(" ")
    try:
        return Month.parse(f"{year}-{MONTHS.index(name[:3].title()) + 1:02d}")
    except (ValueError, SettingsError):
        raise ReportError(f"{text[:40]!r} is no report month") from None


def checked(month: Month, released_on: date | None, figures: Iterable[Figure]) -> Report:
    """The report, if every table is whole: one figure per cell, three market years, every column in every row."""
    found = tuple(figures)
    values: dict[tuple[str, int, str], dict[str, str]] = {}
    for each in found:
        row = values.setdefault((each.title, each.market_year, each.region), {})
        if each.attribute in row:
            raise ReportError(f"two figures for one cell: {_cell(each)}")
        row[each.attribute] = each.value
    if missing := [table.title for table in _tables().values() if not any(key[0] == table.title for key in values)]:
        raise ReportError(f"the table {missing[0]!r} is missing")
    for table in _tables().values():
        years = sorted({year for title, year, _ in values if title == table.title})
        if years != list(range(years[0], years[0] + 3)) or not month.year - 4 <= years[0] < month.year:
            raise ReportError(f"{table.title!r} has the market years {years}, not three in a row up to {month}")
    headings = set()
    for (title, year, region), row in values.items():
        lacking = set(_tables()[title.casefold()].columns) - row.keys()
        if lacking and not any(map(float, row.values())):  # such as `Selected Other`, a line with one zero
            headings.add((title, year, region))
        elif lacking:
            raise ReportError(f"moved column: {title!r} has no {'/'.join(sorted(lacking))} for {region} {year}")
        elif region == "World" and title in _BALANCED:
            gap = sum(float(row[id]) * sign for id, sign in (("020", 1), ("028", 1), ("125", -1), ("176", -1)))
            if abs(gap) > _TOLERANCE:
                raise ReportError(f"moved column: {title!r} of {year} does not balance, by {gap:.2f}")
    kept = (each for each in found if (each.title, each.market_year, each.region) not in headings)
    return Report(month, released_on, tuple(kept))


def released_at(report: Report, name: str, served_on: date | None = None) -> datetime:
    """When USDA released a report, Washington's time: by the report itself, its calendar, or the day it was served.

    `name` is the file's name: of two reports of a month, one whose name ends in `v2` is the second. Where the calendar
    lists one, a minute is added for each version, so that a correction comes after what it corrects. Raises ReportError
    for a month in which USDA released none.
    """
    times = usda_release_times(report.month)
    if not times:
        if report.month <= last_listed_month():
            raise ReportError(f"USDA released no report in {report.month}")
        day = report.released_on or served_on or date(report.month.year, report.month.month, USUAL_DAY)
        times = (datetime(day.year, day.month, day.day, 12),)
    suffix = re.search(r"v([1-9])\.\w+$", name, re.IGNORECASE)
    version = int(suffix[1]) if suffix else 1
    return times[min(version, len(times)) - 1] + timedelta(minutes=max(version - len(times), 0))


def unmapped_regions(report: Report) -> tuple[str, ...]:
    """The regions of a report that the transform does not map to a country or group of PSD; their figures stay raw."""
    return tuple(sorted({each.region for each in report.figures} - set(_regions().values())))


def _cell(figure: Figure) -> str:
    return f"{figure.title}, {figure.region}, {figure.market_year}, {figure.attribute}"


@cache
def _tables() -> Mapping[str, Table]:
    rows = _seed("wasde_tables.csv")
    return {row["title"].casefold(): Table(row["title"], row["unit"], tuple(row["columns"].split())) for row in rows}


@cache
def _columns() -> Mapping[str, str]:
    return {row["label"].casefold(): row["attribute_id"] for row in _seed("wasde_columns.csv")}


@cache
def _regions() -> Mapping[str, str]:
    return {row["region"].casefold(): row["region"] for row in _seed("wasde_regions.csv")}


def _seed(name: str) -> list[dict[str, str]]:
    with (_SEEDS / name).open(newline="") as file:
        return list(csv.DictReader(file))
