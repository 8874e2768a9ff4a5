"""The landing in a bucket: committed once, found by every machine, cached, verified."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from dataflows.errors import LandingError, LostRaceError, ObjectDamagedError, ObjectStoreError
from dataflows.landing import bucket as landing_r2
from dataflows.landing.bucket import R2Landing
from dataflows.landing.local import LocalLanding
from dataflows.landing.snapshot import Snapshot
from dataflows.landing.upgrade import upgrade
from dataflows.landing.verify import sync, verify
from dataflows.objects.store import ObjectStore
from dataflows.source.probe_memory import Known, LiveCheck, ProbeMemory
from tests.r2.snapshots import DATASET, Prepared, prepared
from tests.support.faulty_proxy import Fault, FaultyProxy
from tests.support.old_landing import old_marker


@pytest.fixture(scope="module")
def releases() -> list[Prepared]:
    return list(prepared(5))


@pytest.fixture
def landing(store: ObjectStore, tmp_path: Path) -> R2Landing:
    return R2Landing(store, LocalLanding(tmp_path / "here"))


@pytest.fixture
def other(other_store: ObjectStore, tmp_path: Path) -> R2Landing:
    """The same landing on another machine."""
    return R2Landing(other_store, LocalLanding(tmp_path / "there"))


def land(landing: R2Landing, *releases: Prepared) -> None:
    for each in releases:
        landing.land(each.snapshot, *each.files(landing.workspace))


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_a_snapshot_that_one_machine_lands_is_found_by_another(
    landing: R2Landing, other: R2Landing, releases: list[Prepared]
) -> None:
    land(landing, *reversed(releases))
    assert other.find(releases[1].snapshot.key) == releases[1].snapshot
    assert other.find("another") is None
    assert other.snapshots() == tuple(each.snapshot for each in releases), "oldest first, through several pages"


def test_the_zip_is_not_kept_here(landing: R2Landing, releases: list[Prepared]) -> None:
    land(landing, releases[0])
    assert [Path(name).suffix for name in files(landing.cache.root)] == [".json", ".parquet"]


def test_a_known_snapshot_costs_one_request(landing: R2Landing, proxy: FaultyProxy, releases: list[Prepared]) -> None:
    land(landing, releases[0])
    again = R2Landing(landing.store, landing.cache)
    before = len(proxy.seen)
    for _ in range(4):
        assert again.find(releases[0].snapshot.key) == releases[0].snapshot
    assert len(proxy.seen) - before == 1


def test_markers_landed_or_read_once_are_only_listed_after_that(
    other: R2Landing, landing: R2Landing, proxy: FaultyProxy, releases: list[Prepared]
) -> None:
    land(landing, *releases)
    before = len(proxy.requests("GET", "/psd/"))
    assert len(R2Landing(landing.store, landing.cache).snapshots()) == 5
    assert len(proxy.requests("GET", "/psd/")) == before, "this machine landed them"
    for machine in (other, R2Landing(landing.store, other.cache)):
        assert len(machine.snapshots()) == 5
    assert len(proxy.requests("GET", "/psd/")) == before, "read once, by the other machine without the proxy"


def test_two_machines_landing_one_file_both_succeed(
    landing: R2Landing, other: R2Landing, releases: list[Prepared], tmp_path: Path
) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda each: land(each, releases[0]), [landing, other]))
    assert [each.key for each in landing.store.list("psd/")] == [
        landing.marker_key(releases[0].snapshot.key),
        landing.zip_key(releases[0].snapshot.key),
    ]
    assert [verdict.problem for verdict in verify(landing, landing.cache)] == [None]


def test_another_file_under_a_known_etag_is_refused(landing: R2Landing, releases: list[Prepared]) -> None:
    land(landing, releases[0])
    disguised = replace(releases[1], snapshot=replace(releases[1].snapshot, key=releases[0].snapshot.key))
    with pytest.raises(LandingError, match="evidence never changes"):
        land(landing, disguised)
    assert [verdict.problem for verdict in verify(landing, landing.cache)] == [None]


def test_an_incomplete_landing_is_invisible_and_the_next_one_completes_it(
    landing: R2Landing, other: R2Landing, proxy: FaultyProxy, releases: list[Prepared]
) -> None:
    proxy.misbehave(Fault("PUT", ".json", times=None, status=503))
    with pytest.raises(ObjectStoreError, match="SlowDown, 2 attempts"):
        land(landing, releases[0])
    assert other.find(releases[0].snapshot.key) is None
    assert other.snapshots() == ()
    land(other, releases[0])
    assert landing.snapshots() == (releases[0].snapshot,)


def test_an_abandoned_zip_is_replaced_once_it_is_old(
    landing: R2Landing, releases: list[Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    landing.store.put_if_absent(landing.zip_key(releases[0].snapshot.key), b"what a dead landing left")
    with pytest.raises(LostRaceError):
        land(landing, releases[0])
    monkeypatch.setattr(landing_r2, "LEFTOVER_AFTER", timedelta(0))
    land(landing, releases[0])
    assert [verdict.problem for verdict in verify(landing, landing.cache)] == [None]


def test_the_cache_mirrors_the_bucket(
    landing: R2Landing, other: R2Landing, proxy: FaultyProxy, releases: list[Prepared]
) -> None:
    land(landing, *releases[:3])
    other.ready_rows(DATASET)
    assert other.cache.snapshots() == tuple(each.snapshot for each in releases[:3])
    assert all(other.cache.rows_path(each.snapshot).exists() for each in releases[:3])
    assert not any(name.endswith(".zip") for name in files(other.cache.root))
    gone = releases[1].snapshot
    landing.store.delete(landing.marker_key(gone.key))
    R2Landing(other.store, other.cache).ready_rows(DATASET)
    assert other.cache.find(gone.key) is None
    assert not other.cache.rows_path(gone).exists()


def test_cached_rows_are_not_downloaded(landing: R2Landing, proxy: FaultyProxy, releases: list[Prepared]) -> None:
    land(landing, *releases[:2])
    landing.ready_rows(DATASET)
    assert proxy.requests("GET", ".parquet") == []
    assert proxy.requests("GET", ".zip") == []


def test_without_a_copy_of_the_rows_the_zip_is_unpacked(
    landing: R2Landing, other: R2Landing, releases: list[Prepared]
) -> None:
    land(landing, releases[0])
    for listed in list(landing.store.list("raw/")):
        landing.store.delete(listed.key)
    other.ready_rows(DATASET)
    assert other.cache.rows_path(releases[0].snapshot).exists()
    assert [verdict.problem for verdict in verify(other, other.cache)] == [None]


def test_a_zip_that_exists_only_locally_stops_a_transform(landing: R2Landing, releases: list[Prepared]) -> None:
    landing.cache.land(releases[0].snapshot, *releases[0].files(landing.workspace))
    with pytest.raises(LandingError, match="materia landing sync"):
        landing.ready_rows(DATASET)
    assert landing.cache.zip_path(releases[0].snapshot.key).exists()


def test_rows_damaged_in_the_bucket_are_not_used(
    landing: R2Landing, other: R2Landing, releases: list[Prepared]
) -> None:
    land(landing, releases[0])
    (listed,) = landing.store.list("raw/")
    flip_a_byte(landing.store, listed.key)
    with pytest.raises(ObjectDamagedError):
        other.ready_rows(DATASET)
    assert other.cache.snapshots() == ()


def test_sync_copies_what_one_side_lacks(landing: R2Landing, other: R2Landing, releases: list[Prepared]) -> None:
    local = landing.cache
    local.land(releases[0].snapshot, *releases[0].files(local.workspace))
    land(other, releases[1])
    assert [(each.key, each.to) for each in sync(local, landing)] == [
        (releases[0].snapshot.key, "bucket"),
        (releases[1].snapshot.key, "local folder"),
    ]
    assert list(sync(local, landing)) == []
    assert local.snapshots() == landing.snapshots() == tuple(each.snapshot for each in releases[:2])
    assert [verdict.problem for verdict in verify(local, local)] == [None, None]
    assert [verdict.problem for verdict in verify(landing, local)] == [None, None]


def test_sync_refuses_two_files_under_one_key(landing: R2Landing, other: R2Landing, releases: list[Prepared]) -> None:
    disguised = replace(releases[1], snapshot=replace(releases[1].snapshot, key=releases[0].snapshot.key))
    landing.cache.land(releases[0].snapshot, *releases[0].files(landing.workspace))
    land(other, disguised)
    with pytest.raises(LandingError, match=releases[0].snapshot.key):
        list(sync(landing.cache, landing))


def test_sync_sends_no_damaged_file(landing: R2Landing, releases: list[Prepared]) -> None:
    local = landing.cache
    local.land(releases[0].snapshot, *releases[0].files(local.workspace))
    path = local.zip_path(releases[0].snapshot.key)
    path.write_bytes(flipped(path.read_bytes()))
    with pytest.raises(LandingError, match=str(path)):
        list(sync(local, landing))
    assert landing.snapshots() == ()


def test_verify_finds_a_flipped_byte(landing: R2Landing, releases: list[Prepared], tmp_path: Path) -> None:
    land(landing, *releases[:3])
    flip_a_byte(landing.store, landing.zip_key(releases[1].snapshot.key))
    landing.store.delete(landing.zip_key(releases[2].snapshot.key))
    intact, flipped_byte, gone = verify(landing, landing.cache)
    assert intact.problem is None
    assert "sha256" in flipped_byte.problem
    assert "NoSuchKey" in gone.problem
    assert list(landing.workspace.glob("*.zip")) == []


def test_verify_counts_rows(landing: R2Landing, releases: list[Prepared]) -> None:
    wrong = replace(releases[0], snapshot=replace(releases[0].snapshot, row_count=7))
    land(landing, wrong)
    (verdict,) = verify(landing, landing.cache)
    assert "its marker says 7" in verdict.problem
    shutil.rmtree(landing.cache.root / "raw")
    local = LocalLanding(landing.cache.root)
    local.land(releases[1].snapshot, *releases[1].files(local.workspace))
    local.rows_path(releases[1].snapshot).write_bytes(b"PAR1 and nothing else")
    (verdict,) = verify(local, local)
    assert str(local.rows_path(releases[1].snapshot)) in verdict.problem


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def flip_a_byte(store: ObjectStore, key: str) -> None:
    """Change one byte of an object."""
    data = store.client.get_object(Bucket=store.bucket.name, Key=key)["Body"].read()
    store.client.put_object(Bucket=store.bucket.name, Key=key, Body=flipped(data))


def age(landing: R2Landing, prepared: Prepared, released_on: date) -> Snapshot:
    """Put a release into the bucket with a marker of form 1, dated by a header."""
    snapshot = replace(prepared.snapshot, released_on=released_on)
    landing.land(snapshot, *prepared.files(landing.workspace))
    marker = f"psd/{snapshot.key}.json"
    found = landing.store.read(marker)
    landing.store.replace(marker, old_marker(snapshot, snapshot.key, released_on).encode(), found.etag)
    return snapshot


def test_old_markers_in_the_bucket_are_upgraded_with_their_rows(
    landing: R2Landing, other: R2Landing, releases: list[Prepared]
) -> None:
    moved = date(2026, 5, 1)
    for each in releases[:3]:
        age(landing, each, moved)
    landing = R2Landing(landing.store, landing.cache)
    landing.ready_rows(DATASET)
    assert {each.form for each in other.snapshots()} == {1}, "the other machine has read them as they were"

    assert [each.is_redated for each in upgrade(landing)] == [True] * 3
    right = [each.snapshot.released_on for each in releases[:3]]
    fresh = R2Landing(other.store, other.cache)
    assert [(each.form, each.released_on) for each in fresh.snapshots()] == [(2, day) for day in right]
    stored = [each.key for each in landing.store.list(f"raw/{DATASET}/")]
    assert len(stored) == 3 and not any(str(moved) in key for key in stored)
    for machine in (landing, fresh):
        machine.ready_rows(DATASET)
        rows = [name for name in files(machine.cache.root) if name.endswith("rows.parquet")]
        assert len(rows) == 3 and not any(str(moved) in name for name in rows)
    assert upgrade(fresh) == ()


def test_the_next_run_completes_an_interrupted_upgrade_in_the_bucket(
    landing: R2Landing, releases: list[Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    age(landing, releases[0], date(2026, 5, 1))

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    for step in ("replace", "delete"):
        landing = R2Landing(landing.store, landing.cache)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(landing.store, step, dies)
            upgrade(landing)
    landing = R2Landing(landing.store, landing.cache)
    upgrade(landing)
    landing.ready_rows(DATASET)
    assert [each.released_on for each in landing.snapshots()] == [releases[0].snapshot.released_on]
    rows = [name for name in files(landing.cache.root) if name.endswith("rows.parquet")]
    assert len(rows) == 1 and str(releases[0].snapshot.released_on) in rows[0]


def test_every_machine_knows_the_results_of_probes(landing: R2Landing, other: R2Landing) -> None:
    def known(etag: str) -> Known:
        return Known("http://archive/2025/11/x.zip", "HEAD", etag, None, 9, "2025-11-0123456789abcdef")

    assert other.memory(DATASET) == ProbeMemory()
    landing.update_memory(DATASET, lambda memory: memory.with_known(known('"1"')))
    other.update_memory(DATASET, lambda memory: memory.with_known(known('"2"')))
    check = LiveCheck(date(2025, 11, 20), "2025-11-0123456789abcdef")
    other.update_memory(DATASET, lambda memory: replace(memory, live=check))
    assert landing.memory(DATASET).known == (known('"1"'), known('"2"'))
    assert landing.live_check(DATASET) == check


def test_the_local_copy_has_the_last_check(landing: R2Landing, other: R2Landing) -> None:
    check = LiveCheck(date(2025, 11, 20), "2025-11-0123456789abcdef")
    other.update_memory(DATASET, lambda memory: replace(memory, live=check))
    assert other.cache.live_check(DATASET) == check
    assert landing.cache.live_check(DATASET) is None
    landing.update_memory(DATASET, lambda memory: replace(memory, live=check))
    assert landing.cache.live_check(DATASET) == check


def test_a_part_of_a_landed_zip_is_read_from_the_bucket(landing: R2Landing, releases: list[Prepared]) -> None:
    land(landing, releases[0])
    size_bytes = len(releases[0].zip_bytes)
    assert landing.zip_bytes(releases[0].snapshot, size_bytes - 50, 1024) == releases[0].zip_bytes[-50:]
