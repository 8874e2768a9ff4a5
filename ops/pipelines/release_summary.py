"""What mattered in a release: its largest drivers, and the world and the main exporters before and after it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from dataflows.errors import ServingError
from dataflows.sql_text import literal
from ops.host.formatting import change_text, number_text, percent_text
from ops.pipelines.release_changes import CommodityChange, Release, commodity_changes, read_rows, releases

if TYPE_CHECKING:
    from dataflows.serving import ServingReader

MOST_DRIVERS: Final = 10
MOST_COMMODITIES: Final = 5
MOST_EXPORTERS: Final = 5
WORLD: Final = "World"


@dataclass(frozen=True)
class Driver:
    """A change that follows from no other change of the release."""

    commodity_code: str
    commodity_name: str
    country_name: str
    market_year: int
    attribute_name: str
    unit_name: str
    change_kind: str
    previous_value: float | None
    value: float | None
    change: float | None
    change_pct: float | None
    change_z: float | None
    """How unusual the change is for the calendar month, in standard deviations; None without history."""
    tonnes: float | None
    """The size of the change in tonnes, by which drivers are ranked; None in units that are no mass."""


@dataclass(frozen=True)
class Figure:
    """A figure of a balance sheet before and after the release."""

    place: str
    """`World` or a country."""
    attribute_name: str
    before: float | None
    now: float | None

    @property
    def change(self) -> float | None:
        return None if self.before is None or self.now is None else self.now - self.before

    @property
    def change_pct(self) -> float | None:
        return 100 * self.change / abs(self.before) if self.change is not None and self.before else None


@dataclass(frozen=True)
class Balance:
    """The world and the main exporters of a commodity in a market year."""

    commodity_code: str
    commodity_name: str
    market_year: int
    unit_name: str
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class ReleaseSummary:
    """What mattered in a release; a baseline has neither drivers nor balances."""

    release: Release
    drivers: tuple[Driver, ...]
    balances: tuple[Balance, ...]
    changes: tuple[CommodityChange, ...]
    """How many facts of each commodity changed."""
    wasde: str | None
    """How many world totals agree with the WASDE report of the month; None where none is landed."""


def summarize(
    reader: "ServingReader", release: str | None = None, commodity: str | None = None, since_year: int | None = None
) -> ReleaseSummary:
    """Summarize a release; by default the newest one, the commodities that changed most and the newest two years.

    `release` is a month (`2025-11`) or a day (`2025-11-14`), `commodity` a code or a part of a name. Raises
    ServingError for a release or commodity that is not served.
    """
    found = _find(releases(reader), release)
    codes = _commodity_codes(reader, commodity)
    check = reader.generation().wasde_check
    wasde = str(check) if check and check.month == f"{found.release_month:%Y-%m}" else None
    if found.compared_with is None:
        return ReleaseSummary(found, (), (), (), wasde)
    day = literal(found.released_on)
    condition = f"AND r.commodity_code IN ({', '.join(map(literal, codes))})" if codes else ""
    years = f">= {since_year}" if since_year is not None else "> newest.market_year - 2"
    rows = read_rows(reader, _DRIVERS.format(newest=_NEWEST.format(day=day), day=day, condition=condition, years=years))
    drivers = tuple(Driver(**row) for row in rows)
    shown = codes or tuple(dict.fromkeys(driver.commodity_code for driver in drivers))[:MOST_COMMODITIES]
    changes = commodity_changes(reader, found.released_on)
    return ReleaseSummary(
        release=found,
        drivers=drivers[:MOST_DRIVERS],
        balances=_balances(reader, found, shown, years) if shown else (),
        changes=tuple(each for each in changes if each.facts and (not codes or each.commodity_code in codes)),
        wasde=wasde,
    )


def headline(summary: ReleaseSummary, dataset: str) -> str:
    """One line: the release, its three largest drivers, and the world's ending stocks of the first one's commodity."""
    drivers = [
        f"{each.country_name} {each.commodity_name} {each.market_year} {each.attribute_name} "
        f"{change_text(each.change)} {each.unit_name} ({percent_text(each.change_pct)})"
        for each in summary.drivers[:3]
    ]
    stocks = [
        f"world {balance.commodity_name} {balance.market_year} {figure.attribute_name} "
        f"{number_text(figure.before)} → {number_text(figure.now)} {balance.unit_name}"
        for balance in summary.balances[:1]
        for figure in balance.figures
        if figure.place == WORLD and figure.attribute_name == "Ending Stocks"
    ]
    changed = f"{len(summary.changes)} commodities changed, none in its newest two market years"
    what = "; ".join([*drivers, *stocks] or [changed])
    wasde = f"; {summary.wasde}" if summary.wasde else ""
    return f"{dataset} {summary.release.release_month:%Y-%m} is served: {what}{wasde}"


def _find(found: Sequence[Release], wanted: str | None) -> Release:
    if not found:
        raise ServingError("nothing is served, so there is no release to show; next: materia run-all")
    if wanted is None:
        return found[0]
    for release in found:
        if wanted in (f"{release.release_month:%Y-%m}", release.released_on.isoformat()):
            return release
    raise ServingError(
        f"release {wanted} is not served; served are {found[-1].release_month:%Y-%m} to "
        f"{found[0].release_month:%Y-%m}, and `materia releases` lists them"
    )


def _commodity_codes(reader: "ServingReader", wanted: str | None) -> tuple[str, ...]:
    if wanted is None:
        return ()
    text = literal(wanted.lower())
    rows = read_rows(reader, _NAMED.format(text=text))
    exact = [row for row in rows if row["is_exact"]]
    if not rows:
        raise ServingError(f"no served commodity is called {wanted!r}; serving.dim_commodity lists them")
    return tuple(row["commodity_code"] for row in exact or rows)


def _balances(reader: "ServingReader", release: Release, codes: Sequence[str], years: str) -> tuple[Balance, ...]:
    assert release.compared_with is not None
    sql = _FIGURES.format(
        newest=_NEWEST.format(day=literal(release.released_on)),
        day=literal(release.released_on),
        before=literal(release.compared_with),
        codes=", ".join(map(literal, codes)),
        years=years,
        exporters=MOST_EXPORTERS,
    )
    rows = sorted(read_rows(reader, sql), key=lambda row: (codes.index(row["commodity_code"]), -row["market_year"]))
    return tuple(
        Balance(*key, figures=_figures(group))
        for key, group in groupby(
            rows, key=lambda row: (row["commodity_code"], row["commodity_name"], row["market_year"], row["unit_name"])
        )
    )


def _figures(rows: Iterable[dict[str, Any]]) -> tuple[Figure, ...]:
    """The world's figures, and those of exporters that changed."""
    figures = (
        Figure(row["place"], row["attribute_name"], row["before_value"], row["now_value"])
        for row in sorted(rows, key=lambda row: (row["place_rank"], row["attribute_rank"]))
    )
    return tuple(each for each in figures if each.place == WORLD or each.before != each.now)


_NAMED = """
SELECT commodity_code, commodity_code = {text} OR lower(commodity_name) = {text} AS is_exact
FROM serving.dim_commodity
WHERE commodity_code = {text} OR contains(lower(commodity_name), {text})
ORDER BY commodity_name
"""
_NEWEST = """newest AS (
  SELECT commodity_code, max(market_year) AS market_year FROM serving.psd_asof({day}) GROUP BY commodity_code
)"""
_DRIVERS = """
WITH {newest}
SELECT r.commodity_code, r.commodity_name, r.country_name, r.market_year, r.attribute_name, r.unit_name,
  r.change_kind, r.previous_value, r.value, r.change, r.change_pct, r.change_z,
  abs(r.change) * u.factor_to_base AS tonnes
FROM serving.fct_psd_revision AS r
JOIN newest USING (commodity_code)
LEFT JOIN serving.dim_unit AS u ON r.unit_id = u.unit_id AND u.base_unit = 't'
WHERE r.released_on = {day} AND r.is_driver AND r.change <> 0 {condition} AND r.market_year {years}
  -- Trade with one partner: USDA fills it in for past years, which changes no balance.
  AND r.attribute_id NOT IN ('063', '065', '084')
ORDER BY tonnes DESC NULLS LAST, abs(r.change_pct) DESC NULLS LAST, r.commodity_name, r.country_name, r.market_year DESC
"""
_FIGURES = """
WITH {newest}, listed AS (
  SELECT * FROM (VALUES ('028', 1), ('057', 2), ('088', 3), ('125', 4), ('176', 5)) AS l(attribute_id, attribute_rank)
), now AS (
  SELECT f.* FROM serving.psd_asof({day}) AS f JOIN newest USING (commodity_code)
  WHERE f.commodity_code IN ({codes}) AND f.market_year {years}
), earlier AS (
  SELECT f.* FROM serving.psd_asof({before}) AS f JOIN newest USING (commodity_code)
  WHERE f.commodity_code IN ({codes}) AND f.market_year {years}
), both_days AS (
  SELECT commodity_code, country_code, market_year, attribute_id, unit_id,
    earlier.value AS before_value, now.value AS now_value
  FROM now FULL JOIN earlier USING (commodity_code, country_code, market_year, attribute_id, unit_id)
  JOIN listed USING (attribute_id)
), production_unit AS (
  SELECT DISTINCT commodity_code, market_year, unit_id FROM both_days WHERE attribute_id = '028'
), exporter AS (
  SELECT commodity_code, country_code, market_year,
    row_number() OVER (PARTITION BY commodity_code, market_year ORDER BY now_value DESC, country_code) AS place_rank
  FROM both_days WHERE attribute_id = '088' AND now_value > 0
), figure AS (
  SELECT commodity_code, '' AS country_code, market_year, attribute_id, unit_id, 0 AS place_rank,
    sum(before_value) AS before_value, sum(now_value) AS now_value
  FROM both_days SEMI JOIN serving.agg_world_balance AS w
    ON both_days.commodity_code = w.commodity_code AND both_days.market_year = w.market_year
  GROUP BY ALL
  UNION ALL
  SELECT commodity_code, country_code, market_year, attribute_id, unit_id, place_rank, before_value, now_value
  FROM both_days JOIN exporter USING (commodity_code, country_code, market_year) WHERE place_rank <= {exporters}
)
SELECT commodity_code, commodity_name, market_year, unit_name, coalesce(country_name, 'World') AS place, place_rank,
  attribute_name, attribute_rank, before_value, now_value
FROM figure
JOIN listed USING (attribute_id)
JOIN serving.dim_commodity USING (commodity_code)
JOIN serving.dim_attribute USING (attribute_id)
JOIN serving.dim_unit USING (unit_id)
LEFT JOIN serving.dim_country USING (country_code)
JOIN production_unit USING (commodity_code, market_year, unit_id)
"""
