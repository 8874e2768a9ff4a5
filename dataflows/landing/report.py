"""Land a WASDE report: the file that an operator points at, or that a probe downloaded."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from dataflows.errors import LandingError
from dataflows.files import disk_errors
from dataflows.landing.local import Landing, LocalLanding
from dataflows.landing.snapshot import Snapshot, content_key
from dataflows.source.wasde.packed import pack, parse, unpacked
from dataflows.source.wasde.report import DATASET, Report, released_at


@dataclass(frozen=True)
class ReportFile:
    """A checked report and its bytes."""

    name: str
    """The file's name, which may say which of two reports of a month it is."""
    data: bytes
    report: Report
    released_at: datetime
    """Washington's time, without a zone."""

    @classmethod
    def read(cls, name: str, data: bytes, served_on: date | None = None) -> "ReportFile":
        """Check a report; `served_on` dates it where neither it nor USDA's calendar does. Raises ReportError."""
        report = parse(data, name)
        return cls(name, data, report, released_at(report, name, served_on))


def land_report(
    landing: Landing, file: ReportFile, landed_at: datetime, served: Mapping[str, Any] | None = None
) -> tuple[Snapshot, bool]:
    """Put a checked report into the landing of WASDE reports; returns its snapshot and whether it is new.

    `served` holds the `url`, `etag` and `last_modified` of a download.
    """
    zip_path = landing.workspace / "report.zip"
    rows_path = zip_path.with_suffix(".parquet")
    with disk_errors(landing.workspace):
        landing.workspace.mkdir(parents=True, exist_ok=True)
        try:
            pack(file.data, file.name, zip_path)
            sha256 = hashlib.sha256(zip_path.read_bytes()).hexdigest()
            if known := landing.find_bytes(DATASET, sha256):
                return known, False
            contents = landing.format.unpack(zip_path, file.name, rows_path)
            snapshot = _snapshot_of(file, zip_path, contents.row_count, landed_at, served or {})
            landing.land(snapshot, zip_path, rows_path)
            return snapshot, True
        finally:
            zip_path.unlink(missing_ok=True)
            rows_path.unlink(missing_ok=True)


def restore_report_marker(marker: Path, landing: LocalLanding) -> Snapshot:
    """Write a report's marker again, from its zip and the day of the folder of its rows, where that is left.

    Raises LandingError if the zip does not match the marker's name, ReportError if it is damaged.
    """
    zip_path = landing.zip_path(marker.stem)
    rows_folder = next(iter(landing.root.glob(f"raw/{DATASET}/released_on=*/key={marker.stem}")), None)
    day = date.fromisoformat(rows_folder.parent.name.removeprefix("released_on=")) if rows_folder else None
    with disk_errors(zip_path):
        landed_at = datetime.fromtimestamp(zip_path.stat().st_mtime, UTC)
        file = ReportFile.read(*unpacked(zip_path), day)
        snapshot = _snapshot_of(file, zip_path, len(file.report.figures), landed_at, {})
        if snapshot.key != marker.stem:
            raise LandingError(
                f"{marker} cannot be read, and {zip_path.name} is not what its name says; restore both from a backup"
            )
        landing.write_marker(snapshot)
    return snapshot


def _snapshot_of(
    file: ReportFile, zip_path: Path, row_count: int, landed_at: datetime, served: Mapping[str, Any]
) -> Snapshot:
    sha256 = hashlib.sha256(zip_path.read_bytes()).hexdigest()
    return Snapshot(
        dataset=DATASET,
        url=served.get("url", file.name),
        etag=served.get("etag"),
        last_modified=served.get("last_modified"),
        release_year=file.report.month.year,
        release_month=file.report.month.month,
        released_on=file.released_at.date(),
        size_bytes=zip_path.stat().st_size,
        sha256=sha256,
        member=file.name,
        row_count=row_count,
        landed_at=landed_at,
        key=content_key(file.report.month, sha256),
        published_at=file.released_at,
    )
