"""The extract dataflow: from USDA's archive to one more snapshot in the landing, or the news that there is none.

candidates → probes → newest_posted → landed_already → download → contents → snapshot
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dataflows import psd_zip, release
from dataflows.archive import Archive, Download, Probe
from dataflows.errors import NotPostedError
from dataflows.files import disk_trouble
from dataflows.landing import Landing
from dataflows.psd_zip import Contents
from dataflows.release import Month, Release
from dataflows.release_dates import Evidence, date_release, inner_timestamp, latest_plausible, newest_stamp
from dataflows.snapshot import Snapshot, content_key


@dataclass(frozen=True)
class Extracted:
    """What an extract found: a snapshot, and whether it is new."""

    snapshot: Snapshot
    is_new: bool


def candidates(archive_url: str, dataset: str, newest_month: Month) -> tuple[Release, ...]:
    """The releases worth a probe, newest first."""
    return release.candidate_releases(archive_url, dataset, newest_month)


def probes(candidates: tuple[Release, ...], archive: Archive) -> tuple[Probe, ...]:
    """What the archive says of each candidate, asked side by side."""
    with ThreadPoolExecutor(max_workers=len(candidates)) as pool:
        try:
            return tuple(pool.map(archive.probe, candidates))
        except KeyboardInterrupt:
            archive.stop()
            raise


def newest_posted(probes: tuple[Probe, ...], archive: Archive, landing: Landing) -> Probe:
    """The newest candidate that is really there. Raises NotPostedError when none is."""
    for probe in probes:
        if probe.posted and (_landed(probe, landing) or archive.is_zip(probe.release)):
            return probe
    tried = "; ".join(f"{probe.release.month}: {_verdict(probe)}" for probe in probes)
    raise NotPostedError(
        f"no release of {probes[0].release.dataset} is posted ({tried}); "
        "check PSD_ARCHIVE_URL and PSD_DATASET, or give an earlier month with --as-of"
    )


def landed_already(newest_posted: Probe, landing: Landing) -> Snapshot | None:
    """The snapshot that this very file was landed as before; then nothing is downloaded."""
    return _landed(newest_posted, landing)


def download(
    newest_posted: Probe, landed_already: Snapshot | None, archive: Archive, landing: Landing
) -> Download | None:
    """The zip in the landing's workspace; a broken attempt goes on where it stopped."""
    wanted = newest_posted.release
    path = landing.workspace / f"{wanted.dataset}-{wanted.month}.zip"
    with disk_trouble(landing.workspace):
        if landed_already is not None:
            _clear(path)
            return None
        landing.workspace.mkdir(parents=True, exist_ok=True)
    return archive.download(wanted, path)


def contents(download: Download | None, newest_posted: Probe) -> Contents | None:
    """The verified rows, written as Parquet beside the zip. A file that fails is removed, not kept for resuming."""
    if download is None:
        return None
    try:
        return psd_zip.unpack(download.path, newest_posted.release.member, _rows_path(download))
    except BaseException:
        download.path.unlink()
        raise


def snapshot(
    newest_posted: Probe,
    landed_already: Snapshot | None,
    download: Download | None,
    contents: Contents | None,
    landing: Landing,
    landed_at: datetime,
) -> Extracted:
    """The snapshot, committed to the landing unless these very bytes were landed before."""
    if landed_already is not None:
        return Extracted(landed_already, is_new=False)
    assert download is not None and contents is not None
    wanted = newest_posted.release
    with download.path.open("rb") as source:
        sha256 = hashlib.file_digest(source, "sha256").hexdigest()
    same = landing.find_bytes(wanted.dataset, sha256)
    if same is not None:
        download.path.unlink()
        _rows_path(download).unlink()
        return Extracted(same, is_new=False)
    evidence = _evidence(download, contents, wanted.month, landed_at)
    dating = date_release(wanted.month, evidence)
    assert dating is not None  # the address names a month
    landed = Snapshot(
        dataset=wanted.dataset,
        url=wanted.url,
        etag=download.etag,
        last_modified=download.last_modified,
        release_year=dating.month.year,
        release_month=dating.month.month,
        released_on=dating.released_on,
        size_bytes=download.size_bytes,
        sha256=sha256,
        member=contents.member,
        row_count=contents.row_count,
        landed_at=landed_at,
        key=content_key(dating.month, sha256),
        published_at=dating.published_at,
        newest_stamp=str(evidence.newest_stamp) if evidence.newest_stamp else None,
    )
    landing.land(landed, download.path, _rows_path(download))
    return Extracted(landed, is_new=True)


def _landed(probe: Probe, landing: Landing) -> Snapshot | None:
    """The snapshot that was landed from this address with these very headers; None when they identify nothing."""
    validators = (probe.etag,) if probe.etag else (probe.last_modified, probe.size_bytes)
    if validators[0] is None:
        return None
    for snapshot in reversed(landing.snapshots()):
        landed = (snapshot.etag,) if probe.etag else (snapshot.last_modified, snapshot.size_bytes)
        if snapshot.url == probe.release.url and landed == validators:
            return snapshot
    return None


def _evidence(download: Download, contents: Contents, month: Month, landed_at: datetime) -> Evidence:
    inner = inner_timestamp(download.path, contents.member)
    stamp = newest_stamp(_rows_path(download), latest_plausible(month, inner, landed_at))
    return Evidence(inner, stamp, download.last_modified)


def _clear(path: Path) -> None:
    """Remove what a run left of a download that died when it had landed it, before it could tidy up."""
    for left in path.parent.glob(f"{path.stem}.*"):
        if left.is_file():
            left.unlink(missing_ok=True)


def _rows_path(download: Download) -> Path:
    return download.path.with_suffix(".parquet")


def _verdict(probe: Probe) -> str:
    return "not posted (no zip)" if probe.posted else probe.reason
