"""The landing in a bucket, and the local copy of it that the transform reads.

    psd/{key}.zip                                                evidence; never changes (WASDE reports: wasde/)
    psd/{key}.json                                               the commit marker, written last
    raw/{dataset}/released_on=YYYY-MM-DD/key={key}/{sha256}.parquet   the rows; the name is their digest
    probes/{dataset}.json                                        what earlier probes found, see `probe_memory`

The local folder is a cache: the same layout as a local landing, without the zips. For a dataset that is transformed it
mirrors the bucket. A zip that exists only in the local folder is evidence, and is never deleted silently.
"""

import hashlib
import logging
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dataflows.errors import LandingError, LostRaceError
from dataflows.files import write_durably
from dataflows.landing.local import Landing, LocalLanding
from dataflows.landing.snapshot import Snapshot
from dataflows.objects.store import ObjectStore, StoredObject
from dataflows.objects.transfer import download, upload
from dataflows.objects.versions import commit
from dataflows.source.formats import Format
from dataflows.source.probe_memory import ProbeMemory

LEFTOVER_AFTER = timedelta(hours=1)
"""Age after which a zip without a marker belongs to no running landing and is replaced."""

_AT_A_TIME = 4
_MARKER_KEY = re.compile(r"[^/]+/([^/]+)\.json")
_ROWS_KEY = re.compile(r"raw/[^/]+/released_on=[^/]+/key=([^/]+)/([0-9a-f]{64})\.parquet")

log = logging.getLogger(__name__)


class R2Landing(Landing):
    """The landing in a bucket. Safe for several threads and several machines."""

    def __init__(self, store: ObjectStore, cache: LocalLanding) -> None:
        self.store = store
        self.cache = cache
        self.format = cache.format
        self.workspace = cache.workspace
        self._memory_lock = threading.Lock()
        self._known: dict[str, Snapshot] = {}
        """Cached markers; only `redate` changes one."""

    def of(self, format: Format) -> "R2Landing":
        return R2Landing(self.store, self.cache.of(format))

    def zip_key(self, key: str) -> str:
        return f"{self.format.prefix}/{key}.zip"

    def marker_key(self, key: str) -> str:
        return f"{self.format.prefix}/{key}.json"

    def find(self, key: str) -> Snapshot | None:
        if key not in self._known:
            found = self.store.read(self.marker_key(key))
            if found is None:
                return None
            self._known[key] = self._parsed(key, found.data)
        return self._known[key]

    def snapshots(self) -> tuple[Snapshot, ...]:
        found = self.store.list(f"{self.format.prefix}/")
        listed = [(match[1], each) for each in found if (match := _MARKER_KEY.fullmatch(each.key))]
        with ThreadPoolExecutor(_AT_A_TIME, "markers") as pool:
            markers = list(pool.map(lambda entry: self._marker(*entry), listed))
        return tuple(sorted(markers, key=lambda snapshot: snapshot.order))

    def land(self, snapshot: Snapshot, zip_path: Path, rows_path: Path) -> None:
        """Upload the zip, the rows, then the marker. Two machines that land the same file both succeed.

        Raises LandingError, and changes nothing, when another file is landed under this key.
        """
        self.add(snapshot, zip_path, rows_path)
        self.cache.keep_rows(snapshot, rows_path)
        zip_path.unlink()

    def add(self, snapshot: Snapshot, zip_path: Path, rows_path: Path) -> None:
        """Land a snapshot and leave the local files where they are."""
        self._refuse_another(snapshot, self.find(snapshot.key))
        files = {self.zip_key(snapshot.key): zip_path, _rows_key(snapshot, _sha256(rows_path)): rows_path}
        marker = snapshot.to_json().encode()
        try:
            found = commit(self.store, files, self.marker_key(snapshot.key), marker)
        except LostRaceError:
            if not self._is_abandoned(snapshot.key):
                raise
            log.warning("replacing a zip that was never committed", extra={"key": snapshot.key})
            self.store.delete(self.zip_key(snapshot.key))
            found = commit(self.store, files, self.marker_key(snapshot.key), marker)
        landed = self._parsed(snapshot.key, found)
        self._refuse_another(snapshot, landed)
        self._keep_copy(snapshot.key, found)
        self._known[snapshot.key] = landed

    def ready_rows(self, dataset: str) -> None:
        """Make the cache mirror the bucket: rows first, then the markers that make the transform look for them.

        Raises LandingError when a zip exists only in the local folder, ObjectDamagedError when an object differs from
        its marker.
        """
        landed = [snapshot for snapshot in self.snapshots() if snapshot.dataset == dataset]
        self._forget_unlanded(dataset, {snapshot.key for snapshot in landed})
        for snapshot in landed:
            self.cache.place_rows(snapshot)
        missing = [snapshot for snapshot in landed if not self.cache.rows_path(snapshot).exists()]
        copies = self._row_copies(dataset) if missing else {}
        with ThreadPoolExecutor(_AT_A_TIME, "rows") as pool:
            list(pool.map(lambda snapshot: self._fetch_rows(snapshot, copies.get(snapshot.key, ())), missing))
        for snapshot in landed:
            if not self.cache.marker_path(snapshot.key).exists() or self.cache.find(snapshot.key) != snapshot:
                self.cache.write_marker(snapshot)

    def zip_bytes(self, snapshot: Snapshot, start_bytes: int, count: int) -> bytes:
        return self.store.read_range(self.zip_key(snapshot.key), start_bytes, count)

    def memory(self, dataset: str) -> ProbeMemory:
        found = self.store.read(_memory_key(dataset))
        return ProbeMemory.from_json(found.data) if found else ProbeMemory()

    def update_memory(self, dataset: str, change: Callable[[ProbeMemory], ProbeMemory]) -> None:
        """Save the memory. A concurrent write of another machine wins; the lost entries cost one probe a few bytes.

        `materia status` and the console read the local copy, because they send no requests; probes read the bucket.
        """
        key = _memory_key(dataset)
        with self._memory_lock:
            found = self.store.read(key)
            before = ProbeMemory.from_json(found.data) if found else ProbeMemory()
            after = change(before)
            if after != before:
                data = after.to_json().encode()
                try:
                    if found is None:
                        self.store.put_if_absent(key, data)
                    else:
                        self.store.replace(key, data, found.etag)
                except LostRaceError as error:
                    log.info("another machine saved the results of its probe first: %s", error)
            self.cache.update_memory(dataset, lambda _: after)

    def rows_file(self, snapshot: Snapshot, zip_path: Path) -> Path:
        return self.cache.rows_file(snapshot, zip_path)

    def redate(self, dated: Snapshot) -> None:
        """Move the rows first, then the marker, so that the next run completes an interrupted call.

        Concurrent calls are safe: every machine dates the same file the same.
        """
        old = [each for each in self.store.list(f"raw/{dated.dataset}/") if _is_elsewhere(each.key, dated)]
        for rows in old:
            sha256 = _sha256_of(rows.key)
            path = self.workspace / f"{dated.key}.rows"
            download(self.store, rows.key, path, size_bytes=rows.size_bytes, sha256=sha256)
            upload(self.store, path, _rows_key(dated, sha256))
            path.unlink()
        marker_key = self.marker_key(dated.key)
        there = self.store.read(marker_key)
        if there is None:
            raise LandingError(f"marker deleted meanwhile: {self.store.bucket.url(marker_key)}; run again")
        self.store.replace(marker_key, dated.to_json().encode(), there.etag)
        self._known[dated.key] = dated
        for rows in old:
            self.store.delete(rows.key)

    @contextmanager
    def zip_file(self, snapshot: Snapshot) -> Iterator[Path]:
        """Download and verify the zip; delete it afterwards. Raises ObjectMissingError or ObjectDamagedError."""
        path = self.workspace / f"{snapshot.key}.zip"
        self.fetch_zip(snapshot, path)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def fetch_zip(self, snapshot: Snapshot, path: Path) -> None:
        """Download a landed zip to `path`, where it appears complete and verified."""
        key = self.zip_key(snapshot.key)
        download(self.store, key, path, size_bytes=snapshot.size_bytes, sha256=snapshot.sha256)

    def _marker(self, key: str, listed: StoredObject) -> Snapshot:
        """A listed marker: from memory, from the local copy if its MD5 is the listed one, else from the bucket."""
        if key in self._known:
            return self._known[key]
        copy = self._copy_path(key)
        data = copy.read_bytes() if copy.is_file() else b""
        if hashlib.md5(data, usedforsecurity=False).hexdigest() != listed.content_md5:
            found = self.store.read(listed.key)
            if found is None:
                raise LandingError(f"marker deleted meanwhile: {self.store.bucket.url(listed.key)}; run again")
            data = found.data
            self._keep_copy(key, data)
        self._known[key] = self._parsed(key, data)
        return self._known[key]

    def _copy_path(self, key: str) -> Path:
        return self.cache.root / ".markers" / f"{key}.json"

    def _keep_copy(self, key: str, marker: bytes) -> None:
        """Save a marker locally, so that later runs need not read it from the bucket."""
        copy = self._copy_path(key)
        copy.parent.mkdir(parents=True, exist_ok=True)
        write_durably(copy, marker.decode(errors="replace"))

    def _parsed(self, key: str, data: bytes) -> Snapshot:
        return Snapshot.from_marker(data.decode(errors="replace"), key, self.store.bucket.url(self.marker_key(key)))

    def _refuse_another(self, snapshot: Snapshot, landed: Snapshot | None) -> None:
        if landed is not None and landed.sha256 != snapshot.sha256:
            raise LandingError(
                f"{self.store.bucket.url(self.zip_key(snapshot.key))} was landed from {landed.url} with other bytes "
                f"than {snapshot.url} has now; evidence never changes, so this file was not landed"
            )

    def _is_abandoned(self, key: str) -> bool:
        """Whether a zip has no marker and is too old to belong to a running landing."""
        there = self.store.head(self.zip_key(key))
        return there is not None and datetime.now(UTC) - there.modified_at >= LEFTOVER_AFTER and self.find(key) is None

    def _row_copies(self, dataset: str) -> dict[str, tuple[StoredObject, ...]]:
        copies: dict[str, tuple[StoredObject, ...]] = {}
        for listed in self.store.list(f"raw/{dataset}/"):
            if match := _ROWS_KEY.fullmatch(listed.key):
                copies[match[1]] = (*copies.get(match[1], ()), listed)
        return copies

    def _fetch_rows(self, snapshot: Snapshot, copies: Sequence[StoredObject]) -> None:
        """Download the rows or, where the bucket has none, the zip and unpack it, which takes ten times as long."""
        if not copies:
            with self.zip_file(snapshot) as zip_path:
                self.cache.rebuild_rows(snapshot, zip_path)
            return
        path = self.workspace / f"{snapshot.key}.rows"
        sha256 = _sha256_of(copies[0].key)
        download(self.store, copies[0].key, path, size_bytes=copies[0].size_bytes, sha256=sha256)
        self.cache.keep_rows(snapshot, path)

    def _forget_unlanded(self, dataset: str, landed: set[str]) -> None:
        """Delete cached markers that the bucket does not have: not listed, and missing when read.

        Raises LandingError for one whose zip is here too, and when the bucket lists none or not all of its snapshots.
        """
        place = self.store.bucket.url(f"{self.format.prefix}/")
        unlisted = [each for each in self.cache.snapshots() if each.dataset == dataset and each.key not in landed]
        for snapshot in unlisted:
            if self.cache.zip_path(snapshot.key).exists():
                raise LandingError(
                    f"landed here and not in {place}: {self.cache.zip_path(snapshot.key)}; "
                    "run `materia landing sync` to upload it"
                )
        if unlisted and not landed:
            raise LandingError(
                f"{place} lists no snapshot of {dataset}, and {len(unlisted)} are cached in {self.cache.root}; nothing "
                f"was removed. Check R2_BUCKET; if they were deleted, remove {self.cache.root} and run again"
            )
        for snapshot in unlisted:
            if self.store.read(self.marker_key(snapshot.key)) is not None:
                raise LandingError(
                    f"incomplete listing: {place} lacks {snapshot.key}, which exists; nothing was removed, run again"
                )
            log.warning("removing a cached snapshot that the bucket does not have", extra={"key": snapshot.key})
            self.cache.marker_path(snapshot.key).unlink()
            shutil.rmtree(self.cache.rows_path(snapshot).parent, ignore_errors=True)


def _memory_key(dataset: str) -> str:
    return f"probes/{dataset}.json"


def _rows_key(snapshot: Snapshot, sha256: str) -> str:
    return f"raw/{snapshot.dataset}/released_on={snapshot.released_on}/key={snapshot.key}/{sha256}.parquet"


def _sha256_of(rows_key: str) -> str:
    match = _ROWS_KEY.fullmatch(rows_key)
    assert match is not None  # the callers pass keys that match
    return match[2]


def _is_elsewhere(key: str, snapshot: Snapshot) -> bool:
    """Whether an object contains rows of this snapshot under another day than its marker's."""
    match = _ROWS_KEY.fullmatch(key)
    return match is not None and match[1] == snapshot.key and key != _rows_key(snapshot, match[2])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
