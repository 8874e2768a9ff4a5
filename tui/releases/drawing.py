"""Formats releases, revisions and balance sheets as table rows."""

from collections.abc import Sequence
from datetime import date, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from ops.host.formatting import change_text, number_text, percent_text
from ops.pipelines.release_changes import CommodityChange, FactKey, Order, Release, SheetKey
from ops.pipelines.release_summary import WORLD, ReleaseSummary
from tui.releases.questions import FactStory, SheetLine, Version
from tui.widgets.table import Cell, Column, LazyRows, Row

if TYPE_CHECKING:
    import pyarrow as pa

ALL = "all"
"""The key of the row for all commodities."""
KINDS = {"revised": ("±", ""), "new": ("+", ""), "removed": ("-", "warn"), "restated": ("⟲", "warn")}
KIND_LEGEND = "± revised  + new  - removed  ⟲ restated  ▸ more of this sheet, u unfolds  ↳ follows from a driver"
STANDINGS = {"certain": ("●", ""), "uncertain": ("◐", "warn"), "unknown": ("?", "quiet"), "absent": ("·", "quiet")}
STANDING_LEGEND = "● certain  ◐ uncertain, dotted in the chart  ? unknown  · not in the sheet"
ORDERS: dict[Order, str] = {
    "weight": "by share of the world's production",
    "share": "by share of the old value",
    "size": "by size",
    "name": "by commodity and country",
}
COMMODITY_COLUMNS = (
    Column("commodity", flexible=True, least=12),
    Column("revised", right=True),
    Column("new", right=True, rank=2),
    Column("removed", right=True, rank=2),
    Column("restated", right=True, rank=1),
)
REVISION_COLUMNS = (
    Column(""),
    Column("", right=True),
    Column("commodity", flexible=True, least=10),
    Column("country", flexible=True, least=10),
    Column("year", right=True),
    Column("attribute", flexible=True, least=12),
    Column("before", right=True, rank=2),
    Column("now", right=True, rank=1),
    Column("change", right=True),
    Column("%", right=True, rank=3),
    Column("% world", right=True, rank=4),
    Column("unit", right=True, rank=5),
)
BALANCE_COLUMNS = (
    Column("commodity", flexible=True, least=14),
    Column("place", flexible=True, least=10),
    Column("attribute", flexible=True, least=12),
    Column("before", right=True, rank=1),
    Column("now", right=True),
    Column("change", right=True),
    Column("%", right=True),
    Column("unit", right=True, rank=2),
)
VERSION_COLUMNS = (
    Column(""),
    Column("from"),
    Column("to"),
    Column("value", right=True),
    Column("change", right=True),
    Column("%", right=True, rank=1),
    Column("certain until", rank=2),
)
SHEET_COLUMNS = (
    Column(""),
    Column("attribute", flexible=True),
    Column("that day", right=True),
    Column("today", right=True),
    Column("since", right=True),
    Column("unit", right=True, rank=1),
)


def number(value: float | None) -> str:
    """Format a value; `·` for None."""
    return number_text(value, "·")


def signed(value: float | None) -> str:
    """Format a change with its sign; empty for None."""
    return "" if value is None else f"+{number(value)}" if value > 0 else number(value)


def percent(share: float | None) -> str:
    """Format a share as a signed percentage; empty for None."""
    if share is None:
        return ""
    return f"{share:+,.1%}".removesuffix("%") if abs(share) < 1 else f"{share:+,.0%}".removesuffix("%")


def world_percent(weight: float | None) -> str:
    """Format a share of the world's production as an unsigned percentage; empty for None."""
    if weight is None:
        return ""
    return f"{100 * weight:.1f}" if weight >= 0.01 else f"{100 * weight:.2f}" if weight >= 0.0001 else "<0.01"


def release_text(release: Release) -> str:
    """Summarize a release in one line."""
    if release.compared_with is None:
        return f"{release.released_on}, the first release: nothing to compare it with"
    counts = (
        (release.facts_revised, "revised"),
        (release.facts_new, "new"),
        (release.facts_removed, "removed"),
        (release.facts_restated, "⟲ restated"),
    )
    changed = ", ".join(f"{count:,} {what}" for count, what in counts if count) or "no changes"
    return f"{release.released_on} against {release.compared_with}: {changed}"


def commodity_rows(changes: Sequence[CommodityChange]) -> list[Row]:
    """Return a row per commodity, below a row for all of them."""
    total = CommodityChange(
        ALL,
        "all",
        *(sum(getattr(change, name) for change in changes) for name in _COUNTS),
    )
    return [_commodity_row(change) for change in (total, *changes)] if changes else []


_COUNTS = ("facts_new", "facts_revised", "facts_removed", "facts_restated")


def _commodity_row(change: CommodityChange) -> Row:
    name = Cell(change.commodity_name, "strong" if change.commodity_code == ALL else "" if change.facts else "quiet")
    restated = Cell(f"⟲ {change.facts_restated:,}", "warn") if change.facts_restated else Cell("0", "quiet")
    cells = (name, _count(change.facts_revised), _count(change.facts_new), _count(change.facts_removed), restated)
    return Row(change.commodity_code, cells)


def _count(count: int) -> Cell:
    return Cell(f"{count:,}", "" if count else "quiet")


def revision_rows(found: "pa.Table", source: object, unfolded: frozenset[SheetKey]) -> LazyRows:
    """Return a row per change of `folded_revisions`; the row's key identifies the fact, `source` the answer."""
    keys = found["row_key"]

    @lru_cache(_KEPT_ROWS)
    def row_at(index: int) -> Row:
        (row,) = found.slice(index, 1).to_pylist()
        return _revision_row(row, is_unfolded=sheet_of_row(row["row_key"]) in unfolded)

    def index_of(key: str) -> int:
        import pyarrow.compute as pc

        return int(pc.index(keys, key).as_py())

    return LazyRows(source, found.num_rows, row_at, index_of)


_KEPT_ROWS: Final = 200


def sheet_of_row(key: str) -> SheetKey:
    """Return the balance sheet of a revision row."""
    commodity_code, country_code, market_year, *_ = key.split()
    return SheetKey(commodity_code, country_code, int(market_year))


def balance_rows(summary: ReleaseSummary | None) -> list[Row]:
    """Return a row per figure of the world and the main exporters; names are not repeated."""
    rows = []
    for balance in summary.balances if summary else ():
        place = head = None
        for figure in balance.figures:
            is_new, is_new_place, place = head is None, figure.place != place, figure.place
            head = head or figure
            tone = "strong" if figure.place == WORLD else ""
            cells = (
                Cell(f"{balance.market_year} {balance.commodity_name}" if is_new else "", "strong"),
                Cell(figure.place if is_new_place else "", tone),
                Cell(figure.attribute_name),
                Cell(number(figure.before), "quiet"),
                Cell(number(figure.now)),
                Cell(change_text(figure.change, "") if figure.change else "", tone),
                Cell(percent_text(figure.change_pct, "") if figure.change else ""),
                Cell(balance.unit_name.strip("()") if is_new_place else "", "quiet"),
            )
            exact = f"{balance.commodity_name} {balance.market_year}, {figure.place}: {balance.unit_name.strip('()')}"
            key = f"{balance.commodity_code}/{balance.market_year}/{balance.unit_name}/{figure.place}"
            rows.append(Row(f"{key}/{figure.attribute_name}", cells, exact))
    return rows


def fact_of_row(key: str) -> FactKey:
    """Return the fact of a revision row."""
    commodity_code, country_code, market_year, attribute_id, unit_id = key.split()
    return FactKey(commodity_code, country_code, int(market_year), attribute_id, unit_id)


def _revision_row(row: dict[str, Any], *, is_unfolded: bool) -> Row:
    glyph, tone = KINDS.get(row["change_kind"], ("?", "quiet"))
    is_first, unit = row["place"] == 1, row["unit_name"]
    share = row["change"] / abs(row["previous_value"]) if row["change"] is not None and row["previous_value"] else None
    exact = f"{row['change_kind']}: {number(row['previous_value'])} → {number(row['value'])} {unit}"
    if weight := world_percent(row["weight"]):
        exact += f", {weight} % of the world's production"
    if row["change_kind"] == "restated":
        exact = f"restated: market year {row['previous_market_year']} → {row['market_year']}, same value"
    more = "" if row["facts"] == 1 or not is_first else "▾" if is_unfolded else f"▸{row['facts'] - 1}"
    names = (row["commodity_name"], row["country_name"], str(row["market_year"])) if is_first else ("",) * 3
    follows = not row["is_driver"] and row["change_kind"] == "revised"
    cells = (
        Cell(glyph, tone),
        Cell(more, "quiet"),
        *map(Cell, names),
        Cell(f"↳ {row['attribute_name']}" if follows else row["attribute_name"], "quiet" if follows else ""),
        Cell(number(row["previous_value"]), "quiet"),
        Cell(number(row["value"])),
        Cell(signed(row["change"])),
        Cell(percent(share)),
        Cell(weight, "quiet"),
        Cell(unit, "quiet"),
    )
    return Row(row["row_key"], cells, exact)


def story_title(story: FactStory) -> str:
    """Return the title of a fact: commodity, country, market year, attribute, unit."""
    return (
        f"{story.commodity_name} · {story.country_name} · market year {story.key.market_year} · "
        f"{story.attribute_name} {story.unit_name}"
    )


def version_rows(versions: Sequence[Version], today: date) -> list[Row]:
    """Return a row per version, newest first; ● where no other value can have been valid in between."""
    rows: list[Row] = []
    previous: Version | None = None
    for version in versions:
        change = version.value - previous.value if previous else None
        share = change / abs(previous.value) if previous and change is not None and previous.value else None
        end = version.valid_to or today + timedelta(days=1)
        to = "today" if version.valid_to is None else str(end - timedelta(days=1))
        texts = (
            str(version.valid_from),
            to,
            number(version.value),
            signed(change),
            percent(share),
            str(version.certain_until or "-"),
        )
        cells = (Cell(*STANDINGS["certain" if version.is_certain(end) else "uncertain"]), *map(Cell, texts))
        rows.append(Row(str(version.valid_from), cells, _stamp(version.reported_month)))
        previous = version
    return rows[::-1]


def _stamp(month: date | None) -> str:
    return f"USDA report month {month:%Y-%m}" if month else "no USDA report month"


def sheet_key(attribute_id: str, unit_name: str) -> str:
    """Return the key of an attribute's row."""
    return f"{attribute_id} {unit_name}"


def sheet_rows(lines: Sequence[SheetLine], drawn: str) -> list[Row]:
    """Return a row per attribute: value on the day, value today, and the change since; `drawn` is the chart's key."""
    rows = []
    for line in lines:
        glyph, tone = STANDINGS[line.standing]
        since = None if line.value is None or line.current is None else line.current - line.value
        value = {"unknown": "unknown", "absent": "·"}.get(line.standing) or number(line.value)
        rows.append(
            Row(
                key := sheet_key(line.attribute_id, line.unit_name),
                (
                    Cell(glyph, tone),
                    Cell(line.attribute_name, "strong" if key == drawn else ""),
                    Cell(value, tone),
                    Cell(number(line.current)),
                    Cell("" if since == 0 else signed(since)),
                    Cell(line.unit_name, "quiet"),
                ),
                line.standing,
            )
        )
    return rows
