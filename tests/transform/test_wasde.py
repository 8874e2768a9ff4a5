"""WASDE reports beside PSD: the served figures, and the world totals of both compared."""

import csv
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import duckdb
import pytest

from dataflows.serving import ServingReader
from dataflows.serving.generation import WasdeCheck
from dataflows.source.release import Month
from ops.config.settings import Settings
from ops.demo.archive_server import ArchiveServer
from ops.demo.generator import GeneratedRelease
from ops.explain import explain
from ops.pipelines import run as pipelines
from ops.pipelines.job import Request
from ops.pipelines.wasde import land_files
from tests.support.once import build_once
from tests.support.real_files import GRAINS, SHARED_PSD, post_real_grains, required
from tests.support.wasde_reports import Printed
from tests.support.workshop import Workshop

ATTRIBUTES = ("020", "028", "057", "130", "125", "088", "176")
TITLES = {"0410000": "World Wheat", "0440000": "World Corn"}


def world_figures(workshop: Workshop) -> dict[tuple[str, str, int, str], str]:
    """The world of the lakehouse's wheat and corn, rounded as WASDE prints it."""
    rows = workshop.query(
        "SELECT commodity_code, market_year, attribute_id, if(attribute_id = '125', implied_use, value)"
        f" FROM serving.agg_world_balance WHERE commodity_code IN {tuple(TITLES)} AND attribute_id IN {ATTRIBUTES}"
    )
    return {(TITLES[code], "World", year, attribute): f"{value / 1000:.2f}" for code, year, attribute, value in rows}


def shown(workshop: Workshop, sql: str) -> list[tuple]:
    with duckdb.connect(str(workshop.serving.served_path()), read_only=True) as connection:
        return connection.execute(sql).fetchall()


@pytest.fixture(scope="module")
def published(releases: tuple[GeneratedRelease, ...], tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """A data directory with one release served, and no report."""

    def build(folder: Path) -> None:
        workshop = Workshop(folder / "data")
        workshop.land(releases[-1])
        workshop.export()

    return Workshop(build_once(tmp_path_factory, "without-reports", build) / "data")


@pytest.fixture
def workshop(published: Workshop, tmp_path: Path) -> Workshop:
    return published.copy(tmp_path / "data")


def printed(workshop: Workshop) -> Printed:
    """A report of the month of the newest release, whose world is that of PSD."""
    (newest,) = workshop.landing.snapshots()
    return Printed(newest.month, world_figures(workshop))


def test_without_a_report_nothing_of_wasde_exists(published: Workshop) -> None:
    names = published.query(
        "SELECT schema_name || '.' || view_name FROM duckdb_views() WHERE view_name LIKE '%wasde_%'"
    )
    assert {name for (name,) in names} == {"seed.wasde_release_day", "seed.wasde_cycle_commodity"}
    generation = published.serving.served()
    assert generation is not None
    assert generation.wasde_check is None
    assert not {"fct_wasde", "agg_wasde_check"} & generation.row_counts.keys()
    assert "wasde" not in generation.to_json()


def test_a_landed_report_is_served_and_its_world_totals_are_compared(workshop: Workshop) -> None:
    report = printed(workshop)
    workshop.land_report(report.xml())
    generation = workshop.export()
    figures = len(set(report.cells()))
    coarse_grain = sum(1 for title, *_ in report.cells() if "Coarse" in title)
    assert generation.row_counts["fct_wasde"] == figures - coarse_grain
    check = generation.wasde_check
    assert check == WasdeCheck(str(report.month), 42, ())
    assert str(check) == f"WASDE of {report.month}: 42 of 42 world totals agree"
    released_at = shown(workshop, "SELECT DISTINCT strftime(released_at, '%Y-%m') FROM serving.fct_wasde")
    assert released_at == [(str(report.month),)]
    year = report.years[1]
    assert shown(
        workshop,
        "SELECT country_code, group_code, attribute_name, value, unit_name FROM serving.fct_wasde"
        f" WHERE commodity_name = 'Corn' AND market_year = {year} AND attribute_id = '028' AND region <> 'World'"
        " ORDER BY region",
    ) == [
        ("BR", None, "Production", 101_000.0, "(1000 MT)"),
        (None, "MAJOR_EXPORTERS", "Production", 101_000.0, "(1000 MT)"),
        ("US", None, "Production", 101_000.0, "(1000 MT)"),
        (None, "WORLD_LESS_CHINA", "Production", 1_010_000.0, "(1000 MT)"),
    ]


def test_a_total_that_differs_is_named_with_both_figures(workshop: Workshop) -> None:
    report = printed(workshop)
    key = ("World Corn", "World", report.years[2], "088")
    psd = float(report.figures[key])
    workshop.land_report(replace(report, figures={**report.figures, key: f"{psd + 0.02:.2f}"}).xml())
    check = workshop.export().wasde_check
    assert check is not None
    (differing,) = (name for name in check.differing if name.startswith("Corn"))
    assert differing.startswith(f"Corn {report.years[2]} Exports: PSD ")
    assert differing.endswith(f", WASDE {(psd + 0.02) * 1000:.0f} (1000 MT)")


def test_a_line_names_the_first_totals_that_differ_and_counts_the_rest() -> None:
    assert str(WasdeCheck("2021-08", 60, tuple("abcdefg"))).endswith(
        "53 of 60 world totals agree; differing: a; b; c; d; e; and 2 more"
    )
    assert str(WasdeCheck("2021-08", 60, ("a", "b"))).endswith("58 of 60 world totals agree; differing: a; b")


def test_nothing_is_claimed_where_no_report_of_the_month_is_landed(workshop: Workshop) -> None:
    (newest,) = workshop.landing.snapshots()
    workshop.land_report(Printed(newest.month.back(1)).xml())
    generation = workshop.export()
    assert generation.row_counts["agg_wasde_check"] == 0
    assert generation.row_counts["fct_wasde"] > 0
    assert generation.wasde_check is None


def test_a_report_that_is_landed_later_needs_no_computing_and_the_form_does_not_matter(workshop: Workshop) -> None:
    first, second = Printed(Month(2021, 9)), Printed(Month(2021, 10))
    workshop.land_report(first.xml())
    deployed = workshop.transform()
    assert (deployed.releases_processed, deployed.models_changed) == (0, True)
    workshop.export()
    before = shown(workshop, "SELECT * FROM serving.fct_wasde ORDER BY ALL")
    workshop.land_report(first.csv(), "oce-wasde-report-data-2021-09.csv")
    workshop.land_report(second.xml())
    transformed = workshop.transform()
    assert (transformed.releases_processed, transformed.models_changed) == (0, False)
    workshop.publish()
    assert shown(workshop, "SELECT * FROM serving.fct_wasde WHERE released_at < '2021-10-01' ORDER BY ALL") == before
    assert shown(workshop, "SELECT COUNT(DISTINCT released_at) FROM serving.fct_wasde") == [(2,)]


COLUMNS = {
    "beginning_stocks": "020",
    "production": "028",
    "imports": "057",
    "feed": "130",
    "domestic_total": "125",
    "exports": "088",
    "ending_stocks": "176",
}
_AGREES = """
SELECT COUNT(*), COUNT(*) FILTER (abs(stood.value - figure.value) <= 5), COUNT(*) FILTER (source = 'wasde'),
  COUNT(*) FILTER (certain AND source = 'wasde')
FROM fct_wasde AS figure
JOIN psd_asof('{day}') AS stood USING (commodity_code, country_code, market_year, attribute_id, unit_name)
WHERE figure.released_at::DATE = '{day}' AND figure.is_compared
"""
REAL_REGIONS = ("World", "World Less China", "United States", "Brazil", "Southeast Asia", "Major Exporters")


def real_figures(day: str) -> dict[tuple[str, str, int, str], str]:
    """What USDA printed of wheat and corn in the report of that day."""
    with required(SHARED_PSD / "wasde_grains_2021-08_2022-03.csv").open(newline="") as file:
        return {
            (f"World {row['commodity'].title()}", row["region"], int(row["market_year"]), attribute): row[column]
            for row in csv.DictReader(file)
            for column, attribute in COLUMNS.items()
            if row["report_date"] == day and row["region"] in REAL_REGIONS
        }


AUGUST, MARCH = Month(2021, 8), Month(2022, 3)
DAYS = {AUGUST: "2021-08-12", MARCH: "2022-03-09"}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, dict[Month, WasdeCheck]]]:
    """Two real files and all reports from the first to the second, landed month after month; each month's check."""
    folder = tmp_path_factory.mktemp("real")
    between = required(SHARED_PSD / "wasde_xml_2021-09_2022-02.zip")
    checks = {}
    with ArchiveServer(GRAINS) as archive:
        post_real_grains(archive, tuple(DAYS))
        environ = {"MATERIA_DATA_DIR": str(folder / "data"), "PSD_ARCHIVE_URL": archive.url, "PSD_DATASET": GRAINS}
        settings = Settings.from_environ(environ)
        for month, day in DAYS.items():
            pipelines.run("extract", settings, Request(as_of=month))
            report = Printed(month, real_figures(day), REAL_REGIONS)
            path = folder / f"{month}.csv"
            path.write_text(report.csv().replace(f"{month}-12", day))
            land_files(settings, [path, *([between] if month == MARCH else [])], Request(), serve=True)
            check = Workshop(folder / "data", GRAINS).serving.served().wasde_check
            assert check is not None
            checks[month] = check
    yield settings, checks


@pytest.mark.parametrize("month", [AUGUST, MARCH])
def test_the_real_grains_files_agree_with_the_real_reports_of_their_months(
    month: Month, real: tuple[Settings, dict[Month, WasdeCheck]]
) -> None:
    """42 world totals of wheat and corn; rice, whose printed figures are generated here, is what differs."""
    settings, checks = real
    assert (checks[month].month, checks[month].compared) == (str(month), 60)
    assert [each for each in checks[month].differing if not each.startswith("Rice, Milled")] == []
    # Countries and groups as well: every printed figure is that of PSD, rounded.
    with ServingReader(settings.serving_path) as reader:
        compared = _rows(
            reader,
            f"""
            SELECT COUNT(*), COUNT(*) FILTER (WHERE abs(fact.value - wasde.value) <= 5)
            FROM serving.fct_wasde AS wasde
            JOIN serving.psd_asof('{DAYS[month]}') AS fact
              USING (commodity_code, country_code, market_year, attribute_id, unit_name)
            WHERE wasde.released_at::DATE = '{DAYS[month]}' AND country_code IN ('US', 'BR')
              AND commodity_code IN ('0410000', '0440000')
            """,
        )
    assert compared == [(84, 84)]


def _rows(reader: ServingReader, sql: str) -> list[tuple]:
    return [tuple(row.values()) for row in reader.query(sql).table.to_pylist()]


def test_between_two_real_files_the_answers_are_those_of_the_reports(
    real: tuple[Settings, dict[Month, WasdeCheck]],
) -> None:
    """August 2021 and March 2022 are landed as PSD files, the six months between them as USDA's own reports."""
    settings, _ = real
    with ServingReader(settings.serving_path) as reader:
        days = _rows(reader, "SELECT DISTINCT released_at::DATE FROM fct_wasde ORDER BY 1")
        counted = [_rows(reader, _AGREES.format(day=day))[0] for (day,) in days[1:-1]]
    # Without the reports so many of the 876 answers would be those of August, and wrong.
    assert counted == [(876, 876, of_wasde, 0) for of_wasde in (201, 294, 320, 329, 337, 344)]
    explained = explain(settings, "Corn/Brazil/2020/Production", date(2021, 10, 20))
    assert (explained.value, explained.standing) == (86000, "uncertain")
    assert explained.reasons[0] == "WASDE: the report of 2021-10-12 prints it, rounded to 10"
