"""Sync the lakehouse file between machines: whole versions in a bucket, each written only if its number is free.

    lakehouse/{dataset}/000012-{sha256}.duckdb     a file of version 12: the lakehouse, or SQLMesh's state
    lakehouse/{dataset}/000012.json                the record of version 12

`lakehouse.sync.json` beside the local files is the record of the version that they come from. The lakehouse can
always be rebuilt from the landing, so a newer version replaces the local files.
"""

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from dataflows.errors import LakehouseLockedError, LostRaceError, ObjectMissingError, ObjectStoreError, TransformError
from dataflows.files import move_durably, write_durably
from dataflows.lakehouse.stores import lock_conflict
from dataflows.objects.store import ObjectStore
from dataflows.objects.versions import Versions
from dataflows.sql_text import literal

VERSIONS_KEPT = 3
"""Versions kept, so that a running download survives two newer versions."""

_PULL_ATTEMPTS = 3

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VersionFile:
    """One file of a version."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Version:
    """The record of a version."""

    number: int
    created_by: str
    created_at: str
    files: tuple[VersionFile, ...]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, data: str | bytes, origin: str) -> "Version":
        """Read a record; raises ObjectStoreError naming `origin` when it isn't one."""
        try:
            record = json.loads(data)
            record["files"] = tuple(VersionFile(**file) for file in record["files"])
            return cls(**record)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ObjectStoreError(
                f"not the record of a lakehouse ({error}): {origin}; delete it, and the next transform uploads another"
            ) from error


class LakehouseSync:
    """The lakehouse of one dataset, local and in the bucket. The writer's lock admits one process at a time."""

    def __init__(self, store: ObjectStore, dataset: str, lakehouse_path: Path, state_path: Path) -> None:
        self._versions = Versions(store, f"lakehouse/{dataset}/")
        self._url = store.bucket.url(self._versions.prefix)
        self._paths = {"lakehouse.duckdb": lakehouse_path, "lakehouse-state.duckdb": state_path}
        self._note_path = lakehouse_path.with_name(f"{lakehouse_path.stem}.sync.json")

    def pull(self) -> Version | None:
        """Fetch the current version unless the local files come from it; return it when it was fetched.

        Raises ObjectDamagedError when a file differs from its record; then nothing here has changed.
        """
        for _ in range(_PULL_ATTEMPTS):
            number, etag = self._newest()
            if etag is None:
                self._note_path.unlink(missing_ok=True)
                return None
            if self._local_etag() == etag and all(path.exists() for path in self._paths.values()):
                return None
            try:
                record = self._versions.read(number).decode(errors="replace")
                version = Version.from_json(record, f"{self._url}{number:06d}.json")
                self._fetch(version)
            except ObjectMissingError:
                log.info("a version was removed while it was fetched", extra={"number": number})
                continue
            self._install(record)
            return version
        raise ObjectMissingError(
            f"files of version {number} are missing: {self._url}; delete {number:06d}.json there, and the next "
            "transform rebuilds the lakehouse"
        )

    def push(self, created_by: str, created_at: datetime) -> Version:
        """Upload the local lakehouse as the next version; call `pull` before working on it.

        DuckDB must have closed it. Raises LostRaceError when another machine has uploaded a version since `pull`;
        that version stays current, and the next pull fetches it.
        """
        for path in self._paths.values():
            settle(path)
        files = tuple(_describe_file(name, path) for name, path in self._paths.items())
        number, etag = self._newest()
        if self._local_etag() != etag:
            raise self._lost_race()
        if etag is not None:
            before = Version.from_json(self._note_path.read_bytes(), str(self._note_path))
            if before.files == files:
                return before
        version = Version(number + 1, created_by, created_at.isoformat(), files)
        record = version.to_json()
        paths = {file.sha256: self._paths[file.name] for file in files}
        if self._versions.commit(version.number, paths, record.encode()) != record.encode():
            raise self._lost_race()
        write_durably(self._note_path, record)
        self._versions.prune(VERSIONS_KEPT)
        return version

    def _newest(self) -> tuple[int, str | None]:
        """The number of the current version and the ETag of its record; 0 and None when there is none."""
        return max(((number, each.etag) for number, each in self._versions.records().items()), default=(0, None))

    def _local_etag(self) -> str | None:
        """The ETag of the record that the local files come from; None when they come from no version."""
        if not self._note_path.exists():
            return None
        return hashlib.md5(self._note_path.read_bytes(), usedforsecurity=False).hexdigest()

    def _lost_race(self) -> LostRaceError:
        return LostRaceError(
            f"another machine uploaded a lakehouse meanwhile: {self._url}; this one was not uploaded. Run again: "
            "the next run continues from the newer one"
        )

    def _fetch(self, version: Version) -> None:
        for file in version.files:
            if file.name not in self._paths:
                raise ObjectStoreError(
                    f"unknown file {file.name!r} in version {version.number}: {self._url}; delete "
                    f"{version.number:06d}.json there and run again"
                )
            self._versions.fetch(
                version.number, self._download_path(file.name), size_bytes=file.size_bytes, sha256=file.sha256
            )

    def _install(self, record: str) -> None:
        """Move both fetched files into place. Without the note, a machine that dies in between fetches again."""
        self._note_path.unlink(missing_ok=True)
        for name, path in self._paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(f"{path.name}.wal").unlink(missing_ok=True)
            move_durably(self._download_path(name), path)
        write_durably(self._note_path, record)

    def _download_path(self, name: str) -> Path:
        path = self._paths[name]
        return path.with_name(f"{path.name}.arriving")


def settle(path: Path) -> None:
    """Write a database's log into the file, so that the file alone is complete. Raises TransformError."""
    import duckdb

    if not path.exists():
        raise TransformError(f"there is no lakehouse to upload: {path}; run `materia pipeline run transform`")
    wal = path.with_name(f"{path.name}.wal")
    if not wal.exists():
        return
    try:
        with duckdb.connect() as connection:
            # The catalog name that its views use, independent of the file name.
            connection.execute(f"ATTACH {literal(path)} AS {'state' if path.stem.endswith('-state') else 'lakehouse'}")
    except duckdb.Error as error:
        if locked := lock_conflict(str(error)):
            raise LakehouseLockedError(locked) from error
        raise TransformError(f"could not close {path} cleanly and did not upload it ({error}); run again") from error
    if wal.exists():
        raise TransformError(f"another process has {path} open: {wal} is still there; it was not uploaded")


def _describe_file(name: str, path: Path) -> VersionFile:
    with path.open("rb") as file:
        return VersionFile(name, path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())
