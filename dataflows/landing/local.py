"""The landing: every snapshot as USDA served it, named by release month and content, with a marker beside it.

    psd/{key}.zip                                            evidence; never changes (WASDE reports: wasde/)
    psd/{key}.json                                           the commit marker, written last
    raw/{dataset}/released_on=YYYY-MM-DD/key={key}/rows.parquet   what the transform reads; rebuilt from the zip
    probes/{dataset}.json                                    what probes found out, see `probe_memory`
    .partial/                                                downloads in progress

A snapshot exists when its marker does. Everything else is a leftover that the next landing takes over.
"""

import hashlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from dataflows.errors import LandingError, SnapshotError
from dataflows.files import disk_errors, move_durably, write_durably
from dataflows.landing.snapshot import Snapshot
from dataflows.source.formats import PSD, Format
from dataflows.source.probe_memory import LiveCheck, ProbeMemory


class Landing(ABC):
    """Where snapshots are kept: a local folder or a bucket."""

    format: Format
    """Which source's files these are."""
    workspace: Path
    """A local folder for downloads in progress, on the file system that the transform reads."""

    @property
    def local_root(self) -> Path:
        """The folder relative to which the transform names the rows."""
        return self.workspace.parent

    @abstractmethod
    def of(self, format: Format) -> "Landing":
        """The landing of another source's files, in the same folder or bucket."""

    @abstractmethod
    def find(self, key: str) -> Snapshot | None:
        """The snapshot landed under this key, if any."""

    @abstractmethod
    def snapshots(self) -> tuple[Snapshot, ...]:
        """All landed snapshots, oldest release first."""

    def find_bytes(self, dataset: str, sha256: str) -> Snapshot | None:
        """The snapshot with these bytes, regardless of address, date and ETag; None if they are not landed."""
        same = (each for each in self.snapshots() if (each.dataset, each.sha256) == (dataset, sha256))
        return next(same, None)

    @abstractmethod
    def land(self, snapshot: Snapshot, zip_path: Path, rows_path: Path) -> None:
        """Commit a verified download; both files are moved into the landing, the marker last."""

    @abstractmethod
    def ready_rows(self, dataset: str) -> None:
        """See that the transform finds the rows of every landed snapshot of a dataset on the local disk."""

    @abstractmethod
    def zip_file(self, snapshot: Snapshot) -> AbstractContextManager[Path]:
        """A landed zip as a file within the context; raises LandingError if it is missing."""

    @abstractmethod
    def zip_bytes(self, snapshot: Snapshot, start_bytes: int, count: int) -> bytes:
        """Up to `count` bytes of a landed zip from `start_bytes` on; raises LandingError if it is missing."""

    @abstractmethod
    def memory(self, dataset: str) -> ProbeMemory:
        """What earlier probes found out about a dataset's addresses."""

    @abstractmethod
    def update_memory(self, dataset: str, change: Callable[[ProbeMemory], ProbeMemory]) -> None:
        """Write the changed memory; nothing is written when it is the same."""

    def live_check(self, dataset: str) -> LiveCheck | None:
        """The last day on which a probe of the current file confirmed a snapshot, and which; None when never."""
        return self.memory(dataset).live

    @abstractmethod
    def rows_file(self, snapshot: Snapshot, zip_path: Path) -> Path:
        """The rows of a snapshot on the local disk, unpacked from its zip when they are not there."""

    @abstractmethod
    def redate(self, dated: Snapshot) -> None:
        """Replace the marker of a landed snapshot and move its rows to the marker's day. Idempotent."""


class LocalLanding(Landing):
    """The landing in a folder."""

    def __init__(self, root: Path, format: Format = PSD) -> None:
        self.root = root
        self.format = format
        self.workspace = root / ".partial"
        self._memory_lock = threading.Lock()

    def of(self, format: Format) -> "LocalLanding":
        return LocalLanding(self.root, format)

    def zip_path(self, key: str) -> Path:
        return self.root / self.format.prefix / f"{key}.zip"

    def marker_path(self, key: str) -> Path:
        return self.root / self.format.prefix / f"{key}.json"

    def markers(self) -> list[Path]:
        return sorted(self.root.glob(f"{self.format.prefix}/*.json"))

    def rows_path(self, snapshot: Snapshot) -> Path:
        day = snapshot.released_on.isoformat()
        folder = self.root / "raw" / snapshot.dataset / f"released_on={day}" / f"key={snapshot.key}"
        return folder / "rows.parquet"

    def find(self, key: str) -> Snapshot | None:
        marker = self.marker_path(key)
        with disk_errors(marker):
            return _read_marker(marker) if marker.exists() else None

    def snapshots(self) -> tuple[Snapshot, ...]:
        with disk_errors(self.root):
            found = [_read_marker(marker) for marker in self.markers()]
        return tuple(sorted(found, key=lambda snapshot: snapshot.order))

    def land(self, snapshot: Snapshot, zip_path: Path, rows_path: Path) -> None:
        with disk_errors(self.marker_path(snapshot.key)):
            self.keep_rows(snapshot, rows_path)
            self.zip_path(snapshot.key).parent.mkdir(parents=True, exist_ok=True)
            move_durably(zip_path, self.zip_path(snapshot.key))
            self.write_marker(snapshot)

    def ready_rows(self, dataset: str) -> None:
        """Rebuild missing rows; raises LandingError if a landed zip is missing, SnapshotError if it changed."""
        for snapshot in self.snapshots():
            if snapshot.dataset == dataset:
                self.place_rows(snapshot)
                if not self.rows_path(snapshot).exists():
                    with self.zip_file(snapshot) as zip_path:
                        self.rebuild_rows(snapshot, zip_path)

    def rows_file(self, snapshot: Snapshot, zip_path: Path) -> Path:
        self.place_rows(snapshot)
        if not self.rows_path(snapshot).exists():
            self.rebuild_rows(snapshot, zip_path)
        return self.rows_path(snapshot)

    def redate(self, dated: Snapshot) -> None:
        with disk_errors(self.marker_path(dated.key)):
            self.write_marker(dated)
            self.place_rows(dated)

    def place_rows(self, snapshot: Snapshot) -> None:
        """Move rows from another day's folder to the marker's, because the transform reads the folders of all days."""
        target = self.rows_path(snapshot)
        for rows_path in (self.root / "raw" / snapshot.dataset).glob(f"released_on=*/key={snapshot.key}/rows.parquet"):
            if rows_path == target:
                continue
            if target.exists():
                rows_path.unlink()
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                move_durably(rows_path, target)
            with suppress(OSError):  # another snapshot's rows are there
                rows_path.parent.rmdir()
                rows_path.parent.parent.rmdir()

    @contextmanager
    def zip_file(self, snapshot: Snapshot) -> Iterator[Path]:
        zip_path = self.zip_path(snapshot.key)
        if not zip_path.exists():
            raise LandingError(
                f"{zip_path} is missing although its marker exists; restore the zip, or remove "
                f"{self.marker_path(snapshot.key)} and extract {snapshot.month} again"
            )
        yield zip_path

    def zip_bytes(self, snapshot: Snapshot, start_bytes: int, count: int) -> bytes:
        with disk_errors(self.zip_path(snapshot.key)), self.zip_path(snapshot.key).open("rb") as file:
            file.seek(start_bytes)
            return file.read(count)

    def memory(self, dataset: str) -> ProbeMemory:
        path = self._memory_path(dataset)
        with disk_errors(path):
            return ProbeMemory.from_json(path.read_bytes()) if path.exists() else ProbeMemory()

    def update_memory(self, dataset: str, change: Callable[[ProbeMemory], ProbeMemory]) -> None:
        path = self._memory_path(dataset)
        with self._memory_lock, disk_errors(path):
            before = self.memory(dataset)
            after = change(before)
            if after != before:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_durably(path, after.to_json())

    def _memory_path(self, dataset: str) -> Path:
        return self.root / "probes" / f"{dataset}.json"

    def rebuild_rows(self, snapshot: Snapshot, zip_path: Path) -> None:
        """Unpack a snapshot's rows from its zip; raises SnapshotError if the zip is not the landed one."""
        with zip_path.open("rb") as source:
            if hashlib.file_digest(source, "sha256").hexdigest() != snapshot.sha256:
                raise SnapshotError(
                    f"{zip_path} is no longer what was landed; restore it, or remove it and its marker "
                    f"and extract {snapshot.month} again"
                )
        self.workspace.mkdir(parents=True, exist_ok=True)
        rows_path = self.workspace / f"{snapshot.key}.parquet"
        self.format.unpack(zip_path, snapshot.member, rows_path)
        self.keep_rows(snapshot, rows_path)

    def keep_rows(self, snapshot: Snapshot, rows_path: Path) -> None:
        """Move a snapshot's rows to where the transform reads them."""
        target = self.rows_path(snapshot)
        target.parent.mkdir(parents=True, exist_ok=True)
        move_durably(rows_path, target)

    def write_marker(self, snapshot: Snapshot) -> None:
        marker = self.marker_path(snapshot.key)
        marker.parent.mkdir(parents=True, exist_ok=True)
        write_durably(marker, snapshot.to_json())


def _read_marker(marker: Path) -> Snapshot:
    return Snapshot.from_marker(marker.read_bytes(), marker.stem, str(marker))
