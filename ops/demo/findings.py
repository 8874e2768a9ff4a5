"""Typical queries of an analyst on the served tables: a balance, the last revisions, a fact through time."""

from dataclasses import dataclass
from datetime import date, timedelta

from dataflows.serving import ServingReader
from ops.pipelines.release_changes import (
    MAIN_ATTRIBUTES,
    Release,
    Revision,
    commodity_changes,
    read_rows,
    releases,
    revisions,
)

CORN = "0440000"

_BALANCE_ORDER = ("004", "184", "020", "028", "057", "086", "088", "130", "192", "125", "176", "178")
"""The attributes of a balance sheet in the order in which USDA prints it."""

_COMMODITY = f"""
    SELECT commodity_code, commodity_name
    FROM serving.agg_world_balance
    GROUP BY commodity_code, commodity_name
    ORDER BY commodity_code <> '{CORN}', sum(value) FILTER (WHERE attribute_id = '028') DESC NULLS LAST
    LIMIT 1
"""
_BALANCE = """
    WITH years AS (
        SELECT max(market_year) AS later FROM serving.agg_world_balance WHERE commodity_code = '{commodity}'
    )
    SELECT
        attribute_id, attribute_name AS attribute, unit_name AS unit, any_value(later) AS later_year,
        sum(value) FILTER (WHERE market_year = later - 1) AS earlier,
        sum(value) FILTER (WHERE market_year = later) AS later
    FROM serving.agg_world_balance, years
    WHERE commodity_code = '{commodity}' AND market_year >= later - 1 AND attribute_name NOT LIKE 'TY %'
    GROUP BY attribute_id, attribute_name, unit_name
    ORDER BY list_position({order}, attribute_id) NULLS LAST, attribute_id
"""
_OFTEN_REVISED = """
    SELECT
        commodity_code, country_code, market_year, attribute_id, unit_id,
        max(valid_from) AS last_change,
        greatest(min(valid_from), (SELECT min(released_on) FROM serving.dim_release)) AS first_day
    FROM serving.fct_psd
    WHERE commodity_code NOT IN (SELECT commodity_code FROM serving.fct_psd_revision WHERE change_kind = 'restated')
    GROUP BY commodity_code, country_code, market_year, attribute_id, unit_id
    HAVING count(*) > 1
    ORDER BY
        attribute_id <> '028', least(count(*), 3) DESC, commodity_code <> '{commodity}', max(value) DESC,
        country_code, market_year
    LIMIT 1
"""
_ASOF = """
    SELECT
        commodity_name, country_name, attribute_name, unit_name, market_year, value, certain, last_seen_on
    FROM serving.psd_asof(DATE '{day}'{checked})
    WHERE commodity_code = '{commodity_code}' AND country_code = '{country_code}' AND market_year = {market_year}
      AND attribute_id = '{attribute_id}' AND unit_id = '{unit_id}'
"""


@dataclass(frozen=True)
class BalanceLine:
    """An attribute of the world balance in two market years; None if a year has no value."""

    attribute: str
    unit: str
    earlier: float | None
    later: float | None


@dataclass(frozen=True)
class WorldBalance:
    """The newest world balance of a commodity; `later_year` is its last market year, shown beside the one before."""

    commodity: str
    later_year: int
    lines: tuple[BalanceLine, ...]


@dataclass(frozen=True)
class LastRelease:
    """What the newest release did, the commodities it re-keyed, and its largest revisions."""

    release: Release
    rekeyed: tuple[str, ...]
    largest: tuple[Revision, ...]


@dataclass(frozen=True)
class AsOf:
    """What was known of a fact on a day; `last_seen_on` is the last release that shows the value."""

    day: date
    value: float
    certain: bool
    last_seen_on: date


@dataclass(frozen=True)
class FactThroughTime:
    """One fact as of several days."""

    commodity: str
    country: str
    market_year: int
    attribute: str
    unit: str
    answers: tuple[AsOf, ...]


def world_balance(reader: ServingReader) -> WorldBalance:
    """The last two market years of corn, or of the commodity with the largest production if there is no corn."""
    [commodity] = read_rows(reader, _COMMODITY)
    rows = read_rows(reader, _BALANCE.format(commodity=commodity["commodity_code"], order=list(_BALANCE_ORDER)))
    lines = tuple(BalanceLine(row["attribute"], row["unit"], row["earlier"], row["later"]) for row in rows)
    return WorldBalance(commodity["commodity_name"], rows[0]["later_year"], lines)


def last_release(reader: ServingReader, limit: int) -> LastRelease:
    """The changes of the newest release with its `limit` largest revisions, one per balance sheet, without totals."""
    newest = releases(reader)[0]
    changes = commodity_changes(reader, newest.released_on)
    largest: dict[tuple[str, str, int], Revision] = {}
    for each in revisions(reader, newest.released_on, "weight"):
        if each.change_kind == "revised" and each.weight and each.key.attribute_id in MAIN_ATTRIBUTES:
            largest.setdefault((each.key.commodity_code, each.key.country_code, each.key.market_year), each)
    rekeyed = sorted(each.commodity_name for each in changes if each.facts_restated)
    return LastRelease(newest, tuple(rekeyed), tuple(largest.values())[:limit])


def fact_through_time(reader: ServingReader, checked_on: date | None) -> FactThroughTime | None:
    """A fact that was revised often: at the first release, the day before its last change, and now.

    `checked_on` is that of the as-of macros. None when no fact ever changed.
    """
    [commodity] = read_rows(reader, _COMMODITY)
    facts = read_rows(reader, _OFTEN_REVISED.format(commodity=commodity["commodity_code"]))
    if not facts:
        return None
    [fact] = facts
    [newest] = read_rows(reader, "SELECT max(released_on) AS day FROM serving.dim_release")
    days = (fact["first_day"], fact["last_change"] - timedelta(days=1), newest["day"])
    checked = f", checked_on := DATE '{checked_on}'" if checked_on else ""
    found = [(day, row) for day in days for row in read_rows(reader, _ASOF.format(day=day, checked=checked, **fact))]
    names = found[0][1]
    return FactThroughTime(
        commodity=names["commodity_name"],
        country=names["country_name"],
        market_year=names["market_year"],
        attribute=names["attribute_name"],
        unit=names["unit_name"],
        answers=tuple(AsOf(day, row["value"], row["certain"], row["last_seen_on"]) for day, row in found),
    )
