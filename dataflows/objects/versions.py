"""Files that appear in a bucket together: immutable files first, then a record that names them, written once.

    {prefix}000012-{sha256}.duckdb     a file of version 12
    {prefix}000012.json                the record of version 12, written last: the number is taken

A record is written only if there is none: of two machines that write one number, one succeeds. Generations and the
lakehouse file are versions; the landing commits snapshots in the same way, under names of its own.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dataflows.errors import LostRaceError, ObjectMissingError
from dataflows.objects.store import ObjectStore, StoredObject
from dataflows.objects.transfer import download, upload


def commit(store: ObjectStore, files: Mapping[str, Path], record_key: str, record: bytes) -> bytes:
    """Upload files to their keys, then write their record unless there is one; return the record that is there.

    Raises LostRaceError when one of the keys has another object.
    """
    for key, path in files.items():
        upload(store, path, key)
    if store.put_if_absent(record_key, record):
        return record
    found = store.read(record_key)
    if found is None:
        raise LostRaceError(f"{store.bucket.url(record_key)} was deleted by another machine; run again")
    return found.data


@dataclass(frozen=True)
class Versions:
    """Numbered versions under one prefix of a bucket; the highest number is the current version."""

    store: ObjectStore
    prefix: str

    def records(self) -> dict[int, StoredObject]:
        """The records by number, ascending."""
        return {number: each for number, each in self._listed() if each.key == self.record_key(number)}

    def read(self, number: int) -> bytes:
        """Read the record of a version. Raises ObjectMissingError."""
        found = self.store.read(self.record_key(number))
        if found is None:
            raise ObjectMissingError(f"there is no version {number}: {self.store.bucket.url(self.record_key(number))}")
        return found.data

    def commit(self, number: int, files: Mapping[str, Path], record: bytes) -> bytes:
        """Write a version of files by their sha256; return the record that is there afterwards, ours or another's.

        When another machine has taken the number, the files that its record does not name are deleted again.
        """
        keys = {self.file_key(number, sha256): path for sha256, path in files.items()}
        found = commit(self.store, keys, self.record_key(number), record)
        for sha256 in files:
            if sha256.encode() not in found:
                self.store.delete(self.file_key(number, sha256))
        return found

    def fetch(self, number: int, path: Path, *, size_bytes: int, sha256: str) -> None:
        """Download a file of a version to `path`. Raises what `download` raises."""
        download(self.store, self.file_key(number, sha256), path, size_bytes=size_bytes, sha256=sha256)

    def prune(self, keep: int) -> None:
        """Delete all but the newest `keep` versions, and older files without a record.

        Records are deleted first, so that no record is without its files.
        """
        listed = self._listed()
        recorded = [number for number, each in listed if each.key == self.record_key(number)]
        old = [each.key for number, each in listed if number < min(recorded[-keep:], default=0)]
        for key in sorted(old, key=lambda key: not key.endswith(".json")):
            self.store.delete(key)

    def record_key(self, number: int) -> str:
        return f"{self.prefix}{number:06d}.json"

    def file_key(self, number: int, sha256: str) -> str:
        return f"{self.prefix}{number:06d}-{sha256}.duckdb"

    def _listed(self) -> list[tuple[int, StoredObject]]:
        """Every object of a version with its number, ascending."""
        number = re.compile(re.escape(self.prefix) + r"([0-9]{6,})[-.]")
        listed = ((number.match(each.key), each) for each in self.store.list(self.prefix))
        return sorted(((int(match[1]), each) for match, each in listed if match), key=lambda pair: pair[0])
