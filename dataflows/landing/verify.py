"""Verify a landing against its markers, and sync two landings."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path

from dataflows.errors import LandingError, MateriaError, SnapshotError
from dataflows.landing.bucket import R2Landing
from dataflows.landing.local import Landing, LocalLanding
from dataflows.landing.snapshot import Snapshot


@dataclass(frozen=True)
class Verdict:
    """Result for one landed snapshot; `problem` is None when the files match the marker."""

    key: str
    dataset: str
    month: str
    problem: str | None


@dataclass(frozen=True)
class Copied:
    """A snapshot that a sync copied from one landing to the other."""

    key: str
    month: str
    to: str


def verify(landing: Landing, cache: LocalLanding) -> Iterator[Verdict]:
    """Recompute size, sha256 and row count of every snapshot from its zip; count the rows kept for the transform."""
    for snapshot in landing.snapshots():
        try:
            with landing.zip_file(snapshot) as path:
                _check(snapshot, path, landing)
            check_rows(snapshot, cache.rows_path(snapshot))
            problem = None
        except (MateriaError, OSError) as error:
            problem = str(error)
        yield Verdict(snapshot.key, snapshot.dataset, str(snapshot.month), problem)


def sync(local: LocalLanding, remote: R2Landing) -> Iterator[Copied]:
    """Copy each snapshot that only one landing has to the other and verify it; common snapshots are not touched."""
    there = {snapshot.key: snapshot for snapshot in remote.snapshots()}
    here = {snapshot.key: snapshot for snapshot in local.snapshots() if local.zip_path(snapshot.key).exists()}
    _refuse_conflicts(here, there)
    for key, snapshot in here.items():
        if key not in there:
            yield _copy_to_bucket(local, remote, snapshot)
    for key, snapshot in there.items():
        if key not in here:
            yield _copy_from_bucket(local, remote, snapshot)


def _copy_to_bucket(local: LocalLanding, remote: R2Landing, snapshot: Snapshot) -> Copied:
    zip_path = local.zip_path(snapshot.key)
    check_bytes(snapshot, zip_path)
    if not local.rows_path(snapshot).exists():
        local.rebuild_rows(snapshot, zip_path)
    remote.add(snapshot, zip_path, local.rows_path(snapshot))
    return Copied(snapshot.key, str(snapshot.month), "bucket")


def _copy_from_bucket(local: LocalLanding, remote: R2Landing, snapshot: Snapshot) -> Copied:
    """Zip, rows, and the marker last, as everywhere."""
    remote.fetch_zip(snapshot, local.zip_path(snapshot.key))
    if not local.rows_path(snapshot).exists():
        local.rebuild_rows(snapshot, local.zip_path(snapshot.key))
    local.write_marker(snapshot)
    return Copied(snapshot.key, str(snapshot.month), "local folder")


def _refuse_conflicts(here: dict[str, Snapshot], there: dict[str, Snapshot]) -> None:
    for key in sorted(here.keys() & there.keys()):
        if here[key].sha256 != there[key].sha256:
            raise LandingError(
                f"snapshot {key} is one file here and another in the bucket (their sha256 differ); "
                "move the one that is wrong away, then sync again"
            )


def _check(snapshot: Snapshot, path: Path, landing: Landing) -> None:
    check_bytes(snapshot, path)
    landing.workspace.mkdir(parents=True, exist_ok=True)
    rows_path = landing.workspace / f"{snapshot.key}.verify.parquet"
    try:
        contents = landing.format.unpack(path, snapshot.member, rows_path)
    finally:
        rows_path.unlink(missing_ok=True)
    if contents.row_count != snapshot.row_count:
        raise SnapshotError(f"{path} has {contents.row_count} rows, its marker says {snapshot.row_count}")


def check_bytes(snapshot: Snapshot, path: Path) -> None:
    """Raise LandingError unless a zip has the size and the sha256 that its marker says."""
    with path.open("rb") as file:
        sha256 = file_digest(file, "sha256").hexdigest()
    if (path.stat().st_size, sha256) != (snapshot.size_bytes, snapshot.sha256):
        raise LandingError(
            f"{path} is not the file that was landed: its size or sha256 differs from its marker's; "
            "run `materia landing repair`"
        )


def check_rows(snapshot: Snapshot, rows_path: Path) -> None:
    """Raise LandingError if unpacked rows exist but cannot be read or differ in number from the landed ones."""
    if not rows_path.exists():
        return
    import duckdb

    with duckdb.connect() as connection:
        try:
            counted = connection.execute(
                "SELECT count(*), count(value), bit_xor(hash(r)) FROM read_parquet(?) AS r", [str(rows_path)]
            ).fetchall()[0][:2]
        except duckdb.Error as error:
            raise LandingError(
                f"{rows_path} cannot be read ({error}); run `materia run-all`, which unpacks it again"
            ) from error
    if counted != (snapshot.row_count, snapshot.row_count):
        raise LandingError(
            f"{rows_path} has {counted[0]} rows, its marker says {snapshot.row_count}; "
            "run `materia run-all`, which unpacks them again"
        )
