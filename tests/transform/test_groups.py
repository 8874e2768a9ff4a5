"""Groups and metrics on generated releases, recomputed from the CSV files; test_real_grains.py repeats it on USDA's."""

from collections.abc import Mapping
from dataclasses import astuple, fields
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise

import duckdb
import pytest

from ops.demo.generator import GeneratedRelease
from tests.support.workshop import Workshop
from tests.transform import balances
from tests.transform.balances import Metrics, Sheet
from tests.transform.reference import read

Releases = tuple[GeneratedRelease, ...]
GRAINS = ("0410000", "0440000")
GROUPS = ("WORLD", "WORLD_LESS_CHINA", "SOUTHEAST_ASIA")
_COLUMNS = (
    "stocks_to_use, production_change_pct, five_year_average_ratio, production_percentile, import_dependence,"
    " self_sufficiency, export_share, yield"
)


def sheets(release: GeneratedRelease) -> Mapping[tuple[str, str, int], Sheet]:
    return balances.sheets_of((*fact[:4], shown.value) for fact, shown in read(release).facts.items())


def expected_metrics(release: GeneratedRelease) -> dict[tuple[str, str, int], Metrics]:
    """By commodity, country or group, and market year."""
    found, all_sheets = {}, sheets(release)
    years: dict[tuple[str, str], dict[int, Sheet]] = {}
    for (commodity, country, year), sheet in all_sheets.items():
        years.setdefault((commodity, country), {})[year] = sheet
        if (world := balances.group_sheet(all_sheets, commodity, year, "WORLD")) is not None:
            years.setdefault((commodity, "WORLD"), {})[year] = world
    for (commodity, area), of_area in years.items():

        def use(year: int, of_area: dict[int, Sheet] = of_area, is_world: bool = area == "WORLD") -> Decimal | None:
            sheet = of_area[year]
            implied = balances.implied_use(sheet, sheet, is_world=True) if is_world else None
            return implied if implied is not None else sheet.get("125", sheet.get("142"))

        for year in of_area:
            found[commodity, area, year] = balances.metrics(of_area, use, area == "WORLD", year)
    return found


def test_metrics_are_those_that_the_newest_file_gives(served: Workshop, releases: Releases) -> None:
    expected = expected_metrics(releases[-1])
    rows = served.query(
        f"SELECT commodity_code, COALESCE(country_code, group_code), market_year, {_COLUMNS} FROM serving.fct_metric"
        " WHERE country_code IS NOT NULL OR group_code = 'WORLD'"
    )
    compared = dict.fromkeys((field.name for field in fields(Metrics)), 0)
    assert {tuple(key) for *key, _, _, _, _, _, _, _, _ in rows} == expected.keys()
    for commodity, area, year, *values in rows:
        if commodity not in GRAINS:
            continue
        for name, value, wanted in zip(compared, values, astuple(expected[commodity, area, year]), strict=True):
            assert value == (None if wanted is None else pytest.approx(wanted)), (commodity, area, year, name)
            compared[name] += value is not None
    assert min(compared.values()) > 10, compared


@pytest.mark.parametrize("number", [0, 2, 4])
def test_sums_as_of_a_release_day_are_those_of_its_file(served: Workshop, releases: Releases, number: int) -> None:
    found, release = sheets(releases[number]), releases[number]
    day = release.published_at.date()
    rows = served.query(
        "SELECT group_code, commodity_code, market_year, attribute_id, value::DECIMAL(18, 4), countries_missing,"
        f" certain, implied_use::DECIMAL(18, 4) FROM serving.group_asof(NULL, ?) WHERE group_code IN {GROUPS}"
        f" AND commodity_code IN {GRAINS}",
        day,
    )
    seen = set()
    for group, commodity, year, attribute, value, missing, certain, implied in rows:
        wanted = balances.group_sheet(found, commodity, year, group)
        assert (value is None) == (missing > 0) == (wanted is None), (group, commodity, year, attribute)
        assert certain == (wanted is not None)
        if wanted is not None:
            world = balances.group_sheet(found, commodity, year, "WORLD")
            assert world is not None and value == wanted[attribute], (group, commodity, year, attribute)
            assert implied in (None, balances.implied_use(wanted, world, group.startswith("WORLD")))
            seen.add(group)
    years = {(commodity, year) for commodity, _, year in found if commodity in GRAINS}
    assert {(commodity, year) for group, commodity, year, *_ in rows if group == "WORLD"} == years
    assert {"WORLD", "WORLD_LESS_CHINA"} <= seen


def test_a_sum_that_lacks_an_unknown_fact_is_no_number(served: Workshop, releases: Releases) -> None:
    """Before the first release only some facts are known by their stamps: no sum of these is given as the world's."""
    first = releases[0].published_at.date()
    rows = served.query(
        "SELECT value, partial_value, countries, countries_missing, certain FROM serving.group_asof('WORLD', ?)",
        first - timedelta(days=1),
    )
    partial = [row for row in rows if row[3] > 0]
    assert partial
    assert all(value is None and not certain for value, _, _, _, certain in partial)
    assert all(value == partial_value for value, partial_value, _, missing, _ in rows if missing == 0)


def test_the_newest_day_gives_the_tables_of_the_generation(served: Workshop, releases: Releases) -> None:
    day = releases[-1].published_at.date()
    groups = (
        "SELECT group_code, commodity_code, market_year, attribute_id, unit_id, value, partial_value, countries,"
        " countries_missing, implied_use FROM {} WHERE attribute_id NOT IN ('182', '184') ORDER BY ALL"
    )
    current = served.query(groups.format("serving.agg_group_balance"))
    assert served.query(groups.format(f"serving.group_asof(NULL, '{day}')")) == current != []
    columns = f"commodity_code, country_code, group_code, market_year, use_total, countries_missing, {_COLUMNS}"
    metrics = f"SELECT {columns}, stocks_to_use_percentile FROM {{}} ORDER BY ALL"
    current = served.query(metrics.format("serving.fct_metric"))
    assert served.query(metrics.format(f"serving.metric_asof('{day}')")) == current != []


def test_an_estimate_is_followed_release_by_release(served: Workshop, releases: Releases) -> None:
    for area in ("US", "World"):
        path = served.query(
            "SELECT released_on, value, change, change_pct, months_to_market_year_end, certain"
            f" FROM serving.estimate_path('corn', '{area}', 2025, 'Production')"
        )
        shown = {release.published_at.date(): sheets(release) for release in releases}
        values = [
            (day, float(sheet["028"]))
            for day, found in shown.items()
            if (
                sheet := found.get(("0440000", "US", 2025))
                if area == "US"
                else balances.group_sheet(found, "0440000", 2025, "WORLD")
            )
        ]
        assert [(day, value) for day, value, *_ in path] == values != []
        changes = [None, *(after - before for (_, before), (_, after) in pairwise(values))]
        assert [change for _, _, change, *_ in path] == [None if c is None else pytest.approx(c) for c in changes]
        # The market year of corn ends in August 2026.
        assert [months for *_, months, _ in path] == [(2026 - day.year) * 12 + 8 - day.month for day, _ in values]
        assert all(certain for *_, certain in path)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("group_asof('EU28', '2025-06-30')", "no group EU28; .*dim_country_group"),
        ("estimate_path('Maize', 'US', 2025, '028')", "no commodity Maize; serving.dim_commodity"),
        ("estimate_path('Corn', 'USA', 2025, '028')", "no country or group USA in 2025"),
        ("estimate_path('Corn', 'US', 2025, 'Harvest')", "no attribute Harvest; serving.dim_attribute"),
    ],
)
def test_an_unknown_name_is_an_error_and_not_an_empty_answer(served: Workshop, call: str, message: str) -> None:
    with pytest.raises(duckdb.Error, match=message):
        served.query(f"FROM serving.{call}")
