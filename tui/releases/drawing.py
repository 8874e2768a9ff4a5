"""Formats releases, revisions and balance sheets as table rows."""

from collections.abc import Sequence
from dataclasses import astuple
from datetime import date, timedelta

from ops.host.formatting import number_text
from ops.pipelines.release_changes import CommodityChange, FactKey, Order, Release, Revision
from tui.releases.questions import FactStory, SheetLine, Version
from tui.widgets.table import Cell, Column, Row

ALL = "all"
"""The key of the row for all commodities."""
KINDS = {"revised": ("±", ""), "new": ("+", ""), "removed": ("-", "warn"), "restated": ("⟲", "warn")}
KIND_LEGEND = "± revised  + new  - removed  ⟲ restated"
STANDINGS = {"certain": ("●", ""), "uncertain": ("◐", "warn"), "unknown": ("?", "quiet"), "absent": ("·", "quiet")}
STANDING_LEGEND = "● certain  ◐ uncertain  ? unknown  · not in the sheet"
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
    Column("commodity", flexible=True, least=12),
    Column("country", flexible=True, least=13),
    Column("year", right=True),
    Column("attribute", flexible=True, least=15),
    Column("before", right=True, rank=4),
    Column("now", right=True, rank=1),
    Column("change", right=True),
    Column("%", right=True, rank=3),
    Column("% world", right=True, rank=2),
    Column("unit", right=True, rank=5),
)
VERSION_COLUMNS = (
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


def revision_rows(revisions: Sequence[Revision]) -> list[Row]:
    """Return a row per change; the row's key identifies the fact."""
    return [_revision_row(revision) for revision in revisions]


def fact_of_row(key: str) -> FactKey:
    """Return the fact of a revision row."""
    commodity_code, country_code, market_year, attribute_id, unit_id = key.split()
    return FactKey(commodity_code, country_code, int(market_year), attribute_id, unit_id)


def _revision_row(revision: Revision) -> Row:
    glyph, tone = KINDS.get(revision.change_kind, ("?", "quiet"))
    exact = f"{revision.change_kind}: {number(revision.previous_value)} → {number(revision.value)} {revision.unit_name}"
    if weight := world_percent(revision.weight):
        exact += f", {weight} % of the world's production"
    if revision.change_kind == "restated":
        exact = f"restated: market year {revision.previous_market_year} → {revision.key.market_year}, same value"
    return Row(
        " ".join(str(part) for part in astuple(revision.key)),
        (
            Cell(glyph, tone),
            Cell(revision.commodity_name),
            Cell(revision.country_name),
            Cell(str(revision.key.market_year)),
            Cell(revision.attribute_name),
            Cell(number(revision.previous_value), "quiet"),
            Cell(number(revision.value)),
            Cell(signed(revision.change)),
            Cell(percent(revision.share)),
            Cell(world_percent(revision.weight), "quiet"),
            Cell(revision.unit_name, "quiet"),
        ),
        exact,
    )


def story_title(story: FactStory) -> str:
    """Return the title of a fact: commodity, country, market year, attribute, unit."""
    return (
        f"{story.commodity_name} · {story.country_name} · market year {story.key.market_year} · "
        f"{story.attribute_name} {story.unit_name}"
    )


def version_rows(versions: Sequence[Version]) -> list[Row]:
    """Return a row per version, newest first."""
    rows: list[Row] = []
    previous: Version | None = None
    for version in versions:
        change = version.value - previous.value if previous else None
        share = change / abs(previous.value) if previous and change is not None and previous.value else None
        to = "today" if version.valid_to is None else str(version.valid_to - timedelta(days=1))
        cells = (
            str(version.valid_from),
            to,
            number(version.value),
            signed(change),
            percent(share),
            str(version.certain_until),
        )
        rows.append(Row(str(version.valid_from), tuple(map(Cell, cells)), _stamp(version.reported_month)))
        previous = version
    return rows[::-1]


def _stamp(month: date | None) -> str:
    return f"USDA report month {month:%Y-%m}" if month else "no USDA report month"


def sheet_rows(lines: Sequence[SheetLine]) -> list[Row]:
    """Return a row per attribute: value on the day, value today, and the change since."""
    rows = []
    for line in lines:
        glyph, tone = STANDINGS[line.standing]
        since = None if line.value is None or line.current is None else line.current - line.value
        value = {"unknown": "unknown", "absent": "·"}.get(line.standing) or number(line.value)
        rows.append(
            Row(
                f"{line.attribute_id} {line.unit_name}",
                (
                    Cell(glyph, tone),
                    Cell(line.attribute_name),
                    Cell(value, tone),
                    Cell(number(line.current)),
                    Cell("" if since == 0 else signed(since)),
                    Cell(line.unit_name, "quiet"),
                ),
                line.standing,
            )
        )
    return rows
