"""What must hold in a data directory whatever died there, and what must be the same once the next run is through."""

import re
from dataclasses import dataclass
from pathlib import Path

import duckdb

from dataflows.landing.local import LocalLanding
from dataflows.landing.snapshot import Snapshot
from dataflows.serving.build import SERVING_TABLES
from dataflows.serving.store import ServingStore
from ops.host.lock import writer_lock
from ops.journal.journal import Journal
from ops.journal.run import RunStatus
from tests.torture.crash.bucket import Bucket, assert_whole

Tables = dict[str, tuple[int, str]]

_verified: set[str] = set()
"""Digests of generations that a fresh process has read whole: a file with the same bytes is as good."""

_PASSING = re.compile(r"logs/run-\d+\.log|runs\.sqlite-(wal|shm)|writer\.lock")
"""Logs have numbers that depend on how many runs there were; SQLite takes its files away with the last one out; the
lock's file stays, whoever had it."""


@dataclass(frozen=True)
class Outcome:
    """What a data directory holds, apart from numbers, times and past runs."""

    snapshots: tuple[tuple[str, str, int], ...]
    served: Tables | None
    lakehouse: Tables | None
    files: frozenset[str]
    objects: frozenset[str]


def outcome_of(data_dir: Path, bucket: Bucket | None = None) -> Outcome:
    """What the runs so far have come to, here and in the bucket that they share.

    With a bucket the rows here are a cache, which the next transform fills.
    """
    store, lakehouse = ServingStore(data_dir / "serving.duckdb"), data_dir / "lakehouse.duckdb"
    return Outcome(
        snapshots=tuple((each.key, each.sha256, each.row_count) for each in _snapshots(data_dir, bucket)),
        served=tables_of(store.serving_path.resolve()) if store.served() else None,
        lakehouse=tables_of(lakehouse) if lakehouse.exists() else None,
        files=frozenset(name for name in files_of(data_dir) if not (bucket and name.startswith("landing/raw/"))),
        objects=bucket.names() if bucket else frozenset(),
    )


def assert_sound(data_dir: Path, bucket: Bucket | None = None) -> None:
    """Every file is intact, no run is in progress, and the lock is free."""
    _snapshots(data_dir, bucket)
    if bucket is not None:
        bucket.assert_handed_over_whole()
    served_number(data_dir)
    with Journal(data_dir / "runs.sqlite") as journal:
        for run in journal.runs(50):
            assert run.status is not RunStatus.RUNNING, f"run {run.id} runs for ever"
            assert all(step.status is not RunStatus.RUNNING for step in journal.steps(run.id))
    if data_dir.exists():
        with writer_lock(data_dir / "writer.lock", "probe"):
            pass


def _snapshots(data_dir: Path, bucket: Bucket | None) -> tuple[Snapshot, ...]:
    """The landed snapshots, each held against its zip, where the landing is."""
    if bucket is not None:
        return bucket.snapshots()
    landing = LocalLanding(data_dir / "landing")
    snapshots = landing.snapshots()
    for snapshot in snapshots:
        assert_whole(snapshot, landing.zip_path(snapshot.key).read_bytes())
    return snapshots


def served_number(data_dir: Path) -> int | None:
    """The number of the served generation, after a look at every row of it; None when nothing is served."""
    store = ServingStore(data_dir / "serving.duckdb")
    served = store.served()
    if served is None:
        return None
    store.check(served.number)
    if served.sha256 not in _verified:
        store.verify(served.number)
        _verified.add(served.sha256)
    return served.number


def tables_of(database: Path) -> Tables:
    """How many rows each serving table has, and a digest of them whatever their order."""
    with duckdb.connect(str(database), read_only=True) as connection:
        return {
            table: connection.execute(
                f"SELECT count(*), md5(coalesce(string_agg(line, chr(10) ORDER BY line), ''))"
                f" FROM (SELECT t::VARCHAR AS line FROM serving.{table} AS t)"
            ).fetchone()
            for table in SERVING_TABLES
        }


def files_of(data_dir: Path) -> frozenset[str]:
    """The names below a data directory, generations without their numbers: what a dead run left shows here."""
    names = (str(path.relative_to(data_dir)) for path in data_dir.rglob("*") if not path.is_dir())
    return frozenset(re.sub(r"^serving-\d+\.", "serving-N.", name) for name in names if not _PASSING.fullmatch(name))
