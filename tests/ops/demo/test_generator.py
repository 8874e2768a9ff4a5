"""Generated releases look like USDA's and keep USDA's invariants."""

import hashlib
import io
import re
import subprocess
import sys
import zipfile
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from dataflows.errors import SettingsError
from dataflows.source.psd_zip import unpack
from dataflows.source.release import Month
from dataflows.source.release_dates import usda_release_days
from ops.demo.generator import HEADER, GeneratedRelease, generate
from ops.demo.history import HistorySpec, published_at
from ops.demo.sheet_forms import GROUPS
from tests.support.real_files import GRAINS, real_zip, required

LINE = re.compile(
    rb'\d{7},"[^"]{1,30}",[A-Z][A-Z0-9],"[^"]{1,30}",\d{4},\d{4},(0\d|1[0-2]),'
    rb'\d{3},"[^"]+",\d{2},"[^"]+",-?\d+\.\d{4}\r\n'
)
# 24 months of a small history: two Mays, countries taken up, vanished sheets, and coffee moved by one year.
HISTORY = HistorySpec.ending(Month(2025, 11), releases=24, rows=6_000, rekey_in=10, seed=7)
REKEYED = "0711100"
KEY = "commodity_code, country_code, market_year, attribute_id, unit_id"


def csv_of(release: GeneratedRelease) -> bytes:
    with zipfile.ZipFile(io.BytesIO(release.zip_bytes)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [f"{release.dataset}.csv"]
        return archive.read(archive.namelist()[0])


@pytest.fixture(scope="module")
def releases() -> list[GeneratedRelease]:
    return list(generate(HISTORY))


@pytest.fixture(scope="module")
def db(releases: list[GeneratedRelease], tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    """All releases in one table `psd`, numbered by `release`."""
    folder = tmp_path_factory.mktemp("csv")
    for number, release in enumerate(releases):
        (folder / f"{number:02d}.csv").write_bytes(csv_of(release))
    connection = duckdb.connect()
    connection.execute(f"""
        CREATE TABLE psd AS
        SELECT * REPLACE (market_year::INT AS market_year, value::DECIMAL(18, 4) AS value),
            regexp_extract(filename, '(\\d+)\\.csv$', 1)::INT AS release,
            calendar_year || month AS stamp
        FROM read_csv('{folder}/*.csv', header=true, all_varchar=true, filename=true)
    """)
    assert connection.sql("SELECT count(*) FROM psd").fetchone() == (sum(r.row_count for r in releases),)
    return connection


def test_every_byte_is_in_usdas_format(releases: list[GeneratedRelease]) -> None:
    for release in (releases[0], releases[-1]):
        csv = csv_of(release)
        assert csv.startswith(HEADER)
        lines = csv[len(HEADER) :].splitlines(keepends=True)
        assert len(lines) == release.row_count
        assert [line for line in lines if not LINE.fullmatch(line)] == []


def test_a_release_is_read_whole(releases: list[GeneratedRelease], tmp_path: Path) -> None:
    zip_path = tmp_path / "release.zip"
    zip_path.write_bytes(releases[-1].zip_bytes)
    contents = unpack(zip_path, f"{releases[-1].dataset}.csv", tmp_path / "rows.parquet")
    assert contents.row_count == releases[-1].row_count == csv_of(releases[-1]).count(b"\n") - 1


def test_the_real_file_has_the_same_format_and_order() -> None:
    with zipfile.ZipFile(required(real_zip(GRAINS, Month(2025, 11)))) as archive:
        real = archive.read(f"{GRAINS}.csv")
    assert real.startswith(HEADER)
    spec = HistorySpec(dataset=GRAINS, rows=5_000, releases=1)
    generated = csv_of(next(generate(spec)))
    for csv in (real, generated):
        lines = csv[len(HEADER) :].splitlines(keepends=True)[:100_000]
        assert [line for line in lines if not LINE.fullmatch(line)] == []
        names = [line.decode("ascii").lower().split('"') for line in lines]
        # commodity, country, market year, attribute, each by name whatever its case
        order = [(parts[1], parts[3], parts[4].split(",")[1], parts[5]) for parts in names]
        assert order == sorted(order)


def test_attributes_and_units_of_grains_are_those_of_the_real_file() -> None:
    with zipfile.ZipFile(required(real_zip(GRAINS, Month(2025, 11)))) as archive:
        real = archive.read(f"{GRAINS}.csv")
    generated = csv_of(next(generate(HistorySpec(dataset=GRAINS, rows=20_000, releases=1))))

    def forms(csv: bytes) -> set[tuple[bytes, bytes]]:
        lines = csv[len(HEADER) :].splitlines()
        return {(line[:7], b",".join(line.rsplit(b",", 5)[1:5])) for line in lines}

    codes = {code for code, _ in forms(generated)}
    assert len(codes) == 9
    assert forms(generated) == forms(real)


def test_text_includes_commas_and_names_cut_at_thirty_characters() -> None:
    csv = csv_of(next(generate(HistorySpec(dataset="psd_coffee", rows=88_000, releases=1))))
    assert b'0711100,"Coffee, Green",UR,"Union of Soviet Socialist Repu",1986,' in csv


def test_each_fact_has_one_row_and_each_sheet_one_stamp(db: duckdb.DuckDBPyConnection) -> None:
    assert db.sql(f"SELECT 1 FROM psd GROUP BY release, {KEY} HAVING count(*) > 1").fetchall() == []
    sheets = "release, commodity_code, country_code, market_year"
    assert db.sql(f"SELECT 1 FROM psd GROUP BY {sheets} HAVING count(DISTINCT stamp) > 1").fetchall() == []
    units = "SELECT 1 FROM psd GROUP BY commodity_code, attribute_id HAVING count(DISTINCT unit_id) > 1"
    assert db.sql(units).fetchall() == []


def test_no_value_changes_without_its_stamp_and_no_stamp_is_wrong(db: duckdb.DuckDBPyConnection) -> None:
    """Every pair of releases: a stamp at or before month M means that release M has the very same value."""
    months = [f"{month.year}{month.month:02d}" for month in HISTORY.months]
    db.execute("CREATE OR REPLACE TABLE months AS SELECT unnest($1::VARCHAR[]) AS month", [months])
    db.execute("ALTER TABLE months ADD COLUMN release INT")
    db.executemany("UPDATE months SET release = $1 WHERE month = $2", list(enumerate(months)))
    same_fact = " AND ".join(f"early.{column} = late.{column}" for column in KEY.split(", "))
    checked, wrong = db.sql(f"""
        SELECT count(*), count(*) FILTER (WHERE early.value IS DISTINCT FROM late.value)
        FROM psd AS late
        JOIN months ON months.month >= late.stamp AND months.release < late.release
        LEFT JOIN psd AS early
            ON early.release = months.release AND {same_fact}
    """).fetchone()
    assert checked > 1_000_000
    assert wrong == 0
    newest = db.sql("SELECT release, max(stamp) FROM psd GROUP BY release ORDER BY release").fetchall()
    assert newest == list(enumerate(months))


def test_sheets_balance_and_begin_with_what_the_year_before_left(db: duckdb.DuckDBPyConnection) -> None:
    db.execute("""
        CREATE OR REPLACE VIEW sheet AS
        SELECT release, commodity_code, country_code, market_year,
            map_from_entries(list((attribute_id, value))) AS v
        FROM psd GROUP BY ALL
    """)
    unbalanced = """
        SELECT * FROM sheet WHERE v['086'] IS DISTINCT FROM v['020'] + v['028'] + v['057']
            OR v['178'] IS DISTINCT FROM v['086']
            OR v['178'] <> v['088'] + coalesce(v['125'], v['142'] + v['150']) + v['176']
            OR v['125'] <> v['130'] + v['192']
            OR (v['130'] IS NOT NULL AND abs(v['184'] - v['028'] / nullif(v['004'], 0)) > 0.01)
    """
    assert db.sql(unbalanced).fetchall() == []
    torn = """
        SELECT * FROM sheet AS this JOIN sheet AS next USING (release, commodity_code, country_code)
        WHERE next.market_year = this.market_year + 1 AND next.v['020'] <> this.v['176']
    """
    assert db.sql(torn).fetchall() == []
    assert db.sql("SELECT count(*) FROM psd WHERE value < 0").fetchone() == (0,)


def test_a_history_holds_every_kind_of_change(db: duckdb.DuckDBPyConnection) -> None:
    seen = db.sql(f"""
        SELECT DISTINCT CASE WHEN after.value = before.value THEN 'restamped'
            WHEN before.value IS NULL THEN 'new' WHEN after.value IS NULL THEN 'removed' ELSE 'revised' END
        FROM (SELECT *, release + 1 AS following FROM psd) AS before
        FULL JOIN psd AS after ON before.following = after.release
            AND {" AND ".join(f"before.{name} = after.{name}" for name in KEY.split(", "))}
        WHERE coalesce(after.release, before.following) BETWEEN 1 AND {len(HISTORY.months) - 1}
            AND coalesce(after.commodity_code, before.commodity_code) <> '{REKEYED}'
            AND (before.stamp IS DISTINCT FROM after.stamp OR before.value IS DISTINCT FROM after.value)
    """).fetchall()
    assert {kind for (kind,) in seen} == {"new", "revised", "removed", "restamped"}


def test_the_rekeying_release_is_an_exact_shift_of_one_commodity(db: duckdb.DuckDBPyConnection) -> None:
    columns = "commodity_code, country_code, attribute_id, unit_id, value"
    of = f"FROM psd WHERE commodity_code = '{REKEYED}' AND release ="
    before = f"SELECT market_year + 1, {columns} {of} {HISTORY.rekey_in - 1}"
    after = f"SELECT market_year, {columns} {of} {HISTORY.rekey_in}"
    assert db.sql(f"SELECT count(*) FROM ({after})").fetchone()[0] > 500
    assert db.sql(f"({before} EXCEPT {after}) UNION ALL ({after} EXCEPT {before})").fetchall() == []
    month = HISTORY.months[HISTORY.rekey_in]
    stamps = db.sql(f"SELECT DISTINCT stamp {of} {HISTORY.rekey_in}").fetchall()
    assert stamps == [(f"{month.year}{month.month:02d}",)]


def test_may_brings_a_new_market_year(db: duckdb.DuckDBPyConnection) -> None:
    newest = dict(
        db.sql("SELECT release, max(market_year) FROM psd WHERE commodity_code = '0440000' GROUP BY 1").fetchall()
    )
    for number, month in enumerate(HISTORY.months):
        assert newest[number] == month.year - (month.month < 5)


def test_old_coffee_carries_month_00() -> None:
    spec = HistorySpec(dataset="psd_coffee", rows=88_000, releases=1, first_month=Month(2025, 11))
    lines = csv_of(next(generate(spec)))[len(HEADER) :].splitlines()
    undated = sum(line.split(b'"')[4].split(b",")[3] == b"00" for line in lines)
    assert 0.5 < undated / len(lines) < 0.65


@pytest.mark.parametrize(
    ("dataset", "rows"),
    [
        ("psd_alldata", 100),
        ("psd_alldata", 500),
        ("psd_alldata", 30_000),
        ("psd_coffee", 3_000),
        ("psd_grains_pulses", 100_000),
    ],
)
def test_the_first_release_has_about_as_many_rows_as_asked_for(dataset: str, rows: int) -> None:
    release = next(generate(HistorySpec(dataset=dataset, rows=rows, releases=1, compress_level=1)))
    assert abs(release.row_count - rows) <= max(rows // 50, 20)


def test_the_full_psd_alldata_fits() -> None:
    from ops.demo.history import open_books

    books = open_books(HistorySpec(rows=2_100_000, releases=24))
    assert len(books) == 63
    assert abs(sum(book.row_count for book in books) - 2_100_000) < 1_000


def test_another_process_makes_the_same_bytes(releases: list[GeneratedRelease]) -> None:
    program = (
        "import hashlib\n"
        "from dataflows.source.release import Month\n"
        "from ops.demo.generator import generate\n"
        "from ops.demo.history import HistorySpec\n"
        f"for release in generate({HISTORY!r}):\n"
        "    print(hashlib.sha256(release.zip_bytes).hexdigest())\n"
    )
    command = [sys.executable, "-c", program]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert printed.split() == [hashlib.sha256(release.zip_bytes).hexdigest() for release in releases]


def test_another_seed_makes_other_values_and_revisions() -> None:
    one, two = (list(map(csv_of, generate(HistorySpec(rows=3_000, releases=2, seed=seed)))) for seed in (1, 2))
    assert one[0] != two[0]
    assert set(one[1].splitlines()) - set(one[0].splitlines()) != set(two[1].splitlines()) - set(two[0].splitlines())


def test_generated_bytes_do_not_drift() -> None:
    """A changed digest invalidates every figure measured on generated data: change it deliberately."""
    digest = hashlib.sha256()
    for release in generate(HistorySpec(rows=3_000, releases=4, rekey_in=2)):
        digest.update(csv_of(release))
    assert digest.hexdigest()[:16] == "0b435c9c2723a03b"


def test_releases_come_out_on_the_days_of_usdas_calendar_and_beyond_it_on_a_working_day_like_these() -> None:
    beyond = []
    for month in Month(2007, 1).through(Month(2035, 12)):
        day = published_at(month)
        assert (day.year, day.month, day.hour) == (month.year, month.month, 16)
        assert day.weekday() < 5
        if listed := usda_release_days(month):
            assert day.date() == listed[0]
        else:
            beyond.append(month)
            assert 9 <= day.day <= 12
        assert day.utcoffset() == timedelta(0)
    assert Month(2019, 1) in beyond and Month(2035, 12) in beyond
    assert published_at(Month(2025, 9)).date().isoformat() == "2025-09-12"


def test_the_zip_and_its_headers_hold_the_day_of_publication(releases: list[GeneratedRelease]) -> None:
    last = releases[-1]
    assert (last.month, last.file_name) == (Month(2025, 11), "psd_alldata_csv.zip")
    with zipfile.ZipFile(io.BytesIO(last.zip_bytes)) as archive:
        date = last.published_at
        assert archive.infolist()[0].date_time == (date.year, date.month, date.day, 12, 0, 0)
    assert last.last_modified == last.published_at.strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert len({release.etag for release in releases}) == len(releases)


@pytest.mark.parametrize(
    "wrong",
    [
        {"dataset": "psd_unheard_of"},
        {"rows": 99},
        {"releases": 0},
        {"rekey_in": 0},
        {"rekey_in": 6},
        {"first_month": Month(1999, 1)},
    ],
)
def test_an_impossible_history_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        HistorySpec(**wrong)


def test_more_rows_than_believable_are_refused() -> None:
    with pytest.raises(SettingsError, match="ask for fewer"):
        next(generate(HistorySpec(dataset="psd_coffee", rows=2_000_000, releases=1)))


def test_parts_cover_their_total_without_gap() -> None:
    """Where attributes split a total, each part starts where another ends."""
    for name, group in GROUPS.items():
        for whole in ("consumption", "imports", "exports", "production"):
            lows = sorted(a.low for a in group.attributes if a.quantity == whole and a.low)
            highs = {a.high for a in group.attributes if a.quantity == whole}
            assert set(lows) <= highs, (name, whole)


def test_importing_the_demo_archive_stays_cheap() -> None:
    program = (
        "import sys, ops.demo.generator, ops.demo.archive_server\n"
        "print([name for name in ('numpy', 'pandas', 'duckdb', 'hamilton') if name in sys.modules])"
    )
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout == "[]\n"
