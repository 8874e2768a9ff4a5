"""The Releases screen's queries about one fact and its sheet; each function returns frozen values."""

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Literal

from dataflows.sql_text import literal
from ops.pipelines.release_changes import FactKey, read_rows

if TYPE_CHECKING:
    from dataflows.serving import ServingReader

Standing = Literal["certain", "uncertain", "unknown", "absent"]
"""What is known of a fact on a day; absent means that USDA's sheet did not contain it."""


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


def fact_story(reader: "ServingReader", key: FactKey, checked_on: date | None = None) -> FactStory | None:
    """All versions of a fact; None if USDA never published it. `checked_on` is the parameter of the as-of macros."""
    rows = read_rows(reader, story_sql(key, checked_on))
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
    return tuple(SheetLine(**row) for row in read_rows(reader, sheet_sql(key, day, checked_on)))


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


def _read_codes(reader: "ServingReader", sql: str) -> tuple[CodeName, ...]:
    return tuple(CodeName(**row) for row in read_rows(reader, sql))


_STORY = """
SELECT commodity.commodity_name, country.country_name, attribute.attribute_name, unit_id, unit_name,
  value, valid_from, valid_to, reported_month,
  least(valid_to - 1, (
    SELECT min(uncertain_from) - 1 FROM serving.fct_uncertain_span AS s
    WHERE s.commodity_code = f.commodity_code AND reason <> 'unstamped'
      AND (s.country_code IS NULL AND uncertain_from > valid_from
        OR s.country_code = f.country_code AND s.market_year = f.market_year)
      AND (uncertain_to IS NULL OR uncertain_to >= valid_from) AND (valid_to IS NULL OR uncertain_from < valid_to)
  ), greatest(
    last_seen_on,
    CASE WHEN is_wasde_cycle THEN next_release_due - 1 END,
    CASE WHEN last_seen_on = (SELECT max(released_on) FROM serving.dim_release) THEN {checked_on}::DATE - 1 END
  )) AS certain_until
FROM serving.fct_psd AS f
JOIN serving.dim_release AS r ON r.released_on = last_seen_on
JOIN serving.dim_commodity AS commodity USING (commodity_code)
JOIN serving.dim_country AS country USING (country_code)
JOIN serving.dim_attribute AS attribute USING (attribute_id)
WHERE {of} AND unit_id = {unit}
ORDER BY valid_from
"""
_SHEET = """
WITH fact AS (
  SELECT attribute_id, unit_id, any_value(unit_name) AS unit_name, max(value) FILTER (valid_to IS NULL) AS current
  FROM serving.fct_psd WHERE {sheet} GROUP BY attribute_id, unit_id
), as_of AS (
  SELECT attribute_id, unit_id, value, standing FROM serving.psd_asof_all({day}{checked}) WHERE {sheet}
)
SELECT attribute_id, attribute.attribute_name, fact.unit_name, standing, value, current
FROM fact
JOIN as_of USING (attribute_id, unit_id)
JOIN serving.dim_attribute AS attribute USING (attribute_id)
ORDER BY attribute_id, unit_id
"""
