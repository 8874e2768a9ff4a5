"""The gate: what refuses a generation, and what makes publishing one unnecessary."""

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pytest

from dataflows.lakehouse.transform import models_digest
from dataflows.landing.snapshot import Snapshot, releases_digest
from dataflows.serving.gate import Gate, faults_against, is_current, is_redated
from dataflows.serving.generation import Generation, GenerationFacts
from dataflows.serving.store import ServingStore

SERVED = Generation(
    number=3,
    created_at=datetime(2025, 11, 14, 18, tzinfo=UTC),
    code_version="abc1234",
    duckdb_version="1.5.5",
    models_digest="d1ge57",
    snapshots=("october", "november"),
    newest_released_on=date(2025, 11, 14),
    row_counts={"fct_psd": 1000, "dim_country": 8},
    forced_reason=None,
    size_bytes=4096,
    sha256="5" * 64,
)


def facts(**changes: object) -> GenerationFacts:
    """The served generation's facts, changed."""
    known = {name: getattr(SERVED, name) for name in GenerationFacts.__dataclass_fields__}
    return GenerationFacts(**{**known, **changes})


def snapshot(key: str, dataset: str = "psd_coffee") -> Snapshot:
    return Snapshot(
        dataset=dataset,
        url=f"http://archive/2025/11/{dataset}_csv.zip",
        etag=key,
        last_modified=None,
        release_year=2025,
        release_month=11,
        released_on=date(2025, 11, 14),
        size_bytes=1,
        sha256="0" * 64,
        member=f"{dataset}.csv",
        row_count=1,
        landed_at=datetime(2025, 11, 15, tzinfo=UTC),
        key=key,
    )


def test_the_same_again_passes() -> None:
    assert faults_against(SERVED, facts(), 0.0) == ()


def test_a_gate_without_a_reason_forces_nothing() -> None:
    assert Gate(0.1).forced_reason is None


NOVEMBER = {"newest_release_month": "2025-11", "newest_released_on": date(2025, 11, 14)}


@pytest.mark.parametrize(
    ("month", "day", "passes"),
    [
        ("2025-11", date(2025, 11, 14), True),
        ("2025-11", date(2025, 11, 13), False),
        ("2025-11", None, False),
        ("2025-12", date(2025, 11, 1), True),
        ("2025-10", date(2025, 12, 1), False),
    ],
)
def test_an_older_newest_release_is_refused_by_month_then_by_day(month: str, day: date | None, passes: bool) -> None:
    found = faults_against(
        replace(SERVED, **NOVEMBER), facts(newest_release_month=month, newest_released_on=day), max_row_loss=1.0
    )
    expected = f"its newest release is {month} of {day}, the served one's 2025-11 of 2025-11-14"
    assert found == (() if passes else (expected,))


@pytest.mark.parametrize("months", [(None, "2025-11"), ("2025-11", None), (None, None)])
@pytest.mark.parametrize(
    ("day", "snapshots", "passes"),
    [
        (date(2025, 11, 13), ("october", "november"), True),
        (date(2025, 11, 13), ("october",), False),
        (date(2025, 11, 14), ("october",), True),
        (date(2025, 12, 9), ("december",), True),
        (None, ("october", "november"), False),
    ],
)
def test_where_a_month_is_unknown_an_earlier_day_is_refused_if_a_release_is_missing(
    months: tuple[str | None, str | None], day: date | None, snapshots: tuple[str, ...], passes: bool
) -> None:
    served = replace(SERVED, newest_release_month=months[0])
    new = facts(newest_release_month=months[1], newest_released_on=day, snapshots=snapshots)
    assert (faults_against(served, new, max_row_loss=1.0) == ()) is passes


def test_without_a_served_release_none_is_required() -> None:
    assert faults_against(replace(SERVED, newest_released_on=None), facts(newest_released_on=None), 0.0) == ()
    november = replace(SERVED, newest_release_month="2025-11", newest_released_on=None)
    assert faults_against(november, facts(newest_release_month="2025-11", newest_released_on=None), 0.0) == ()


@pytest.mark.parametrize(("rows", "passes"), [(900, True), (899, False), (1000, True), (2000, True), (0, False)])
def test_exactly_the_allowed_share_of_rows_may_be_missing(rows: int, passes: bool) -> None:
    found = faults_against(SERVED, facts(row_counts={"fct_psd": rows, "dim_country": 8}), 0.1)
    assert (found == ()) is passes


def test_without_an_allowance_no_row_may_be_missing() -> None:
    (fault,) = faults_against(SERVED, facts(row_counts={"fct_psd": 999, "dim_country": 8}), 0.0)
    assert fault == "fct_psd has 999 rows, 1,000 are served (at most 0% may be missing)"


def test_a_table_that_is_missing_counts_as_empty_and_each_table_is_named_in_order() -> None:
    first, second = faults_against(SERVED, facts(row_counts={}), 0.1)
    assert first == "dim_country has 0 rows, 8 are served (at most 10% may be missing)"
    assert second.startswith("fct_psd has 0 rows, 1,000 are served")


def test_tables_that_are_not_compared_hide_no_other() -> None:
    served = replace(SERVED, row_counts={"agg_wasde_check": 9, "fct_psd": 1000})
    (fault,) = faults_against(served, facts(row_counts={"fct_psd": 1}), 0.02)
    assert fault.startswith("fct_psd has 1 rows")


def test_a_table_that_is_new_is_no_fault() -> None:
    more = {**SERVED.row_counts, "dim_unit": 0}
    assert faults_against(SERVED, facts(row_counts=more), 0.0) == ()


@pytest.mark.parametrize("table", ["agg_group_balance", "fct_metric"])
def test_a_table_of_sums_may_lose_rows_but_not_all(table: str) -> None:
    """A sheet that USDA drops may be the only one of a group: 19 of 684 rows, where 2 % may be missing."""
    served = replace(SERVED, row_counts={**SERVED.row_counts, table: 684})
    assert faults_against(served, facts(row_counts={**SERVED.row_counts, table: 1}), 0.0) == ()
    (fault,) = faults_against(served, facts(row_counts={**SERVED.row_counts, table: 0}), 1.0)
    assert fault == f"{table} is empty, 684 rows are served"
    assert faults_against(replace(served, row_counts={table: 0}), facts(row_counts={}), 0.0) == ()
    edited = facts(row_counts={**SERVED.row_counts, table: 340}, models_digest="0ther")
    (fault,) = faults_against(served, edited, 0.02)
    assert fault.startswith(f"{table} has 340 rows, 684 are served"), "an edited model may lose them by mistake"


@pytest.mark.parametrize("table", ["agg_wasde_check", "fct_uncertain_span"])
def test_the_comparison_with_wasde_and_the_gaps_between_releases_may_be_empty(table: str) -> None:
    """Until the report of the newest release's month is landed; once a release that was missing is landed."""
    served = replace(SERVED, row_counts={**SERVED.row_counts, table: 60})
    assert faults_against(served, facts(row_counts={**SERVED.row_counts, table: 0}), 0.0) == ()


# Whether there is anything to publish


def published(folder: Path, **changes: object) -> ServingStore:
    """A store that serves one more generation of these facts."""
    store = ServingStore(folder / "serving.duckdb")
    number = store.next_number()
    store.building_path(number).write_bytes(b"data")
    given = {"models_digest": models_digest(), "snapshots": ("one", "two"), **changes}
    store.publish(store.building_path(number), facts(number=number, **given))
    return store


SNAPSHOTS = (snapshot("one"), snapshot("two"))


def test_a_generation_of_the_same_snapshots_and_code_is_current(tmp_path: Path) -> None:
    assert is_current(published(tmp_path), SNAPSHOTS, "psd_coffee") is True


def test_nothing_published_is_never_current(tmp_path: Path) -> None:
    store = ServingStore(tmp_path / "serving.duckdb")
    assert is_current(store, (), "psd_coffee") is False


@pytest.mark.parametrize("landed", [SNAPSHOTS[:1], SNAPSHOTS[::-1], (*SNAPSHOTS, snapshot("three")), ()])
def test_other_snapshots_are_published(tmp_path: Path, landed: tuple[Snapshot, ...]) -> None:
    assert is_current(published(tmp_path), landed, "psd_coffee") is False


def test_other_datasets_snapshots_do_not_count(tmp_path: Path) -> None:
    landed = (*SNAPSHOTS, snapshot("three", "psd_cotton"))
    assert is_current(published(tmp_path), landed, "psd_coffee") is True
    assert is_current(published(tmp_path), landed, "psd_cotton") is False


def test_other_code_is_published(tmp_path: Path) -> None:
    assert is_current(published(tmp_path, models_digest="another"), SNAPSHOTS, "psd_coffee") is False


def test_the_code_of_an_older_generation_does_not_count(tmp_path: Path) -> None:
    published(tmp_path)
    assert is_current(published(tmp_path, models_digest="another"), SNAPSHOTS, "psd_coffee") is False
    assert is_current(published(tmp_path), SNAPSHOTS, "psd_coffee") is True


def test_snapshots_of_another_day_are_published_unless_no_digest_of_days_is_known(tmp_path: Path) -> None:
    store = published(tmp_path, releases_digest=releases_digest(SNAPSHOTS))
    assert is_current(store, SNAPSHOTS, "psd_coffee") is True
    redated = tuple(replace(each, released_on=date(2025, 11, 12)) for each in SNAPSHOTS)
    assert is_current(store, redated, "psd_coffee") is False
    assert is_current(published(tmp_path), redated, "psd_coffee") is True


@pytest.mark.parametrize(("day", "redated"), [("2025-11-14", False), ("2025-11-12", True)])
def test_a_release_that_got_another_day_is_noticed(tmp_path: Path, day: str, redated: bool) -> None:
    served, built = tmp_path / "it's served.duckdb", tmp_path / "built.duckdb"
    write_releases(served, ("one", "2025-10-09"), ("two", "2025-11-14"), ("gone", "2025-01-01"))
    write_releases(built, ("one", "2025-10-09"), ("two", day), ("new", "2025-12-09"))
    assert is_redated(served, built) is redated


def test_a_file_without_releases_is_not_redated(tmp_path: Path) -> None:
    write_releases(tmp_path / "built.duckdb", ("one", "2025-10-09"))
    duckdb.connect(str(tmp_path / "served.duckdb")).close()
    assert is_redated(tmp_path / "served.duckdb", tmp_path / "built.duckdb") is False
    with duckdb.connect(str(tmp_path / "served.duckdb")) as connection:
        connection.execute("CREATE SCHEMA serving")
        connection.execute("CREATE TABLE serving.dim_release AS SELECT 1 AS another_column")
    assert is_redated(tmp_path / "served.duckdb", tmp_path / "built.duckdb") is False


def write_releases(path: Path, *releases: tuple[str, str]) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE SCHEMA serving")
        connection.execute("CREATE TABLE serving.dim_release (snapshot_key TEXT, released_on DATE)")
        connection.executemany("INSERT INTO serving.dim_release VALUES (?, ?)", releases)


def test_a_rollback_holds_until_there_is_something_new(tmp_path: Path) -> None:
    published(tmp_path, snapshots=("one",))
    store = published(tmp_path)
    store.rollback()
    assert is_current(store, SNAPSHOTS, "psd_coffee") is True
    assert is_current(store, SNAPSHOTS[:1], "psd_coffee") is False


def test_a_generation_that_was_never_served_is_published_again(tmp_path: Path) -> None:
    store = published(tmp_path)
    store.serving_path.rename(tmp_path / "serving.duckdb.swap")
    assert is_current(store, SNAPSHOTS, "psd_coffee") is False
    # Another one is served, and the newest was complete and announced when its publisher died.
    (tmp_path / "serving.duckdb.swap").unlink()
    published(tmp_path, snapshots=("one", "two", "three"))
    store.rollback(1)
    (tmp_path / "serving.duckdb.swap").symlink_to(store.path(2).name)
    assert is_current(store, (*SNAPSHOTS, snapshot("three")), "psd_coffee") is False


def test_a_generation_without_a_link_to_it_is_published_again(tmp_path: Path) -> None:
    store = published(tmp_path)
    store.serving_path.unlink()
    assert is_current(store, SNAPSHOTS, "psd_coffee") is False
