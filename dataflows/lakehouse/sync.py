"""Sync the lakehouse file between machines: whole versions in a bucket, and a pointer with compare-and-swap.

    lakehouse/{dataset}/current.json                         the pointer; replaced only if unchanged
    lakehouse/{dataset}/000012-{sha256}/lakehouse.duckdb         a version: both files, never changed
    lakehouse/{dataset}/000012-{sha256}/lakehouse-state.duckdb

`lakehouse.handover.json` beside the local files records the version they come from. The lakehouse can always be
rebuilt from the landing, so a newer version replaces the local files.
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
from dataflows.objects import download as object_download
from dataflows.objects import upload as object_upload
from dataflows.objects.store import Document, ObjectStore
from dataflows.sql_text import literal

VERSIONS_KEPT = 3
"""Versions kept, so that a running download survives two newer versions."""

_PULL_ATTEMPTS = 3

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HandedFile:
    """One file of a version."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Version:
    """The version that the pointer names."""

    number: int
    made_by: str
    made_at: str
    files: tuple[HandedFile, ...]

    def to_json(self) -> bytes:
        return (json.dumps(asdict(self), indent=2) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes, origin: str) -> "Version":
        """Read a pointer; raises ObjectStoreError naming `origin` when it isn't one."""
        try:
            record = json.loads(data)
            record["files"] = tuple(HandedFile(**file) for file in record["files"])
            return cls(**record)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ObjectStoreError(
                f"{origin} is not a pointer to a lakehouse ({error}); delete it, and the next transform recreates it"
            ) from error


class LakehouseHandover:
    """The lakehouse of one dataset, local and in the bucket. The writer's lock admits one process at a time."""

    def __init__(self, store: ObjectStore, dataset: str, lakehouse_path: Path, state_path: Path) -> None:
        self._store = store
        self._prefix = f"lakehouse/{dataset}/"
        self._paths = {"lakehouse.duckdb": lakehouse_path, "lakehouse-state.duckdb": state_path}
        self._note_path = lakehouse_path.with_name(f"{lakehouse_path.stem}.handover.json")

    @property
    def pointer_key(self) -> str:
        return f"{self._prefix}current.json"

    def pull(self) -> Version | None:
        """Fetch the current version unless the local files come from it; returns it when it was fetched.

        Raises ObjectDamagedError when a file is not what the pointer says; then nothing here has changed.
        """
        for _ in range(_PULL_ATTEMPTS):
            pointer = self._store.read(self.pointer_key)
            if pointer is None:
                self._note_path.unlink(missing_ok=True)
                return None
            if self._base() == pointer.etag and all(path.exists() for path in self._paths.values()):
                return None
            version = self._version(pointer)
            try:
                self._fetch(version)
            except ObjectMissingError:
                log.info("a version was removed while it was fetched", extra={"number": version.number})
                continue
            self._install(pointer)
            return version
        raise ObjectMissingError(
            f"{self._store.bucket.url(self.pointer_key)} names files that are not there; "
            "delete it, and the next transform rebuilds the lakehouse"
        )

    def push(self, made_by: str, made_at: datetime) -> Version:
        """Make the local lakehouse the current version; call `pull` before working on it.

        DuckDB must have closed it. Raises LostRaceError when another machine has moved the pointer since
        `pull`: its version stays current, and the next pull fetches it.
        """
        for path in self._paths.values():
            settle(path)
        files = tuple(_describe_file(name, path) for name, path in self._paths.items())
        base = self._base()
        before = self._check_still_current(base) if base else None
        if before is not None and before.files == files:
            return before
        version = Version(before.number + 1 if before else 1, made_by, made_at.isoformat(), files)
        for file in files:
            object_upload.upload(self._store, self._paths[file.name], self._key(version, file))
        self._move_pointer(version, base)
        self._prune(version)
        return version

    def _check_still_current(self, base: str) -> Version:
        pointer = self._store.read(self.pointer_key)
        if pointer is None or pointer.etag != base:
            raise self._lost_race()
        return self._version(pointer)

    def _move_pointer(self, version: Version, base: str | None) -> None:
        data = version.to_json()
        try:
            if base is not None:
                self._store.replace(self.pointer_key, data, base)
            elif not self._store.put_if_absent(self.pointer_key, data):
                there = self._store.read(self.pointer_key)
                if there is None or there.data != data:
                    raise self._lost_race()
        except LostRaceError as error:
            self._take_back(version)
            raise self._lost_race() from error
        self._note(hashlib.md5(data, usedforsecurity=False).hexdigest())

    def _take_back(self, version: Version) -> None:
        """Delete the files of a version that lost the race, unless the winner uses them."""
        pointer = self._store.read(self.pointer_key)
        winner = self._version(pointer) if pointer else None
        kept = {self._key(winner, file) for file in winner.files} if winner else set()
        for key in {self._key(version, file) for file in version.files} - kept:
            self._store.delete(key)

    def _lost_race(self) -> LostRaceError:
        return LostRaceError(
            f"another machine has moved {self._store.bucket.url(self.pointer_key)} since this one began: its lakehouse "
            "stays, this one was not handed over; run again to go on from there"
        )

    def _fetch(self, version: Version) -> None:
        for file in version.files:
            if file.name not in self._paths:
                url = self._store.bucket.url(self.pointer_key)
                raise ObjectStoreError(f"{url} names a strange file, {file.name!r}; delete it and run again")
            object_download.download(
                self._store,
                self._key(version, file),
                self._download_path(file.name),
                size_bytes=file.size_bytes,
                sha256=file.sha256,
            )

    def _install(self, pointer: Document) -> None:
        """Put both fetched files in place. Without the note, a machine that dies in between fetches again."""
        self._note_path.unlink(missing_ok=True)
        for name, path in self._paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(f"{path.name}.wal").unlink(missing_ok=True)
            move_durably(self._download_path(name), path)
        self._note(pointer.etag)

    def _download_path(self, name: str) -> Path:
        path = self._paths[name]
        return path.with_name(f"{path.name}.arriving")

    def _prune(self, newest: Version) -> None:
        """Delete old versions and leftovers of lost races that no running download needs."""
        for listed in self._store.list(self._prefix):
            number = listed.key.removeprefix(self._prefix).partition("-")[0]
            if number.isdigit() and int(number) <= newest.number - VERSIONS_KEPT:
                self._store.delete(listed.key)
        object_upload.clean_unfinished(self._store, self._prefix)

    def _version(self, pointer: Document) -> Version:
        return Version.from_json(pointer.data, self._store.bucket.url(self.pointer_key))

    def _key(self, version: Version, file: HandedFile) -> str:
        """Return the prefix of a version: the number gives the order, the digest makes it unique."""
        return f"{self._prefix}{version.number:06d}-{file.sha256}/{file.name}"

    def _base(self) -> str | None:
        """The ETag of the pointer that the local files come from; None when they come from nowhere."""
        try:
            return str(json.loads(self._note_path.read_text())["pointer_etag"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def _note(self, etag: str) -> None:
        write_durably(self._note_path, json.dumps({"pointer_etag": etag}) + "\n")


def settle(path: Path) -> None:
    """Write a database's log into the file, so that the file alone is complete. Raises TransformError."""
    import duckdb

    if not path.exists():
        raise TransformError(f"{path} is not there: run `materia pipeline run transform` before handing it over")
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
        raise TransformError(f"{path} could not be closed cleanly and was not handed over: {error}") from error
    if wal.exists():
        raise TransformError(f"{wal} is still there: something has {path} open; it was not handed over")


def _describe_file(name: str, path: Path) -> HandedFile:
    with path.open("rb") as file:
        return HandedFile(name, path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())
