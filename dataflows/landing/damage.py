"""Find damaged files of a landing folder cheaply: check the size, the start and the end of each file.

Bytes that changed in the middle of a file are found by the scrub, which reads everything.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dataflows.errors import LandingError
from dataflows.landing.local import LocalLanding
from dataflows.landing.snapshot import Snapshot

_END_BYTES = 66_000
"""The end record of a zip and the longest comment after it."""
_END_RECORD, _END_RECORD_BYTES = b"PK\x05\x06", 22
_PARQUET = b"PAR1"


class Part(StrEnum):
    """The kind of a snapshot's file."""

    ZIP = "zip"
    ROWS = "rows"
    MARKER = "marker"


@dataclass(frozen=True)
class DamagedFile:
    """A damaged file of a landing, with the reason."""

    part: Part
    path: Path
    why: str
    snapshot: Snapshot | None = None
    """The marker's snapshot; None when the marker itself is damaged."""


def find_damage(landing: LocalLanding, *, keeps_zips: bool) -> Iterator[DamagedFile]:
    """Yield the damaged files of a folder. Without `keeps_zips` it is a bucket's cache and may lack zips and rows."""
    for marker in landing.markers():
        try:
            snapshot = landing.find(marker.stem)
        except LandingError as error:
            yield DamagedFile(Part.MARKER, marker, str(error).partition("; ")[0])
            continue
        if snapshot is None:
            continue
        zip_path, rows_path = landing.zip_path(snapshot.key), landing.rows_path(snapshot)
        if (keeps_zips or zip_path.exists()) and (why := _explain_fault(_zip_fault, zip_path, snapshot)):
            yield DamagedFile(Part.ZIP, zip_path, why, snapshot)
        if rows_path.exists() and (why := _explain_fault(_rows_fault, rows_path, snapshot)):
            yield DamagedFile(Part.ROWS, rows_path, why, snapshot)


def _explain_fault(fault: Callable[[Path, Snapshot], str | None], path: Path, snapshot: Snapshot) -> str | None:
    try:
        return fault(path, snapshot)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"


def _zip_fault(path: Path, snapshot: Snapshot) -> str | None:
    wanted_bytes = snapshot.size_bytes
    try:
        with path.open("rb") as file:
            size_bytes = file.seek(0, 2)
            if size_bytes != wanted_bytes:
                return f"it has {size_bytes:,} bytes instead of {wanted_bytes:,}"
            file.seek(0)
            begins_well = file.read(2) == _END_RECORD[:2]
            file.seek(max(size_bytes - _END_RECORD_BYTES, 0))
            ends_well = file.read().startswith(_END_RECORD)
            if not ends_well:
                file.seek(max(size_bytes - _END_BYTES, 0))
                ends_well = _END_RECORD in file.read()
            is_whole = begins_well and ends_well
            return None if is_whole else "it does not begin and end as a zip does"
    except FileNotFoundError:
        return "it is gone"


def _rows_fault(path: Path, _: Snapshot) -> str | None:
    with path.open("rb") as file:
        size_bytes = file.seek(0, 2)
        if size_bytes < 3 * len(_PARQUET):
            return f"truncated: only {size_bytes} bytes"
        file.seek(0)
        start = file.read(4)
        file.seek(-8, 2)
        footer = file.read(8)
        footer_bytes = int.from_bytes(footer[:4], "little")
        is_whole = start == footer[4:] == _PARQUET and footer_bytes + 12 <= size_bytes
        return None if is_whole else "it does not begin and end as a Parquet file does"
