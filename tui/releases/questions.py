"""The Releases screen's queries about one fact and its sheet; each function returns frozen values."""

from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from dataflows.sql_text import literal
from ops.pipelines.release_changes import FactKey, read_rows

if TYPE_CHECKING:
    from dataflows.serving import ServingReader

Standing = Literal["certain", "uncertain", "unknown", "absent"]
"""What is known of a fact on a day; absent means that USDA's sheet did not contain it."""


@dataclass(frozen=True)
class Piece:
    """The days from `start` to the next piece of a version: `psd_asof` gives the same `certain` on each of them."""

    start: date
    certain: bool


@dataclass(frozen=True)
class Version:
    """A value that USDA published for a fact, and the days on which it was valid."""

    value: float
    valid_from: date
    valid_to: date | None
    """None while it is current."""
    reported_month: date | None
    pieces: tuple[Piece, ...]
    """In order, the first from `valid_from` on; neighbours differ in `certain`."""

    @property
    def certain_until(self) -> date | None:
        """The last day up to which no other value can have been valid; None if already the first day is uncertain."""
        if not self.pieces[0].certain:
            return None
        end = self.pieces[1].start if len(self.pieces) > 1 else self.valid_to
        return end - timedelta(days=1) if end else None

    def is_certain(self, until: date) -> bool:
        """Whether no other value can have been valid on any day of the version before `until`."""
        return all(piece.certain for piece in self.pieces if piece.start < until)


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
    versions = groupby(rows, key=lambda row: row["valid_from"])
    return FactStory(found, versions=tuple(_version([*pieces]) for _, pieces in versions), **names)


def _version(rows: list[dict[str, Any]]) -> Version:
    changes = groupby(rows, key=lambda row: row["certain"])
    pieces = tuple(Piece(next(group)["since"], certain) for certain, group in changes)
    return Version(
        **{name: rows[0][name] for name in ("value", "valid_from", "valid_to", "reported_month")}, pieces=pieces
    )


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
    """Return the SQL for the versions of a fact, with a row for each day since which a version is certain or not."""
    unit = (
        literal(key.unit_id)
        if key.unit_id
        else f"(SELECT max_by(unit_id, valid_from) FROM serving.fct_psd AS fact WHERE {_fact_condition(key, 'fact')})"
    )
    return _STORY.format(
        of=_fact_condition(key, "f"),
        unit=unit,
        sheet=_sheet_condition(key),
        checked_on=literal(checked_on),
        commodity=literal(key.commodity_code),
    ).strip()


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
WITH version AS (
  SELECT f.*, is_wasde_cycle
  FROM serving.fct_psd AS f JOIN serving.dim_commodity AS commodity USING (commodity_code)
  WHERE {of} AND unit_id = {unit}
), release AS (
  SELECT released_on, shown_from, next_release_due,
    CASE WHEN released_on = (SELECT max(released_on) FROM serving.dim_release) THEN {checked_on}::DATE END AS checked_on
  FROM serving.dim_release
), span AS (
  SELECT reason, country_code IS NULL AS is_of_commodity, uncertain_from, uncertain_to
  FROM serving.fct_uncertain_span
  WHERE commodity_code = {commodity} AND country_code IS NULL OR {sheet}
), change AS (
  SELECT unnest([valid_from, last_seen_on + 1]) AS since FROM version
  UNION SELECT unnest([released_on, released_on + 1, shown_from, next_release_due, checked_on]) FROM release
  UNION SELECT unnest([uncertain_from, uncertain_to + 1]) FROM span
), day AS (
  SELECT since, release.* FROM change ASOF LEFT JOIN release ON since >= released_on
)
SELECT commodity_name, country_name, attribute_name, unit_id, unit_name, value, valid_from, valid_to, reported_month,
  since,
  NOT EXISTS (
    FROM span WHERE uncertain_from <= since AND (uncertain_to IS NULL OR since <= uncertain_to)
      AND (reason = 'touched' OR is_of_commodity AND valid_from < uncertain_from)
  ) AND (
    coalesce(
      since >= shown_from AND (
        coalesce(since < checked_on, FALSE) OR since <= released_on OR is_wasde_cycle AND since < next_release_due
      ), FALSE
    ) OR since <= last_seen_on AND NOT EXISTS (
      FROM span WHERE reason = 'unstamped' AND uncertain_from <= since
        AND (uncertain_to IS NULL OR since <= uncertain_to)
    )
  ) AS certain
FROM version JOIN day ON since >= valid_from AND (valid_to IS NULL OR since < valid_to)
ORDER BY valid_from, since
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
