"""The report's XML: one `Report` element per printed page, one `matrixN` per side-by-side table, labels as attributes.

The names of elements and attributes end in numbers that differ from page to page and year to year, and columns are
wrapped in elements of formatting. Each figure is a `Cell`; the elements around it name its table, row and column.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from xml.parsers import expat

from dataflows.errors import ReportError
from dataflows.source.release import Month
from dataflows.source.wasde.report import (
    MONTHS,
    Figure,
    Report,
    Table,
    attribute_of,
    checked,
    known_table,
    market_year,
    number,
    plain,
    region_of,
    report_month,
)

_MAX_DEPTH = 64
"""Four times the depth of a report."""


@dataclass(frozen=True)
class _Place:
    """What the elements around a cell say of it."""

    table: Table | None = None
    month: Month | None = None
    year: str = ""
    region: str = ""
    attribute: str = ""
    forecast_month: str = ""


@dataclass(frozen=True)
class _Cell:
    place: _Place
    text: str


def parse_xml(data: bytes) -> Report:
    """Read a report. Raises ReportError for XML that is damaged, declares entities or a DOCTYPE, or has an unknown
    table, a moved column or figures that do not balance."""
    cells: list[_Cell] = []
    places, months = [_Place()], set()

    def start(_: str, attributes: dict[str, str]) -> None:
        if len(places) > _MAX_DEPTH:
            raise ReportError(f"its elements are nested more than {_MAX_DEPTH} deep")
        place = _inside(places[-1], attributes)
        places.append(place)
        if place.month:
            months.add(place.month)
        for name, text in attributes.items():
            if place.table and _base(name) == "cell_value":
                cells.append(_Cell(place, text))

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: places.pop()
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.EntityDeclHandler = _refuse_doctype
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise ReportError(f"damaged XML: {error}") from error
    if len(months) != 1:
        raise ReportError(f"its pages are of {len(months)} months, not of one" if months else "it is no WASDE report")
    (month,) = months
    current = [cell for cell in cells if _is_current(cell.place, month)]
    return checked(month, None, _figures(current))


def _refuse_doctype(*_: object) -> None:
    raise ReportError("it has a DOCTYPE or declares entities, which USDA's reports never do")


def _base(name: str) -> str:
    return name.rstrip("0123456789")


def _inside(place: _Place, attributes: dict[str, str]) -> _Place:
    """The place within an element."""
    if "sub_report_title" in attributes:
        table = known_table(attributes["sub_report_title"])
        if table and plain(attributes.get("sub_report_subtitle", "")).strip("()") != table.unit:
            raise ReportError(f"{table.title!r} is in {attributes.get('sub_report_subtitle')!r}, not {table.unit}")
        place = _Place(table, report_month(attributes.get("Report_Month", "")))
    for name, text in attributes.items() if place.table else ():
        match _base(name):
            case "region_header" | "market_year":
                place = replace(place, year=text)
            case "region":
                place = replace(place, region=region_of(text))
            case "attribute":
                place = replace(place, attribute=text)
            case "forecast_month":
                place = replace(place, forecast_month=text.strip())
    return place


def _is_current(place: _Place, month: Month) -> bool:
    """Whether a figure is this report's: beside each projection stands that of the report before."""
    return place.forecast_month[:3].title() in ("", MONTHS[month.month - 1])


def _figures(cells: list[_Cell]) -> Iterator[Figure]:
    """The figures, after a check that each row has the table's columns in their order."""
    rows: dict[tuple[str, int, str], list[str]] = {}
    for cell in cells:
        table = cell.place.table
        assert table is not None  # only cells of a table are kept
        year, attribute = market_year(cell.place.year, table), attribute_of(cell.place.attribute, table)
        where = f"{table.title}, {cell.place.region}, {year}"
        columns = rows.setdefault((table.title, year, cell.place.region), [])
        columns.append(attribute)
        if tuple(columns) != table.columns[: len(columns)]:
            raise ReportError(f"moved column: {plain(cell.place.attribute)!r} in {where}")
        if (value := number(cell.text, where)) is not None:
            yield Figure(table.title, cell.place.region, year, attribute, table.unit, value)
