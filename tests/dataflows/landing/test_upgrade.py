"""Landings that were written when a server's headers named and dated the releases."""

import json
import shutil
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

import pytest

from dataflows.landing.local import LocalLanding
from dataflows.landing.snapshot import Snapshot
from dataflows.landing.upgrade import upgrade
from dataflows.source.release import Month
from tests.dataflows.conftest import MONTH, POSTED_AT, tree
from tests.support.old_landing import age
from tests.support.psd_files import DATASET, csv, row, rows, zipped

MOVED = date(2026, 5, 1)


@pytest.fixture
def aged(coffee, extracted, landing) -> LocalLanding:
    """Three months, all dated by one day of a server that was moved."""
    for back in range(3):
        stamped = row("ZZ", calendar_year="2025", month=f"{11 - back:02d}")
        packed = zipped(csv([*rows(4 + back), stamped]), date=(2025, 11 - back, 13, 12, 1, 2))
        coffee.post(MONTH.back(back), packed, POSTED_AT)
        extracted(only=MONTH.back(back))
    for number, snapshot in enumerate(landing.snapshots()):
        age(landing, snapshot, f"etag{number}", MOVED)
    return landing


def test_old_markers_can_be_read(aged):
    assert [(snapshot.form, snapshot.released_on) for snapshot in aged.snapshots()] == [(1, MOVED)] * 3
    assert [snapshot.month for snapshot in aged.snapshots()] == [MONTH.back(2), MONTH.back(1), MONTH]


def test_dates_in_the_file_replace_dates_from_the_server(aged, caplog):
    caplog.set_level("INFO")
    zips = {name: data for name, data in tree(aged.root).items() if name.endswith(".zip")}
    done = upgrade(aged)
    assert [each.is_redated for each in done] == [True] * 3
    found = aged.snapshots()
    assert [(each.form, each.released_on, each.newest_stamp) for each in found] == [
        (2, date(2025, 9, 13), "2025-09"),
        (2, date(2025, 10, 13), "2025-10"),
        (2, date(2025, 11, 13), "2025-11"),
    ]
    assert found[-1].published_at == datetime(2025, 11, 13, 12, 1, 2)
    assert {name: data for name, data in tree(aged.root).items() if name.endswith(".zip")} == zips
    assert {str(aged.rows_path(each).relative_to(aged.root)) for each in found} == {
        name for name in tree(aged.root) if name.startswith("raw/")
    }
    assert [record.getMessage() for record in caplog.records].count("marker upgraded") == 3


def test_an_upgrade_done_twice_changes_nothing(aged):
    upgrade(aged)
    before = tree(aged.root)
    assert upgrade(aged) == ()
    assert tree(aged.root) == before


def test_an_upgrade_that_died_halfway_is_continued(aged):
    whole = LocalLanding(aged.root.with_name("whole"))
    shutil.copytree(aged.root, whole.root)
    upgrade(whole)
    oldest = aged.snapshots()[0]
    moved = whole.find(oldest.key)
    aged.write_marker(moved)  # and the rows are still under the old day
    assert aged.rows_path(oldest).exists()
    upgrade(aged)
    aged.ready_rows(DATASET)
    assert tree(aged.root) == tree(whole.root)


def test_lost_rows_are_unpacked_under_the_right_day(aged):
    shutil.rmtree(aged.root / "raw")
    upgrade(aged)
    assert all(aged.rows_path(each).exists() for each in aged.snapshots())


def test_rows_that_lie_under_several_days_are_left_under_the_markers_day_only(aged):
    oldest = aged.snapshots()[0]
    rows_path = aged.rows_path(oldest)
    for year in range(2001, 2013):
        other = aged.rows_path(replace(oldest, released_on=date(year, 1, 1)))
        other.parent.mkdir(parents=True)
        shutil.copy(rows_path, other)
    aged.place_rows(oldest)
    days = [path.name for path in (aged.root / "raw" / oldest.dataset).iterdir()]
    assert days == [f"released_on={oldest.released_on}"], "no empty folder is left"
    assert [path for path in tree(aged.root) if f"key={oldest.key}/" in path] == [str(rows_path.relative_to(aged.root))]


def test_rows_are_moved_to_the_markers_day_and_not_unpacked_again(aged):
    oldest = aged.snapshots()[0]
    written_at = aged.rows_path(oldest).stat().st_mtime_ns
    moved = replace(oldest, released_on=date(2025, 9, 13))
    aged.rows_path(moved).parent.mkdir(parents=True)
    aged.write_marker(moved)  # a run that died here
    rows_path = aged.rows_file(moved, aged.zip_path(oldest.key))
    assert rows_path == aged.rows_path(moved)
    assert rows_path.stat().st_mtime_ns == written_at
    assert not aged.rows_path(oldest).parent.exists()


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"PK no zip")], ids=["gone", "damaged"])
def test_a_marker_whose_zip_is_gone_stays_readable(aged, caplog, spoil):
    spoil(aged.zip_path(aged.snapshots()[1].key))
    assert len(upgrade(aged)) == 2
    assert [each.form for each in aged.snapshots()] == [2, 1, 2]
    assert "a marker of the old format was not upgraded" in caplog.text


def test_known_bytes_are_known_under_an_old_key(aged, coffee, extracted):
    upgrade(aged)
    again = extracted(only=MONTH)
    assert (again.is_new, again.snapshot.key) == (False, "etag2")


def test_a_marker_reads_what_it_wrote_in_both_forms(aged):
    old = aged.snapshots()[0]
    assert Snapshot.from_json(old.to_json(), "here") == old
    upgrade(aged)
    new = aged.snapshots()[0]
    assert Snapshot.from_json(new.to_json(), "here") == new
    assert new.month == Month(2025, 9) and json.loads(new.to_json())["form"] == 2
