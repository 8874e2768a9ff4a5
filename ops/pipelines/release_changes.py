"""What each served release changed: counts of facts, its largest revisions, and all of them per balance sheet.

Values are embedded in the SQL as literals: binding a parameter makes DuckDB import pandas, which takes a second or
two (see `ServingReader.query`).
"""

import re
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Final, Literal

from dataflows.sql_text import literal

if TYPE_CHECKING:
    import pyarrow as pa

    from dataflows.serving import ServingReader

TIMEOUT_S: Final = 30.0
MOST_REVISIONS: Final = 500

Order = Literal["weight", "share", "size", "name"]
"""The order of revisions.

weight: by the change's share of the world's production of that commodity, so that changes that move a market come
first, independent of unit. Drivers come before what follows from them, and derived attributes (total supply,
beginning stocks, trade years) come after the main ones.
share: by share of the old value. size: by the absolute change. name: by commodity, country and market year.
"""
MAIN_ATTRIBUTES: Final = ("028", "057", "088", "125", "176")
"""Production, trade, consumption, ending stocks: the attributes that USDA estimates rather than derives."""


@dataclass(frozen=True)
class Release:
    """A served release, and how many facts it changed."""

    snapshot_key: str
    released_on: date
    release_month: date
    """Its first day."""
    compared_with: date | None
    """The previous release; None for the first one, which has no changes."""
    facts_new: int
    facts_revised: int
    facts_removed: int
    facts_restated: int


@dataclass(frozen=True)
class CommodityChange:
    """How many facts of a commodity a release changed."""

    commodity_code: str
    commodity_name: str
    facts_new: int
    facts_revised: int
    facts_removed: int
    facts_restated: int

    @property
    def facts(self) -> int:
        return self.facts_new + self.facts_revised + self.facts_removed + self.facts_restated


@dataclass(frozen=True)
class FactKey:
    """Identifies a fact; without a unit, its newest unit applies."""

    commodity_code: str
    country_code: str
    market_year: int
    attribute_id: str
    unit_id: str | None = None


@dataclass(frozen=True)
class SheetKey:
    """Identifies a balance sheet."""

    commodity_code: str
    country_code: str
    market_year: int


@dataclass(frozen=True)
class Revision:
    """A change that a release made to a fact."""

    key: FactKey
    commodity_name: str
    country_name: str
    attribute_name: str
    unit_name: str
    change_kind: str
    previous_market_year: int | None
    previous_value: float | None
    value: float | None
    change: float | None
    weight: float | None
    """The change's share of the world's production in that market year; None without production in that unit."""

    @property
    def share(self) -> float | None:
        """The change divided by the old value; None if that is missing or zero."""
        return self.change / abs(self.previous_value) if self.change is not None and self.previous_value else None


def releases(reader: "ServingReader") -> tuple[Release, ...]:
    """Every release, newest first."""
    return tuple(Release(**row) for row in read_rows(reader, _RELEASES))


def commodity_changes(reader: "ServingReader", released_on: date) -> tuple[CommodityChange, ...]:
    """The number of changes of a release per commodity, largest first; unchanged commodities come last."""
    return tuple(CommodityChange(**row) for row in read_rows(reader, _COMMODITIES.format(day=literal(released_on))))


def revisions(
    reader: "ServingReader", released_on: date, order: Order, commodity_code: str | None = None
) -> tuple[Revision, ...]:
    """The largest changes of a release, at most `MOST_REVISIONS`."""
    return tuple(_revision(row) for row in read_rows(reader, revisions_sql(released_on, order, commodity_code)))


def revisions_sql(
    released_on: date | None,
    order: Order,
    commodity_code: str | None = None,
    words: str = "",
    most: int | None = MOST_REVISIONS,
) -> str:
    """The SQL for a release's revisions; None stands for the newest release, and for no limit.

    `words` is as for `folded_sql`.
    """
    return _REVISIONS.format(
        day=literal(released_on) if released_on else _NEWEST,
        condition=_condition(commodity_code, words),
        order=_ORDERS[order],
        limit=f"LIMIT {most}" if most else "",
    ).strip()


def folded_revisions(
    reader: "ServingReader",
    released_on: date,
    order: Order,
    commodity_code: str | None = None,
    words: str = "",
    unfolded: Collection[SheetKey] = (),
) -> "pa.Table":
    """Every change of a release: the first of each balance sheet with the number of its `facts`.

    A sheet in `unfolded` has a row per change. `words` is as for `folded_sql`; `row_key` identifies the fact.
    """
    sql = folded_sql(released_on, order, commodity_code, words, unfolded)
    return reader.query(sql, timeout_s=TIMEOUT_S).table


def folded_sql(
    released_on: date,
    order: Order,
    commodity_code: str | None = None,
    words: str = "",
    unfolded: Collection[SheetKey] = (),
) -> str:
    """The SQL of `folded_revisions`.

    Each of `words` must be the market year (or lie in a span, `2020-2025`), a part of the commodity's, country's or
    attribute's name, or the code or whole name of a country group; quotes join several words.
    """
    listed = (f"({literal(k.commodity_code)}, {literal(k.country_code)}, {k.market_year:d})" for k in unfolded)
    tuples = ", ".join(sorted(listed))
    return _FOLDED.format(
        day=literal(released_on),
        condition=_condition(commodity_code, words),
        order=f"{_ORDERS[order]}, r.commodity_name, r.country_name, market_year DESC, NOT is_driver, attribute_id",
        unfolded=f"OR (commodity_code, country_code, market_year) IN ({tuples})" if tuples else "",
    ).strip()


def _condition(commodity_code: str | None, words: str) -> str:
    conditions = [f"AND r.commodity_code = {literal(commodity_code)}"] if commodity_code else []
    return " ".join([*conditions, *(f"AND {_word_condition(word)}" for word in _split(words.lower()))])


def _split(words: str) -> list[str]:
    try:
        return shlex.split(words)
    except ValueError:
        return words.replace('"', " ").replace("'", " ").split()  # a quote is not closed yet


def _word_condition(word: str) -> str:
    if years := re.fullmatch(r"([0-9]{4})(?:-([0-9]{4}))?", word):
        return f"r.market_year BETWEEN {years[1]} AND {years[2] or years[1]}"
    return _WORD.format(word=literal(word))


def read_rows(reader: "ServingReader", sql: str) -> Sequence[dict[str, Any]]:
    """The rows of a query as dictionaries."""
    return reader.query(sql, timeout_s=TIMEOUT_S).table.to_pylist()


def _revision(row: dict[str, Any]) -> Revision:
    names = ("commodity_code", "country_code", "market_year", "attribute_id", "unit_id")
    key = FactKey(*(row.pop(name) for name in names))
    return Revision(key, **row)


_RELEASES = """
SELECT r.snapshot_key, r.released_on, r.release_month, r.previous_released_on AS compared_with,
  coalesce(sum(s.facts_new), 0)::BIGINT AS facts_new, coalesce(sum(s.facts_revised), 0)::BIGINT AS facts_revised,
  coalesce(sum(s.facts_removed), 0)::BIGINT AS facts_removed,
  coalesce(sum(s.facts_restated), 0)::BIGINT AS facts_restated
FROM serving.dim_release AS r
LEFT JOIN serving.agg_release_summary AS s USING (released_on)
GROUP BY ALL
ORDER BY r.released_on DESC
"""
_COMMODITIES = """
SELECT commodity_code, commodity.commodity_name, facts_new, facts_revised, facts_removed, facts_restated
FROM serving.agg_release_summary
JOIN serving.dim_commodity AS commodity USING (commodity_code)
WHERE released_on = {day}
ORDER BY facts_new + facts_revised + facts_removed + facts_restated DESC, 2
"""
_NEWEST = "(SELECT max(released_on) FROM serving.dim_release)"
_REVISIONS = """
WITH world AS (
  SELECT commodity_code, market_year, unit_name, value AS produced
  FROM serving.agg_world_balance WHERE attribute_id = '028' AND value > 0
)
SELECT r.commodity_code, r.country_code, r.market_year, r.attribute_id, r.unit_id,
  r.commodity_name, r.country_name, r.attribute_name, r.unit_name,
  change_kind, previous_market_year, previous_value,
  r.value, change, abs(change) / produced AS weight
FROM serving.fct_psd_revision AS r
LEFT JOIN world USING (commodity_code, market_year, unit_name)
WHERE released_on = {day} {condition}
ORDER BY {order}, r.commodity_name, r.country_name, market_year DESC, attribute_id
{limit}
"""
_FOLDED = """
WITH world AS (
  SELECT commodity_code, market_year, unit_name, value AS produced
  FROM serving.agg_world_balance WHERE attribute_id = '028' AND value > 0
), revision AS (
  SELECT r.*, abs(change) / produced AS weight
  FROM serving.fct_psd_revision AS r
  LEFT JOIN world USING (commodity_code, market_year, unit_name)
  WHERE released_on = {day} {condition}
), placed AS (
  SELECT *, row_number() OVER (PARTITION BY commodity_code, country_code, market_year ORDER BY {order}) AS place,
    count(*) OVER (PARTITION BY commodity_code, country_code, market_year) AS facts
  FROM revision AS r
), sheet AS (
  SELECT commodity_code, country_code, market_year, row_number() OVER (ORDER BY {order}) AS sheet_number
  FROM placed AS r WHERE place = 1
)
SELECT commodity_code, country_code, market_year, attribute_id, unit_id, commodity_name, country_name, attribute_name,
  unit_name, change_kind, previous_market_year, previous_value, value, change, weight, is_driver, place, facts,
  concat_ws(' ', commodity_code, country_code, market_year, attribute_id, unit_id) AS row_key
FROM placed JOIN sheet USING (commodity_code, country_code, market_year)
WHERE place = 1 {unfolded}
ORDER BY sheet_number, place
"""
_WORD = """(
  contains(lower(r.commodity_name), {word}) OR contains(lower(r.country_name), {word})
  OR contains(lower(r.attribute_name), {word}) OR EXISTS (
    FROM serving.dim_country_group AS g
    WHERE {word} IN (lower(group_code), lower(group_name)) AND g.country_code = r.country_code
      AND coalesce(g.commodity_code, r.commodity_code) = r.commodity_code
      AND r.market_year BETWEEN coalesce(from_market_year, 0) AND coalesce(to_market_year, 9999)
      AND (g.commodity_code IS NOT NULL OR NOT EXISTS (
        FROM serving.dim_country_group AS own
        WHERE own.group_code = g.group_code AND own.commodity_code = r.commodity_code
      ))
  )
)"""
"""A commodity's own definition of a group replaces the general one."""
_DRIVERS_FIRST: Final = "change_kind <> 'revised', NOT is_driver"
_ORDERS: Final[dict[Order, str]] = {
    "weight": f"{_DRIVERS_FIRST}, attribute_id NOT IN {MAIN_ATTRIBUTES}, weight DESC NULLS LAST,"
    " abs(change) DESC NULLS LAST",
    "share": f"{_DRIVERS_FIRST}, abs(change / nullif(previous_value, 0)) DESC NULLS LAST, abs(r.value) DESC",
    "size": f"{_DRIVERS_FIRST}, abs(change) DESC NULLS LAST, abs(coalesce(r.value, previous_value)) DESC",
    "name": "change_kind = 'restated'",
}
