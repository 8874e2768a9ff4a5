"""The queries of the Releases screen against the served tables; each function returns frozen values.

Values are embedded in the SQL as literals: binding a parameter makes DuckDB import pandas, which takes a second or
two (see `ServingReader.query`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Final, Literal

from dataflows.sql_text import literal

if TYPE_CHECKING:
    from dataflows.serving import Answer, ServingReader

TIMEOUT_S: Final = 30.0
MOST_REVISIONS: Final = 500

Order = Literal["weight", "share", "size", "name"]
"""The order of revisions.

weight: by the change's share of the world's production of that commodity, so that changes that move a market come
first, independent of unit. Derived attributes (total supply, beginning stocks, trade years) come after the main ones.
share: by share of the old value. size: by the absolute change. name: by commodity, country and market year.
"""
_MAIN_ATTRIBUTES: Final = ("028", "057", "088", "125", "176")
"""Production, trade, consumption, ending stocks: the attributes that USDA estimates rather than derives."""
Standing = Literal["certain", "uncertain", "unknown", "absent"]
"""What is known of a fact on a day; absent means that USDA's sheet did not contain it."""


@dataclass(frozen=True)
class Release:
    """A served release, and how many facts it changed."""

    released_on: date
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


@dataclass(frozen=True)
class Version:
    """A value that USDA published for a fact, and the days on which it was valid."""

    value: float
    valid_from: date
    valid_to: date | None
    """None while it is current."""
    certain_until: date
    """The last day on which no other value can have been valid."""
    reported_month: date | None


@dataclass(frozen=True)
class FactStory:
    """A fact with its names and all its versions, oldest first."""

    key: FactKey
    commodity_name: str
    country_name: str
    attribute_name: str
    unit_name: str
    versions: tuple[Version, ...]


@dataclass(frozen=True)
class SheetLine:
    """An attribute of a balance sheet: its value on a day, and today."""

    attribute_id: str
    attribute_name: str
    unit_name: str
    standing: Standing
    value: float | None
    """On that day; None where unknown or absent."""
    current: float | None


@dataclass(frozen=True)
class CodeName:
    """A code and its name."""

    code: str
    name: str


def releases(reader: "ServingReader") -> tuple[Release, ...]:
    """Every release, newest first."""
    return tuple(Release(**row) for row in _rows(reader, _RELEASES))


def commodity_changes(reader: "ServingReader", released_on: date) -> tuple[CommodityChange, ...]:
    """The number of changes of a release per commodity, largest first; unchanged commodities come last."""
    return tuple(CommodityChange(**row) for row in _rows(reader, _COMMODITIES.format(day=literal(released_on))))


def revisions(
    reader: "ServingReader", released_on: date, order: Order, commodity_code: str | None = None
) -> tuple[Revision, ...]:
    """The largest changes of a release, at most `MOST_REVISIONS`."""
    return tuple(_revision(row) for row in _rows(reader, revisions_sql(released_on, order, commodity_code)))


def fact_story(reader: "ServingReader", key: FactKey, checked_on: date | None = None) -> FactStory | None:
    """All versions of a fact; None if USDA never published it. `checked_on` is the parameter of the as-of macros."""
    rows = _rows(reader, story_sql(key, checked_on))
    if not rows:
        return None
    first = rows[0]
    names = {name: first[name] for name in ("commodity_name", "country_name", "attribute_name", "unit_name")}
    found = FactKey(key.commodity_code, key.country_code, key.market_year, key.attribute_id, first["unit_id"])
    fields = ("value", "valid_from", "valid_to", "certain_until", "reported_month")
    return FactStory(found, versions=tuple(Version(**{f: row[f] for f in fields}) for row in rows), **names)


def balance_sheet(
    reader: "ServingReader", key: FactKey, day: date, checked_on: date | None = None
) -> tuple[SheetLine, ...]:
    """The balance sheet of `key` on `day`, with today's values; `checked_on` is the parameter of the as-of macros."""
    return tuple(SheetLine(**row) for row in _rows(reader, sheet_sql(key, day, checked_on)))


def commodities(reader: "ServingReader") -> tuple[CodeName, ...]:
    """Every commodity, by name."""
    return _read_codes(
        reader, "SELECT commodity_code AS code, commodity_name AS name FROM serving.dim_commodity ORDER BY 2"
    )


def countries(reader: "ServingReader", commodity_code: str) -> tuple[CodeName, ...]:
    """The countries that have facts of a commodity, by name."""
    return _read_codes(
        reader,
        "SELECT country_code AS code, country_name AS name FROM serving.dim_country WHERE country_code IN"
        f" (SELECT country_code FROM serving.fct_psd WHERE commodity_code = {literal(commodity_code)}) ORDER BY 2",
    )


def market_years(reader: "ServingReader", commodity_code: str, country_code: str) -> tuple[CodeName, ...]:
    """The market years of a commodity in a country, newest first."""
    return _read_codes(
        reader,
        "SELECT DISTINCT market_year::TEXT AS code, code AS name FROM serving.fct_psd"
        f" WHERE commodity_code = {literal(commodity_code)} AND country_code = {literal(country_code)} ORDER BY 1 DESC",
    )


def attributes(
    reader: "ServingReader", commodity_code: str, country_code: str, market_year: int
) -> tuple[CodeName, ...]:
    """The attributes of a balance sheet, in USDA's order."""
    return _read_codes(
        reader,
        "SELECT attribute_id AS code, attribute_name AS name FROM serving.dim_attribute WHERE attribute_id IN"
        f" (SELECT attribute_id FROM serving.fct_psd WHERE commodity_code = {literal(commodity_code)}"
        f" AND country_code = {literal(country_code)} AND market_year = {market_year:d}) ORDER BY 1",
    )


def revisions_sql(released_on: date, order: Order, commodity_code: str | None = None) -> str:
    """Return the SQL for a release's revisions."""
    condition = f"AND r.commodity_code = {literal(commodity_code)}" if commodity_code else ""
    return _REVISIONS.format(
        day=literal(released_on), condition=condition, order=_ORDERS[order], most=MOST_REVISIONS
    ).strip()


def story_sql(key: FactKey, checked_on: date | None = None) -> str:
    """Return the SQL for the versions of a fact."""
    unit = (
        literal(key.unit_id)
        if key.unit_id
        else f"(SELECT max_by(unit_id, valid_from) FROM serving.fct_psd AS fact WHERE {_fact_condition(key, 'fact')})"
    )
    return _STORY.format(of=_fact_condition(key, "f"), unit=unit, checked_on=literal(checked_on)).strip()


def sheet_sql(key: FactKey, day: date, checked_on: date | None = None) -> str:
    """Return the SQL for a balance sheet as of a day."""
    checked = f", checked_on := {literal(checked_on)}" if checked_on else ""
    return _SHEET.format(day=literal(day), checked=checked, sheet=_sheet_condition(key)).strip()


def _fact_condition(key: FactKey, table: str) -> str:
    return f"{_sheet_condition(key, table + '.')} AND {table}.attribute_id = {literal(key.attribute_id)}"


def _sheet_condition(key: FactKey, prefix: str = "") -> str:
    return (
        f"{prefix}commodity_code = {literal(key.commodity_code)} AND {prefix}country_code = {literal(key.country_code)}"
        f" AND {prefix}market_year = {key.market_year:d}"
    )


def _rows(reader: "ServingReader", sql: str) -> Sequence[dict[str, Any]]:
    answer: Answer = reader.query(sql, timeout_s=TIMEOUT_S)
    return answer.table.to_pylist()


def _read_codes(reader: "ServingReader", sql: str) -> tuple[CodeName, ...]:
    return tuple(CodeName(**row) for row in _rows(reader, sql))


def _revision(row: dict[str, Any]) -> Revision:
    names = ("commodity_code", "country_code", "market_year", "attribute_id", "unit_id")
    key = FactKey(*(row.pop(name) for name in names))
    return Revision(key, **row)


_RELEASES = """
SELECT r.released_on, r.previous_released_on AS compared_with,
  coalesce(sum(s.facts_new), 0)::BIGINT AS facts_new, coalesce(sum(s.facts_revised), 0)::BIGINT AS facts_revised,
  coalesce(sum(s.facts_removed), 0)::BIGINT AS facts_removed,
  coalesce(sum(s.facts_restated), 0)::BIGINT AS facts_restated
FROM serving.dim_release AS r
LEFT JOIN serving.agg_release_summary AS s USING (released_on)
GROUP BY r.released_on, r.previous_released_on
ORDER BY r.released_on DESC
"""
_COMMODITIES = """
SELECT commodity_code, commodity_name, facts_new, facts_revised, facts_removed, facts_restated
FROM serving.agg_release_summary
JOIN serving.dim_commodity USING (commodity_code)
WHERE released_on = {day}
ORDER BY facts_new + facts_revised + facts_removed + facts_restated DESC, commodity_name
"""
_REVISIONS = """
WITH world AS (
  SELECT commodity_code, market_year, unit_name, value AS produced
  FROM serving.agg_world_balance WHERE attribute_id = '028' AND value > 0
)
SELECT r.commodity_code, r.country_code, r.market_year, r.attribute_id, r.unit_id,
  commodity_name, country_name, attribute_name, r.unit_name, change_kind, previous_market_year, previous_value,
  r.value, change, abs(change) / produced AS weight
FROM serving.fct_psd_revision AS r
LEFT JOIN world USING (commodity_code, market_year, unit_name)
JOIN serving.dim_commodity USING (commodity_code)
JOIN serving.dim_country USING (country_code)
JOIN serving.dim_attribute USING (attribute_id)
WHERE released_on = {day} {condition}
ORDER BY {order}, commodity_name, country_name, market_year DESC, attribute_id
LIMIT {most}
"""
_ORDERS: Final[dict[Order, str]] = {
    "weight": f"change_kind <> 'revised', attribute_id NOT IN {_MAIN_ATTRIBUTES}, weight DESC NULLS LAST,"
    " abs(change) DESC NULLS LAST",
    "share": "change_kind <> 'revised', abs(change / nullif(previous_value, 0)) DESC NULLS LAST, abs(r.value) DESC",
    "size": "change_kind <> 'revised', abs(change) DESC NULLS LAST, abs(coalesce(r.value, previous_value)) DESC",
    "name": "change_kind = 'restated'",
}
_STORY = """
SELECT commodity_name, country_name, attribute_name, unit_id, unit_name,
  value, valid_from, valid_to, reported_month,
  least(valid_to - 1, greatest(
    last_seen_on,
    CASE WHEN is_wasde_cycle THEN next_release_due - 1 END,
    CASE WHEN last_seen_on = (SELECT max(released_on) FROM serving.dim_release) THEN {checked_on}::DATE - 1 END
  )) AS certain_until
FROM serving.fct_psd AS f
JOIN serving.dim_release AS r ON r.released_on = last_seen_on
JOIN serving.dim_commodity USING (commodity_code)
JOIN serving.dim_country USING (country_code)
JOIN serving.dim_attribute USING (attribute_id)
WHERE {of} AND unit_id = {unit}
ORDER BY valid_from
"""
_SHEET = """
WITH fact AS (
  SELECT attribute_id, unit_id, any_value(unit_name) AS unit_name, min(valid_from) AS known_from,
    max(value) FILTER (valid_to IS NULL) AS current
  FROM serving.fct_psd WHERE {sheet} GROUP BY attribute_id, unit_id
), as_of AS (
  SELECT attribute_id, unit_id, value, certain FROM serving.psd_asof({day}{checked}) WHERE {sheet}
)
SELECT attribute_id, attribute_name, unit_name,
  CASE
    WHEN certain THEN 'certain'
    WHEN NOT certain THEN 'uncertain'
    WHEN known_from > {day} THEN 'unknown'
    ELSE 'absent'
  END AS standing,
  value, current
FROM fact
JOIN serving.dim_attribute USING (attribute_id)
LEFT JOIN as_of USING (attribute_id, unit_id)
ORDER BY attribute_id, unit_id
"""
