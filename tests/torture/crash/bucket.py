"""Buckets on a real object server, looked at with a bare client that owes nothing to the code under test."""

import hashlib
import json
import re
import zipfile
from dataclasses import dataclass
from io import BytesIO
from itertools import count

from dataflows.landing.snapshot import Snapshot
from tests.support.object_server import WRITER, ObjectServer

_DIGEST = re.compile(r"\d{6}(-[0-9a-f]{64})?")
_whole: set[str] = set()
"""Digests of zips whose rows have been counted."""


@dataclass(frozen=True)
class Bucket:
    """One bucket, and the settings that select it."""

    server: ObjectServer
    name: str

    @property
    def environ(self) -> dict[str, str]:
        return {
            "R2_ENDPOINT": self.server.endpoint,
            "R2_BUCKET": self.name,
            "R2_ACCESS_KEY": WRITER.access_key,
            "R2_SECRET_KEY": WRITER.secret_key,
        }

    def remove(self) -> None:
        """Delete the bucket: the server has too few volumes for the buckets of a hundred kills."""
        for key in self.listed():
            self.server.client.delete_object(Bucket=self.name, Key=key)
        self.server.client.delete_bucket(Bucket=self.name)

    def listed(self) -> list[str]:
        listed = self.server.client.list_objects_v2(Bucket=self.name)
        return [each["Key"] for each in listed.get("Contents", ())]

    def read(self, key: str) -> bytes:
        data: bytes = self.server.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return data

    def names(self) -> frozenset[str]:
        """The keys, versions and generations without numbers and digests."""
        return frozenset(_DIGEST.sub("N", key) for key in self.listed())

    def snapshots(self) -> tuple[Snapshot, ...]:
        """What is landed here, each held against its zip."""
        markers = [key for key in self.listed() if key.startswith("psd/") and key.endswith(".json")]
        snapshots = [Snapshot.from_json(self.read(key), key) for key in markers]
        for snapshot in snapshots:
            assert_whole(snapshot, self.read(f"psd/{snapshot.key}.zip"))
        return tuple(sorted(snapshots, key=lambda snapshot: snapshot.order))

    def assert_handed_over_whole(self) -> None:
        """Every file that a record or a sidecar names is there, byte for byte."""
        for key in self.listed():
            if key.startswith("lakehouse/") and key.endswith(".json"):
                for file in json.loads(self.read(key))["files"]:
                    data = self.read(f"{key.removesuffix('.json')}-{file['sha256']}.duckdb")
                    assert hashlib.sha256(data).hexdigest() == file["sha256"]
            elif key.startswith("serving/") and key.endswith(".json"):
                sha256 = json.loads(self.read(key))["sha256"]
                data = self.read(f"{key.removesuffix('.json')}-{sha256}.duckdb")
                assert hashlib.sha256(data).hexdigest() == sha256


class Buckets:
    """Makes buckets, also as copies of others."""

    def __init__(self, server: ObjectServer) -> None:
        self._server = server
        self._numbers = count()

    def new(self, name: str) -> Bucket:
        self._server.client.create_bucket(Bucket=name)
        return Bucket(self._server, name)

    def copy(self, name: str) -> Bucket:
        """A new bucket with the same objects."""
        source, created = Bucket(self._server, name), self.new(f"{name}-{next(self._numbers)}")
        for key in source.listed():
            self._server.client.put_object(Bucket=created.name, Key=key, Body=source.read(key))
        return created


def assert_whole(snapshot: Snapshot, zipped: bytes) -> None:
    """A zip is what its marker says: its bytes, its digest, its rows."""
    assert (len(zipped), hashlib.sha256(zipped).hexdigest()) == (snapshot.size_bytes, snapshot.sha256)
    if snapshot.sha256 not in _whole:
        with zipfile.ZipFile(BytesIO(zipped)) as archive:
            assert archive.read(snapshot.member).count(b"\n") == snapshot.row_count + 1
        _whole.add(snapshot.sha256)
