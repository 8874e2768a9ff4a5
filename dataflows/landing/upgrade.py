"""Upgrade markers of form 1; the missing fields are read from the landed files, without a download.

Markers of form 1 order releases by HTTP headers. The file itself is more reliable (see `release_dates`).
"""

import hashlib
import logging
import zipfile
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from dataflows.errors import MateriaError, SnapshotError
from dataflows.landing.local import Landing
from dataflows.landing.snapshot import FORM, Snapshot
from dataflows.source.release import Month
from dataflows.source.release_dates import Evidence, date_release, inner_timestamp, latest_plausible, newest_stamp

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Upgraded:
    """A marker that was rewritten, and the release month and day that it had before."""

    snapshot: Snapshot
    month_before: Month
    released_on_before: date

    @property
    def is_redated(self) -> bool:
        return (self.month_before, self.released_on_before) != (self.snapshot.month, self.snapshot.released_on)


def upgrade(landing: Landing) -> tuple[Upgraded, ...]:
    """Rewrite every marker of the old form; costs nothing more than a look at the markers when there is none.

    A snapshot whose zip is missing or damaged keeps its old marker, which can still be read; a warning says so.
    """
    upgraded = []
    for snapshot in landing.snapshots():
        if snapshot.form >= FORM:
            continue
        try:
            dated = _dated(landing, snapshot)
        except (MateriaError, OSError, zipfile.BadZipFile, KeyError) as error:
            log.warning("a marker of the old format was not upgraded: %s", error, extra={"key": snapshot.key})
            continue
        landing.redate(dated)
        upgraded.append(Upgraded(dated, snapshot.month, snapshot.released_on))
        log.info(
            "marker upgraded",
            extra={
                "key": dated.key,
                "before": f"{snapshot.month} of {snapshot.released_on}",
                "now": f"{dated.month} of {dated.released_on}",
            },
        )
    return tuple(upgraded)


def _dated(landing: Landing, snapshot: Snapshot) -> Snapshot:
    landing.workspace.mkdir(parents=True, exist_ok=True)
    with landing.zip_file(snapshot) as zip_path:
        _check(snapshot, zip_path)
        inner = inner_timestamp(zip_path, snapshot.member)
        rows_path = landing.rows_file(snapshot, zip_path)
    stamp = newest_stamp(rows_path, latest_plausible(snapshot.month, inner, snapshot.landed_at))
    dating = date_release(snapshot.month, Evidence(inner, stamp, snapshot.last_modified))
    assert dating is not None  # the marker names a month
    return replace(
        snapshot,
        release_year=dating.month.year,
        release_month=dating.month.month,
        released_on=dating.released_on,
        published_at=dating.published_at,
        newest_stamp=str(stamp) if stamp else None,
        form=FORM,
    )


def _check(snapshot: Snapshot, zip_path: Path) -> None:
    with zip_path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != snapshot.sha256:
            raise SnapshotError(f"{zip_path} is no longer what was landed")
