"""Repairs a landing from verified bytes: the other copy (local folder or bucket), or USDA's archive."""

import hashlib
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from pathlib import Path

from dataflows.errors import LandingError, MateriaError, SettingsError
from dataflows.files import move_durably
from dataflows.landing.bucket import R2Landing
from dataflows.landing.local import LocalLanding
from dataflows.landing.snapshot import Snapshot, content_key
from dataflows.objects.transfer import upload
from dataflows.source import psd_zip
from dataflows.source.archive import Archive
from dataflows.source.release import Month, Release, release_of
from dataflows.source.release_dates import Evidence, date_release, inner_timestamp, latest_plausible, newest_stamp

log = logging.getLogger(__name__)


def restore_zip(
    snapshot: Snapshot, local: LocalLanding, bucket: R2Landing | None, archive: Archive, *, in_bucket: bool
) -> str:
    """Put the landed bytes back in the local folder or, with `in_bucket`, in the bucket; returns where they came from.

    The old file is replaced only after a verified copy was downloaded. Raises LandingError when no copy is intact.
    """
    with _intact_copy(snapshot, local, bucket, archive, in_bucket=in_bucket) as (copy, origin):
        if in_bucket:
            assert bucket is not None
            bucket.store.delete(bucket.zip_key(snapshot.key))
            upload(bucket.store, copy, bucket.zip_key(snapshot.key))
        else:
            target = local.zip_path(snapshot.key)
            target.parent.mkdir(parents=True, exist_ok=True)
            move_durably(copy, target)
    log.info("a landed zip was restored", extra={"key": snapshot.key, "origin": origin})
    return origin


def restore_marker(marker: Path, local: LocalLanding, archive_url: str, dataset: str) -> Snapshot:
    """Write a landed zip's marker again, from the zip itself: its name holds its month and the start of its sha256.

    The address is the archive's for that month, without validators. The day is that of the folder of its rows, where
    that is left: it may have come from a header. Raises LandingError if the zip does not match its name.
    """
    zip_path = local.zip_path(marker.stem)
    if not zip_path.exists():
        raise LandingError(f"{marker} cannot be read and its zip is missing; restore both from a backup")
    sha256 = _sha256(zip_path)
    try:
        month = Month.parse(marker.stem[:7])
    except SettingsError:
        month = None
    if month is None or content_key(month, sha256) != marker.stem:
        raise LandingError(
            f"{marker} cannot be read, and {zip_path.name} is not what its name says; restore both from a backup"
        )
    rows_folder = next(iter(local.root.glob(f"raw/*/released_on=*/key={marker.stem}")), None)
    found = rows_folder.parent.parent.name if rows_folder else dataset
    release = release_of(archive_url, found, month)
    landed_at = datetime.fromtimestamp(zip_path.stat().st_mtime, UTC)
    local.workspace.mkdir(parents=True, exist_ok=True)
    rows_path = local.workspace / f"{marker.stem}.parquet"
    contents = psd_zip.unpack(zip_path, release.member, rows_path)
    inner = inner_timestamp(zip_path, contents.member)
    stamp = newest_stamp(rows_path, latest_plausible(month, inner, landed_at))
    dating = date_release(month, Evidence(inner, stamp, None))
    assert dating is not None  # the address names a month
    released_on, published_at = dating.released_on, dating.published_at
    if rows_folder is not None:
        released_on = date.fromisoformat(rows_folder.parent.name.removeprefix("released_on="))
        published_at = published_at or datetime.combine(released_on, time())
    snapshot = Snapshot(
        dataset=release.dataset,
        url=release.url,
        etag=None,
        last_modified=None,
        release_year=dating.month.year,
        release_month=dating.month.month,
        released_on=released_on,
        size_bytes=zip_path.stat().st_size,
        sha256=sha256,
        member=contents.member,
        row_count=contents.row_count,
        landed_at=landed_at,
        key=marker.stem,
        published_at=published_at,
        newest_stamp=str(stamp) if stamp else None,
    )
    local.keep_rows(snapshot, rows_path)
    local.write_marker(snapshot)
    return snapshot


@contextmanager
def _intact_copy(
    snapshot: Snapshot, local: LocalLanding, bucket: R2Landing | None, archive: Archive, *, in_bucket: bool
) -> Iterator[tuple[Path, str]]:
    """Return a verified copy in the workspace and its origin: the other side, else USDA's archive."""
    local.workspace.mkdir(parents=True, exist_ok=True)
    copy = local.workspace / f"{snapshot.key}.restored.zip"
    tried = []
    try:
        for origin, fetch in (
            ("the local folder", lambda: _copy(local.zip_path(snapshot.key), copy) if in_bucket else False),
            ("the bucket", lambda: _fetch(bucket, snapshot, copy) if bucket and not in_bucket else False),
            ("USDA's archive", lambda: _download(snapshot, archive, copy)),
        ):
            try:
                if not fetch():
                    continue
                if _sha256(copy) == snapshot.sha256:
                    yield copy, origin
                    return
                tried.append(f"{origin} has other bytes")
            except (MateriaError, OSError) as error:
                tried.append(f"{origin}: {error}")
        raise LandingError(
            f"no intact copy of {snapshot.key} ({snapshot.month}) is left: {'; '.join(tried)}. "
            f"Restore {local.zip_path(snapshot.key)} from a backup, then run `materia scrub`"
        )
    finally:
        copy.unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> bool:
    if not source.exists():
        return False
    shutil.copyfile(source, target)
    return True


def _fetch(bucket: R2Landing, snapshot: Snapshot, target: Path) -> bool:
    bucket.fetch_zip(snapshot, target)
    return True


def _download(snapshot: Snapshot, archive: Archive, target: Path) -> bool:
    """Download the file at the snapshot's address, unless its size shows that it is another file."""
    release = Release(snapshot.dataset, snapshot.month, snapshot.url)
    probe = archive.probe(release)
    if not probe.posted:
        raise LandingError(probe.reason or "it is not posted")
    if probe.identity.size_bytes not in (None, snapshot.size_bytes):
        raise LandingError(
            f"other bytes are posted now ({probe.identity.size_bytes:,} instead of {snapshot.size_bytes:,})"
        )
    archive.download(release, target)
    return True


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
