"""The main job on USDA's own files: every figure that the releases of 2021-08, 2022-03 and 2025-11 promise."""

import csv
import itertools
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import astuple
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path

import duckdb
import pytest

from dataflows.lakehouse.ducklake import DuckLake, SqliteCatalog
from dataflows.landing.local import LocalLanding
from dataflows.landing.snapshot import Snapshot
from dataflows.serving.build import SERVING_TABLES
from dataflows.serving.store import ServingStore
from dataflows.source.release import Month
from ops.config.lakehouse import environ_of
from ops.config.settings import Settings
from ops.pipelines import run as pipelines
from ops.pipelines.backfill import backfill
from ops.pipelines.job import Request
from tests.support.faulty_archive import FaultyArchive
from tests.support.plain_models import PlainSnapshot
from tests.support.plain_models import serve as serve_plain
from tests.support.real_files import (
    EU_AREA,
    EU_AREA_MONTH,
    GRAINS,
    GRAINS_MONTHS,
    inner_date,
    post_real_eu_area,
    post_real_grains,
    real_zip,
)
from tests.transform import balances

SUMMER, SPRING, AUTUMN = GRAINS_MONTHS
SUBSETS = [
    subset for size in range(1, len(GRAINS_MONTHS) + 1) for subset in itertools.combinations(GRAINS_MONTHS, size)
]
LEAST_CERTAIN = {
    (SUMMER, AUTUMN): {"2022-03-31": 485_000},
    (AUTUMN,): {"2023-04-30": 503_880, "2023-04-11": 501_210},
}
"""Per landed files and day, how many facts must stay certain."""
KNOWN_FROM_ITS_SUCCESSOR = 483_555
NEW_FACTS = 572_385

Computed = Callable[[tuple[Month, ...]], duckdb.DuckDBPyConnection]


@pytest.fixture(scope="module")
def posted(shared_psd: Path) -> Iterator[FaultyArchive]:
    with FaultyArchive() as archive:
        post_real_grains(archive)
        post_real_eu_area(archive)
        yield archive


@pytest.fixture(scope="module")
def late(posted: FaultyArchive, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The newest file is served alone, as generation 1; then the two before it are landed and served, too."""
    settings = settings_in(tmp_path_factory.mktemp("grains"), posted, GRAINS)
    pipelines.run("run-all", settings, Request(as_of=AUTUMN))
    backfill(settings, SUMMER, SPRING, Request(), serve=True, report=lambda _: None)
    return settings


@pytest.fixture(scope="module")
def unpacked(shared_psd: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[Month, PlainSnapshot]:
    """The real files as the models' plain SQL reads them."""
    folder = tmp_path_factory.mktemp("unpacked")
    return {month: unpack(GRAINS, month, folder) for month in GRAINS_MONTHS}


@pytest.fixture(scope="module")
def computed(unpacked: Mapping[Month, PlainSnapshot]) -> Iterator[Computed]:
    """The tables of any of these files, computed by the models' SQL at once; kept for the next test that asks."""
    with ExitStack() as open_connections:

        @cache
        def compute(landed: tuple[Month, ...]) -> duckdb.DuckDBPyConnection:
            connection = open_connections.enter_context(serve_plain([unpacked[month] for month in landed]))
            # Half of the memory.
            connection.execute("DROP VIEW staging.stg_psdalldata__fact; DROP TABLE raw.psd_alldata")
            return connection

        yield compute


def certain_and_wrong(connection: duckdb.DuckDBPyConnection, snapshot: PlainSnapshot) -> int:
    """How many certain answers for the day of a file differ from it, or are not in it."""
    (count,) = connection.execute(
        f"""
        SELECT COUNT(*) FROM serving.psd_known('{snapshot.released_on}') AS answer
        LEFT JOIN '{snapshot.lines}' AS said
          ON answer.commodity_code = said.Commodity_Code AND answer.country_code = said.Country_Code
          AND answer.market_year = said.Market_Year::INT AND answer.attribute_id = said.Attribute_ID
          AND answer.unit_id = said.Unit_ID
        WHERE answer.value IS DISTINCT FROM said.Value::DOUBLE
        """
    ).fetchall()[0]
    return count


def test_the_spring_of_2022_revised_9226_facts(late: Settings) -> None:
    spring = day_of(late, SPRING)
    kinds = "SELECT change_kind, COUNT(*) FROM serving.fct_psd_revision WHERE released_on = ? GROUP BY 1"
    assert rows(late, kinds, spring) == [("revised", 9_226)]
    assert rows(
        late,
        "SELECT SUM(facts_new), SUM(facts_revised), SUM(facts_removed), SUM(facts_restated)"
        " FROM serving.agg_release_summary WHERE released_on = ?",
        spring,
    ) == [(0, 9_226, 0, 0)]


def test_american_corn_matches_the_files_of_each_day(late: Settings) -> None:
    corn = "commodity_code = '0440000' AND country_code = 'US' AND market_year::INT = 2021 AND attribute_id = '028'"
    served = [
        rows(late, f"SELECT value, certain FROM serving.psd_asof(?) WHERE {corn}", day)
        for day in ("2021-09-01", "2022-04-01", date.today())
    ]
    figures = [raw(late, month, f"SELECT value::DOUBLE FROM line WHERE {corn}") for month in GRAINS_MONTHS]
    assert [[(value,)] for ((value, _),) in served] == figures
    assert len({value for ((value, _),) in served}) == 3, "USDA revised it twice"
    # On the first two days USDA's next release was not due yet; today it has been for long.
    assert [certain for ((_, certain),) in served] == [True, True, False]


def test_each_file_is_served_on_its_own_day(late: Settings) -> None:
    for month in GRAINS_MONTHS:
        assert differing(late, month, f"(FROM serving.psd_asof('{day_of(late, month)}') WHERE certain)") == 0


def test_the_world_is_the_exact_sum_of_its_countries(late: Settings) -> None:
    summed = raw(
        late,
        AUTUMN,
        "SELECT commodity_code, market_year::SMALLINT, attribute_id, SUM(value::DECIMAL(18, 4))::DOUBLE FROM line"
        " WHERE attribute_id IN ('028', '020', '176', '057', '088') GROUP BY ALL ORDER BY ALL",
    )
    assert summed == rows(
        late,
        "SELECT commodity_code, market_year, attribute_id, value FROM serving.agg_world_balance"
        " WHERE attribute_id IN ('028', '020', '176', '057', '088') ORDER BY ALL",
    )
    assert len(summed) > 2_000


def test_a_world_rate_lies_among_its_countries(late: Settings) -> None:
    """World yield and milling rate are weighted means, in the unit and scale that USDA writes."""
    outside = rows(
        late,
        """
        WITH country AS (
          SELECT rate.commodity_code, rate.market_year, rate.attribute_id,
            MIN(rate.value) AS lowest, MAX(rate.value) AS highest
          FROM serving.psd_asof('2100-01-01') AS rate
          WHERE rate.attribute_id IN ('182', '184') AND rate.value > 0 GROUP BY ALL
        )
        SELECT * FROM serving.agg_world_balance AS world JOIN country USING (commodity_code, market_year, attribute_id)
        WHERE world.value NOT BETWEEN 0.99 * lowest AND 1.01 * highest
        """,
    )
    assert outside == []
    derived = "SELECT COUNT(DISTINCT attribute_id) FROM serving.agg_world_balance WHERE attribute_id IN ('182', '184')"
    assert rows(late, derived) == [(2,)]


def test_the_newest_file_alone_proves_what_its_stamps_cover(late: Settings) -> None:
    asof, alone = "(FROM serving.psd_asof('2021-08-31'))", ServingStore(late.serving_path).path(1)
    assert rows(late, f"SELECT COUNT(*), BOOL_AND(certain) FROM {asof}", path=alone) == [
        (KNOWN_FROM_ITS_SUCCESSOR, True)
    ]
    assert differing(late, SUMMER, asof, path=alone, missing_allowed=True) == 0
    assert rows(
        late,
        "SELECT SUM(certain), SUM(uncertain), SUM(unknown) FROM serving.psd_asof_coverage('2021-08-31')",
        path=alone,
    ) == [(KNOWN_FROM_ITS_SUCCESSOR, 0, NEW_FACTS - KNOWN_FROM_ITS_SUCCESSOR)]


@pytest.mark.parametrize("landed", SUBSETS, ids=lambda months: "+".join(map(str, months)))
def test_no_certain_answer_contradicts_a_file_landed_or_not(
    landed: tuple[Month, ...], unpacked: Mapping[Month, PlainSnapshot], computed: Computed
) -> None:
    for snapshot in unpacked.values():
        assert certain_and_wrong(computed(landed), snapshot) == 0, f"asked for {snapshot.released_on}"
    for day, least in LEAST_CERTAIN.get(landed, {}).items():
        answer = computed(landed).execute(f"SELECT COUNT(*) FROM serving.psd_known('{day}')").fetchall()
        assert answer[0][0] >= least


def test_between_two_files_no_certain_answer_contradicts_wasde(computed: Computed, shared_psd: Path) -> None:
    reports = f"read_csv('{shared_psd / 'wasde_grains_2021-08_2022-03.csv'}')"
    connection = computed((SUMMER, SPRING))
    names = "SELECT country_name, country_code FROM serving.dim_country"
    connection.execute(f"CREATE TABLE names AS {names} UNION ALL SELECT 'European Union', 'E4'")
    days = [
        day
        for (day,) in connection.execute(
            f"SELECT DISTINCT last_day(report_date::DATE) FROM {reports}"
            " WHERE strftime(report_date::DATE, '%Y-%m') NOT IN ('2021-08', '2022-03')"
        ).fetchall()
    ]
    compared, certain, wrong = 0, 0, 0
    for day in days:
        counts = connection.execute(
            f"""
            WITH said AS (
              UNPIVOT (
                SELECT region, commodity, market_year::INT AS market_year, beginning_stocks AS "020",
                  production AS "028", imports AS "057", exports AS "088", domestic_total AS "125", feed AS "130",
                  ending_stocks AS "176" FROM {reports} WHERE last_day(report_date::DATE) = DATE '{day}'
              ) ON "020", "028", "057", "088", "125", "130", "176" INTO NAME attribute_id VALUE said
            )
            SELECT COUNT(*), COUNT(*) FILTER (certain),
              COUNT(*) FILTER (certain AND abs(value / 1000 - said) > 0.00501)
            FROM said JOIN names ON region = country_name
            JOIN serving.psd_asof('{day}') AS answer
              ON answer.country_code = names.country_code AND answer.market_year = said.market_year
              AND answer.attribute_id = said.attribute_id
              AND commodity_code = CASE commodity WHEN 'wheat' THEN '0410000' ELSE '0440000' END
            """
        ).fetchall()[0]
        compared, certain, wrong = (a + b for a, b in zip((compared, certain, wrong), counts, strict=True))
    assert wrong == 0
    assert compared > 1_000 and certain > 0.2 * compared


WASDE_AREAS = {
    "World": "WORLD",
    "World Less China": "WORLD_LESS_CHINA",
    "N. Africa": "NORTH_AFRICA",
    "Southeast Asia": "SOUTHEAST_ASIA",
    "Sel. Mideast": "SELECTED_MIDEAST",
    "Major Exporters": "MAJOR_EXPORTERS",
}
"""Groups as they are called in WASDE's rows."""


def wasde_rows(shared_psd: Path) -> list[dict[str, str]]:
    """What the eight reports print of these groups, in million tonnes."""
    with (shared_psd / "wasde_grains_2021-08_2022-03.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["region"] in WASDE_AREAS]


def test_group_sums_and_world_use_are_wasdes(late: Settings, shared_psd: Path) -> None:
    """On the days of the two landed files every figure; between them no certain one is another."""
    columns = {
        "020": "beginning_stocks",
        "028": "production",
        "057": "imports",
        "088": "exports",
        "176": "ending_stocks",
    }
    compared, certain_between, wrong = 0, 0, []
    for day in sorted({row["report_date"] for row in wasde_rows(shared_psd)}):
        answers = rows(
            late,
            "SELECT group_code, commodity_name, market_year, attribute_id, value, implied_use, certain"
            " FROM serving.group_asof(NULL, ?) WHERE commodity_name IN ('Wheat', 'Corn')",
            day,
        )
        found = {tuple(key): (value, use, certain) for *key, value, use, certain in answers}
        is_landed = day in ("2021-08-12", "2022-03-09")
        for row in wasde_rows(shared_psd):
            if row["report_date"] != day:
                continue
            group, commodity, year = WASDE_AREAS[row["region"]], row["commodity"].title(), int(row["market_year"])
            figures = [(attribute, 0, row[column]) for attribute, column in columns.items()]
            for attribute, which, text in (*figures, ("028", 1, row["domestic_total"])):
                *values, certain = found[group, commodity, year, attribute]
                if not (is_landed or certain):
                    continue
                assert certain
                compared, certain_between = compared + 1, certain_between + (not is_landed)
                if abs(values[which] / 1000 - float(text)) > 0.015:
                    wrong.append((day, group, commodity, year, attribute, which, values[which], text))
    assert wrong == []
    assert compared - certain_between == 2 * 10 * 3 * 6, "ten rows, three market years, six figures, two reports"


def test_the_united_kingdom_leaves_no_step_in_the_union(late: Settings) -> None:
    """What E4 lost in market year 2016 is in EU27_UK: it is the sum of both, and E4 alone before."""
    sums = rows(
        late,
        "SELECT commodity_code, market_year, attribute_id, value, countries_missing FROM serving.agg_group_balance"
        " WHERE group_code = 'EU27_UK' AND market_year >= 1999 AND attribute_id IN ('028', '125') ORDER BY ALL",
    )
    figures = raw(
        late,
        AUTUMN,
        "SELECT commodity_code, market_year::SMALLINT, attribute_id, SUM(value::DECIMAL(18, 4))::DOUBLE, 0 FROM line"
        " WHERE country_code IN ('E4', 'UK') AND market_year >= '1999' AND attribute_id IN ('028', '125')"
        " GROUP BY ALL ORDER BY ALL",
    )
    assert sums == figures
    use = {year: value for code, year, attribute, value, _ in sums if (code, attribute) == ("0410000", "125")}
    assert abs(use[2016] / use[2015] - 1) < 0.05
    alone = rows(
        late,
        "SELECT market_year, value FROM serving.fct_psd WHERE country_code = 'E4' AND commodity_name = 'Wheat'"
        " AND attribute_name = 'Domestic Consumption' AND market_year IN (2015, 2016) AND valid_to IS NULL ORDER BY 1",
    )
    assert alone[1][1] / alone[0][1] < 0.9, "the border alone"
    complete = (
        "SELECT MIN(market_year) FROM serving.agg_group_balance WHERE group_code = 'EU27_UK' AND value IS NOT NULL"
    )
    assert rows(late, f"{complete} AND commodity_name = 'Wheat'") == [(1992,)]
    gaps = "SELECT COUNT(*) FROM serving.agg_group_balance WHERE group_code = 'EU27_UK' AND value IS NULL"
    assert rows(late, f"{gaps} AND market_year >= 1992 AND commodity_name <> 'Sorghum'") == [(0,)]


def test_metrics_are_those_that_the_file_gives(late: Settings) -> None:
    columns = (
        "stocks_to_use, production_change_pct, five_year_average_ratio, production_percentile, import_dependence,"
        " self_sufficiency, export_share, yield"
    )
    lines = raw(
        late,
        AUTUMN,
        "SELECT commodity_code, country_code, market_year::INT, attribute_id, value::DECIMAL(18, 4) FROM line"
        " WHERE commodity_code = '0440000'",
    )
    sheets, groups = balances.sheets_of(lines), ("WORLD", "WORLD_LESS_CHINA", "SOUTHEAST_ASIA")
    years = sorted({year for _, _, year in sheets})
    for area in ("US", "BR", "EG", "NI", *groups):
        of_area = {
            year: sheet
            for year in years
            if (sheet := balances.group_sheet(sheets, "0440000", year, area) if area in groups else None)
            or (sheet := sheets.get(("0440000", area, year)))
        }

        def use(year: int, area: str = area, of_area: dict[int, balances.Sheet] = of_area) -> Decimal | None:
            if area not in groups:
                return of_area[year]["125"]
            world = balances.group_sheet(sheets, "0440000", year, "WORLD")
            assert world is not None
            return balances.implied_use(of_area[year], world, area.startswith("WORLD"))

        served = rows(
            late,
            f"SELECT market_year, {columns} FROM serving.fct_metric WHERE commodity_name = 'Corn'"
            " AND COALESCE(country_code, group_code) = ?",
            area,
        )
        assert {year for year, *_ in served} == of_area.keys()
        for year, *values in served:
            expected = astuple(balances.metrics(of_area, use, area in groups, year))
            assert values == [None if each is None else pytest.approx(each) for each in expected], (area, year)


def test_one_late_file_gives_no_partial_sum(late: Settings) -> None:
    """The newest file alone knows 59 countries' corn of 2024 by their stamps: that is not the world's crop."""
    alone = ServingStore(late.serving_path).path(1)
    corn = "commodity_name = 'Corn' AND market_year = 2024 AND attribute_name = 'Production'"
    asked = (
        f"SELECT value, partial_value, countries_missing > 50, certain FROM serving.group_asof('WORLD', ?) WHERE {corn}"
    )
    assert rows(late, asked, "2025-10-31", path=alone) == [(None, 80_298.0, True, False)]
    [(value, _, missing, certain)] = rows(late, asked, day_of(late, AUTUMN), path=alone)
    assert value > 1_200_000 and not missing and certain


def test_late_arrivals_give_the_tables_of_all_files_at_once(late: Settings, computed: Computed) -> None:
    assert differing_tables(late, computed(GRAINS_MONTHS)) == {}
    assert all(rows(late, f"SELECT COUNT(*) FROM serving.{table}") > [(0,)] for table in SERVING_TABLES)


def test_a_second_run_downloads_nothing(late: Settings, posted: FaultyArchive) -> None:
    posted.forget_requests()
    assert pipelines.run("run-all", late, Request(as_of=AUTUMN)).startswith("nothing new")
    assert all(request.method == "HEAD" for request in posted.requests)


def test_another_dataset_loads_too_and_comes_out_the_same_on_a_ducklake(posted: FaultyArchive, tmp_path: Path) -> None:
    lake = DuckLake(SqliteCatalog(tmp_path / "lake.sqlite"), str(tmp_path / "lake"))
    settings = settings_in(tmp_path / "data", posted, EU_AREA, **environ_of(lake))
    pipelines.run("run-all", settings, Request(as_of=EU_AREA_MONTH))
    assert not settings.lakehouse_path.exists()
    assert differing(settings, EU_AREA_MONTH, "serving.fct_psd") == 0
    with serve_plain([unpack(EU_AREA, EU_AREA_MONTH, tmp_path)]) as at_once:
        differences = differing_tables(settings, at_once)
    # The plain models are rendered for a dataset that covers the world: this one has no world and no groups.
    of_groups = ("agg_world_balance", "agg_group_balance", "dim_country_group", "fct_metric")
    assert {table: only_served for table, (only_served, _) in differences.items()} == dict.fromkeys(of_groups, 0)
    assert rows(settings, "SELECT COUNT(*) FROM serving.agg_world_balance") == [(0,)]


def settings_in(data_dir: Path, archive: FaultyArchive, dataset: str, **environ: str) -> Settings:
    return Settings.from_environ(
        {"MATERIA_DATA_DIR": str(data_dir), "PSD_ARCHIVE_URL": archive.url, "PSD_DATASET": dataset, **environ}
    )


def unpack(dataset: str, month: Month, folder: Path) -> PlainSnapshot:
    """A real file as the models' plain SQL reads it."""
    zip_path, lines = real_zip(dataset, month), folder / f"{month}.parquet"
    with zipfile.ZipFile(zip_path) as archive:
        csv = archive.extract(archive.namelist()[0], folder / str(month))
    duckdb.execute(f"COPY (FROM read_csv('{csv}', all_varchar = true, header = true)) TO '{lines}'")
    day = inner_date(zip_path).date()
    return PlainSnapshot(str(month), day.replace(day=1), day, lines)


def differing_tables(settings: Settings, at_once: duckdb.DuckDBPyConnection) -> dict[str, tuple[int, int]]:
    """Per serving table that differs from what the plain models computed, the rows that only one of both has.

    The plain models know nothing of the address and the archive's headers.
    """
    at_once.execute(f"ATTACH '{settings.serving_path.resolve()}' AS served (READ_ONLY)")
    found = {}
    for table in SERVING_TABLES:
        columns = "released_on, shown_from, next_release_due, previous_released_on" if table == "dim_release" else "*"
        served, computed = (f"SELECT {columns} FROM {name}.serving.{table}" for name in ("served", "lakehouse"))
        found[table] = at_once.execute(
            f"SELECT (SELECT COUNT(*) FROM ({served} EXCEPT ALL {computed})),"
            f" (SELECT COUNT(*) FROM ({computed} EXCEPT ALL {served}))"
        ).fetchall()[0]
    return {table: counts for table, counts in found.items() if any(counts)}


def rows(settings: Settings, sql: str, *parameters: object, path: Path | None = None) -> list[tuple]:
    """Rows of the served generation, or of the one at `path`."""
    with duckdb.connect(str(path or settings.serving_path.resolve()), read_only=True) as connection:
        return connection.execute(sql, list(parameters)).fetchall()


def snapshot_of(settings: Settings, month: Month) -> Snapshot:
    return next(snapshot for snapshot in LocalLanding(settings.landing_dir).snapshots() if snapshot.month == month)


def rows_file(settings: Settings, month: Month) -> Path:
    """The landed rows of a month."""
    return LocalLanding(settings.landing_dir).rows_path(snapshot_of(settings, month))


def raw(settings: Settings, month: Month, sql: str) -> list[tuple]:
    """Rows of the landed CSV of a month, under the name `line`, all text."""
    with duckdb.connect() as connection:
        connection.execute(f"CREATE VIEW line AS FROM read_parquet('{rows_file(settings, month)}')")
        return connection.execute(sql).fetchall()


def day_of(settings: Settings, month: Month) -> date:
    return snapshot_of(settings, month).released_on


def differing(
    settings: Settings, month: Month, facts: str, *, path: Path | None = None, missing_allowed: bool = False
) -> int:
    """How many facts of a landed file are served with another value, or (unless allowed) not at all, or beyond it."""
    with duckdb.connect(str(path or settings.serving_path.resolve()), read_only=True) as connection:
        (count,) = connection.execute(
            f"""
            SELECT COUNT(*) FROM {facts} AS served
            FULL JOIN read_parquet('{rows_file(settings, month)}') AS said
              ON served.commodity_code = said.commodity_code AND served.country_code = said.country_code
              AND served.market_year = said.market_year::SMALLINT AND served.attribute_id = said.attribute_id
              AND served.unit_id = said.unit_id
            WHERE served.value IS DISTINCT FROM said.value::DOUBLE
              AND NOT ({missing_allowed} AND served.value IS NULL)
            """
        ).fetchone()
    return count
