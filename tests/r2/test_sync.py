"""Sync of the lakehouse and the generations between two machines: no lost update, no partial file."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from dataflows.errors import LostRaceError, ObjectDamagedError, ObjectStoreError, ServingBrokenError
from dataflows.lakehouse.sync import VERSIONS_KEPT, LakehouseSync
from dataflows.objects.store import ObjectStore
from dataflows.serving import ServingReader
from dataflows.serving.remote import RemoteGenerations
from dataflows.serving.store import ServingStore
from tests.dataflows.serving.building import publish, published_store
from tests.support.faulty_proxy import Fault, FaultyProxy

NOW = datetime(2025, 11, 21, 20, 42, tzinfo=UTC)
DATASET = "psd_coffee"


class Machine:
    """The lakehouse of one machine."""

    def __init__(self, store: ObjectStore, directory: Path) -> None:
        directory.mkdir()
        self.name = directory.name
        self.lakehouse, self.state = directory / "lakehouse.duckdb", directory / "lakehouse-state.duckdb"
        self.sync = LakehouseSync(store, DATASET, self.lakehouse, self.state)

    def work(self, value: int) -> None:
        """Write to both files and leave their .wal files, as a killed process does."""
        for path in (self.lakehouse, self.state):
            with duckdb.connect(path) as connection:
                connection.execute("PRAGMA disable_checkpoint_on_shutdown")
                connection.execute(f"CREATE OR REPLACE TABLE work AS SELECT {value} AS value FROM range(10000)")
        assert self.lakehouse.with_name("lakehouse.duckdb.wal").exists()

    def values(self) -> tuple[int, int]:
        found = []
        for path in (self.lakehouse, self.state):
            with duckdb.connect(path, read_only=True) as connection:
                found.append(connection.execute("SELECT max(value) FROM work").fetchall()[0][0])
        return found[0], found[1]

    def push(self) -> int:
        return self.sync.push(self.name, NOW).number


def keys(machine: Machine) -> list[str]:
    """The objects of the lakehouse in the bucket."""
    return [each.key for each in machine.sync._versions.store.list("lakehouse/")]


@pytest.fixture
def a(store: ObjectStore, tmp_path: Path) -> Machine:
    return Machine(store, tmp_path / "a")


@pytest.fixture
def b(other_store: ObjectStore, tmp_path: Path) -> Machine:
    return Machine(other_store, tmp_path / "b")


def test_one_machine_continues_where_the_other_stopped(a: Machine, b: Machine) -> None:
    assert a.sync.pull() is None
    a.work(1)
    assert a.push() == 1
    assert b.sync.pull().created_by == "a"
    assert b.values() == (1, 1)
    b.work(2)
    assert b.push() == 2
    assert a.sync.pull().number == 2
    assert a.values() == (2, 2)


def test_nothing_is_transferred_when_nothing_changed(a: Machine, proxy: FaultyProxy) -> None:
    a.sync.pull()
    a.work(1)
    a.push()
    before = len(proxy.seen)
    assert a.sync.pull() is None
    assert a.push() == 1
    assert len(proxy.seen) - before == 2, "the listing of the records, each time"


@pytest.mark.parametrize("first", [True, False], ids=["the very first version", "a later version"])
def test_a_lost_race_is_an_error_and_loses_no_update(a: Machine, b: Machine, first: bool) -> None:
    if not first:
        a.sync.pull()
        a.work(1)
        a.push()
    a.sync.pull()
    b.sync.pull()
    a.work(2)
    b.work(3)
    b.push()
    with pytest.raises(LostRaceError, match=r"another machine uploaded .*: s3://.*/lakehouse/.*Run again"):
        a.push()
    a.sync.pull()
    assert a.values() == (3, 3)
    assert len(keys(a)) == (3 if first else 6), "the files of the version that lost the race were deleted"


def test_a_race_that_is_lost_at_the_last_moment(a: Machine, b: Machine, proxy: FaultyProxy) -> None:
    a.sync.pull()
    b.sync.pull()
    a.work(1)
    b.work(2)

    held = proxy.misbehave(Fault("PUT", ".json", hold=True))
    with ThreadPoolExecutor(1) as pool:
        pushing = pool.submit(a.push)
        assert held.held.wait(30)
        b.push()
        held.released.set()
        with pytest.raises(LostRaceError):
            pushing.result()
    a.sync.pull()
    assert a.values() == (2, 2)
    assert len(keys(a)) == 3, "the files of the version that lost the race were deleted"


def test_a_record_whose_answer_was_lost_is_written(a: Machine, proxy: FaultyProxy) -> None:
    a.sync.pull()
    a.work(1)
    proxy.misbehave(Fault("PUT", ".json", lose_answer=True))
    assert a.push() == 1
    a.work(2)
    proxy.misbehave(Fault("PUT", ".json", lose_answer=True))
    assert a.push() == 2


def test_a_damaged_version_changes_nothing_here(a: Machine, b: Machine) -> None:
    a.sync.pull()
    a.work(1)
    a.push()
    b.sync.pull()
    a.work(2)
    a.push()
    store = a.sync._versions.store
    newest = max(key for key in keys(a) if key.endswith(".duckdb"))
    store.client.put_object(Bucket=store.bucket.name, Key=newest, Body=b"\0" * store.head(newest).size_bytes)
    with pytest.raises(ObjectDamagedError):
        b.sync.pull()
    assert b.values() == (1, 1)


def test_an_interrupted_pull_leaves_the_old_pair(a: Machine, b: Machine, proxy: FaultyProxy) -> None:
    b.sync.pull()
    b.work(1)
    b.push()
    a.sync.pull()
    b.work(2)
    b.push()
    proxy.misbehave(Fault("GET", ".duckdb", times=None, skip=1, status=503))
    with pytest.raises(ObjectStoreError, match="SlowDown"):
        a.sync.pull()
    assert a.values() == (1, 1)
    proxy.behave()
    a.sync.pull()
    assert a.values() == (2, 2)


def test_old_versions_are_removed(a: Machine) -> None:
    a.sync.pull()
    for value in range(VERSIONS_KEPT + 2):
        a.work(value)
        a.push()
    assert sorted({key.split("/")[2][:6] for key in keys(a)}) == [f"{n:06d}" for n in range(3, VERSIONS_KEPT + 3)]


def test_a_machine_that_changes_the_bucket_starts_with_version_1(a: Machine, other_store: ObjectStore) -> None:
    a.sync.pull()
    a.work(1)
    a.push()
    for key in keys(a):
        other_store.delete(key)
    assert a.sync.pull() is None
    assert a.push() == 1


@pytest.fixture
def generations(store: ObjectStore, tmp_path: Path) -> RemoteGenerations:
    """The generations in a bucket, and the folders of two hosts, `a` and `b`."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    return RemoteGenerations(store, DATASET)


def pushed(generations: RemoteGenerations, serving: ServingStore) -> None:
    newest = serving.generations()[-1]
    generations.push(newest, serving.path(newest.number))


def test_a_generation_is_served_elsewhere_under_its_number(generations: RemoteGenerations, tmp_path: Path) -> None:
    here, there = published_store(tmp_path / "a", 3), ServingStore(tmp_path / "b" / "serving.duckdb")
    pushed(generations, here)
    pulled = generations.pull(generations.newest(), there)
    assert pulled == here.generations()[-1]
    assert there.verify(3) == pulled
    with ServingReader(there.serving_path) as reader:
        assert reader.query("SELECT max(value) AS value FROM serving.fct_psd").table.to_pylist() == [{"value": 3}]
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == [
        "serving-3.duckdb",
        "serving-3.json",
        "serving.duckdb",
    ]


def test_a_used_number_is_replaced_by_the_next_free_one_on_either_side(
    generations: RemoteGenerations, tmp_path: Path
) -> None:
    here, there = ServingStore(tmp_path / "a" / "serving.duckdb"), published_store(tmp_path / "b", 2)
    publish(here, rows=70)
    publish(there, rows=50)
    pushed(generations, here)
    assert generations.pull(generations.newest(), there).number == 4
    assert there.served().sha256 == here.served().sha256
    theirs = there.generations()[2]
    assert generations.push(theirs, there.path(theirs.number)).number == 3
    pushed(generations, here)
    assert generations.newest().sha256 == here.served().sha256
    assert generations.numbers() == (1, 3, 4)


def test_of_two_machines_that_push_one_number_one_gets_an_error(
    generations: RemoteGenerations, other_store: ObjectStore, proxy: FaultyProxy, tmp_path: Path
) -> None:
    here = published_store(tmp_path / "a")
    there = ServingStore(tmp_path / "b" / "serving.duckdb")
    publish(there, rows=50)
    held = proxy.misbehave(Fault("PUT", ".json", hold=True))
    with ThreadPoolExecutor(1) as pool:
        losing = pool.submit(pushed, generations, here)
        assert held.held.wait(30)
        pushed(RemoteGenerations(other_store, DATASET), there)
        held.released.set()
        with pytest.raises(LostRaceError, match=r"s3://.*000001\.json"):
            losing.result()
    assert generations.newest() == there.generations()[-1]
    assert len([each for each in other_store.list("serving/") if each.key.endswith(".duckdb")]) == 1


def test_an_interrupted_pull_serves_the_old_generation(
    generations: RemoteGenerations, proxy: FaultyProxy, tmp_path: Path
) -> None:
    here, there = published_store(tmp_path / "a", 2), published_store(tmp_path / "b")
    pushed(generations, here)
    proxy.misbehave(Fault("GET", ".duckdb", times=None, cut_answer_after_bytes=10_000))
    with pytest.raises(ObjectStoreError, match="IncompleteReadError"):
        generations.pull(generations.newest(), there)
    assert there.served().number == 1
    assert there.verify(1)
    assert [each.number for each in there.generations()] == [1]
    proxy.behave()
    assert generations.pull(generations.newest(), there).number == 2
    assert there.served().sha256 == here.served().sha256


def test_a_generation_that_differs_from_its_sidecar_is_never_served(
    generations: RemoteGenerations, tmp_path: Path
) -> None:
    here, there = published_store(tmp_path / "a", 2), published_store(tmp_path / "b")
    pushed(generations, here)
    with pytest.raises(ServingBrokenError, match="rows"):
        generations.pull(replace(generations.newest(), row_counts={"fct_psd": 7}), there)
    store = generations._store
    (key,) = (each.key for each in store.list("serving/") if each.key.endswith(".duckdb"))
    store.client.put_object(Bucket=store.bucket.name, Key=key, Body=b"\0" * store.head(key).size_bytes)
    with pytest.raises(ObjectDamagedError):
        generations.pull(generations.newest(), there)
    assert there.served().number == 1


def test_the_bucket_keeps_only_the_newest(generations: RemoteGenerations, tmp_path: Path) -> None:
    here = ServingStore(tmp_path / "a" / "serving.duckdb")
    for _ in range(4):
        publish(here)
        pushed(generations, here)
    generations.prune(2)
    assert generations.numbers() == (3, 4)
    assert len(list(generations._store.list("serving/"))) == 4
