"""The extract dataflow: from USDA's archive and current file to new snapshots in the landing.

    candidates ─┬▶ probes ─┬▶ newest_posted ─▶ landed_already ─▶ download ─▶ contents ─▶ archived ─┬▶ snapshot
          live ─┘          └──────────────────────────────────────────────────▶ current_file ◀─────┘

A candidate whose probe fails is reported and does not stop the others.
"""

import hashlib
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

from dataflows.errors import ArchiveError, NotPostedError, RefusedError, SnapshotError
from dataflows.files import disk_errors
from dataflows.landing.local import Landing
from dataflows.landing.same_content import landed_as, remember
from dataflows.landing.snapshot import Snapshot, content_key
from dataflows.source import psd_zip, release
from dataflows.source.archive import Archive, Download, Probe, Verdict
from dataflows.source.probe_memory import LiveCheck
from dataflows.source.psd_zip import Contents
from dataflows.source.release import Month, Release
from dataflows.source.release_dates import Evidence, date_release, inner_timestamp, latest_plausible, newest_stamp

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """The posted file of the newest month, and what was found out about every candidate."""

    probe: Probe | None
    """None when no month is posted."""
    known: Snapshot | None
    """The snapshot that it was landed as before."""
    verdicts: tuple[Probe, ...]


@dataclass(frozen=True)
class Landed:
    """A snapshot that is posted now, and whether this run landed it."""

    snapshot: Snapshot
    is_new: bool
    is_current_file: bool = False


@dataclass(frozen=True)
class CurrentFile:
    """What became of the current file; `problem` says why there is nothing, None when it is not probed or fine."""

    landed: Landed | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Extracted:
    """The result of an extract: the landed releases, the archive's first, and the failed probes."""

    landed: tuple[Landed, ...]
    problems: tuple[str, ...] = ()

    @property
    def snapshot(self) -> Snapshot:
        return self.landed[0].snapshot

    @property
    def is_new(self) -> bool:
        return any(each.is_new for each in self.landed)


def candidates(archive_url: str, dataset: str, newest_month: Month) -> tuple[Release, ...]:
    """The archive's releases to probe, newest first."""
    return release.candidate_releases(archive_url, dataset, newest_month)


def live(live_url: str | None, dataset: str) -> Release | None:
    """The current file, which USDA updates between the archive's releases; None when it is not probed."""
    return release.current_release(live_url, dataset) if live_url else None


def probes(candidates: tuple[Release, ...], live: Release | None, archive: Archive) -> tuple[Probe, ...]:
    """Probe all candidates in parallel; the current file comes last.

    If HEAD reports every month as missing, GET is tried too: some servers answer 404 to any HEAD.
    """
    asked = (*candidates, *((live,) if live else ()))
    with ThreadPoolExecutor(max_workers=len(asked)) as pool:
        try:
            found = tuple(pool.map(partial(_probe, archive), asked))
            groups = (found[: len(candidates)], found[len(candidates) :])
            return tuple(probe for group in groups for probe in _probe_by_get(group, archive, pool))
        except KeyboardInterrupt:
            archive.stop()
            raise


def newest_posted(probes: tuple[Probe, ...], archive: Archive, landing: Landing) -> Choice:
    """The newest month's file that is really there, whether known or new."""
    verdicts = [probe for probe in probes if probe.release.month is not None]
    for place, probe in enumerate(verdicts):
        if not probe.posted:
            continue
        known = landed_as(probe, archive, landing)
        verdicts[place] = probe if known else _sniffed(probe, archive)
        if verdicts[place].posted:
            return Choice(verdicts[place], known, tuple(verdicts))
    return Choice(None, None, tuple(verdicts))


def landed_already(newest_posted: Choice) -> Snapshot | None:
    """The snapshot that this very file was landed as before; then nothing is downloaded."""
    return newest_posted.known


def has_work(
    newest_posted: Choice,
    landed_already: Snapshot | None,
    probes: tuple[Probe, ...],
    archive: Archive,
    landing: Landing,
) -> bool:
    """Whether anything is posted that is not landed; checked before a worker is created for the download."""
    if newest_posted.probe is not None and landed_already is None:
        return True
    current = [probe for probe in probes if probe.release.month is None and probe.posted]
    return any(landed_as(probe, archive, landing) is None for probe in current)


def download(
    newest_posted: Choice, landed_already: Snapshot | None, archive: Archive, landing: Landing
) -> Download | None:
    """The zip in the landing's workspace; a broken attempt continues where it stopped."""
    if newest_posted.probe is None:
        return None
    return _download(newest_posted.probe.release, landed_already, archive, landing)


def contents(download: Download | None, newest_posted: Choice) -> Contents | None:
    """The verified rows, written as Parquet beside the zip. A file that fails is removed, not kept for resuming."""
    return _unpacked(download, newest_posted.probe.release) if download and newest_posted.probe else None


def archived(
    newest_posted: Choice,
    landed_already: Snapshot | None,
    download: Download | None,
    contents: Contents | None,
    landing: Landing,
    landed_at: datetime,
) -> Landed | None:
    """The newest month's snapshot, committed to the landing unless these very bytes were landed before."""
    if landed_already is not None:
        return Landed(landed_already, is_new=False)
    if newest_posted.probe is None or download is None or contents is None:
        return None
    return _committed(newest_posted.probe, download, contents, landing, landed_at)


def current_file(
    probes: tuple[Probe, ...], archived: Landed | None, archive: Archive, landing: Landing, landed_at: datetime
) -> CurrentFile:
    """The current file's snapshot, landed after the archive's, which is often the same file.

    What goes wrong with it is its verdict and no failure: the archive has the same a month later.
    """
    found = [probe for probe in probes if probe.release.month is None]
    if not found:
        return CurrentFile()
    (probe,) = found
    if not probe.posted:
        return CurrentFile(problem=_problem(probe))
    try:
        known = landed_as(probe, archive, landing)
        if known is None:
            probe = archive.sniffed(probe)
            if not probe.posted:
                return CurrentFile(problem=_problem(probe))
        landed = _landed_current(probe, known, archive, landing, landed_at)
    except (ArchiveError, SnapshotError) as error:
        return CurrentFile(problem=f"current file: {error}")
    check = LiveCheck(_washington_day(landed_at), landed.snapshot.key)
    landing.update_memory(probe.release.dataset, lambda memory: replace(memory, live=check))
    return CurrentFile(landed)


def snapshot(newest_posted: Choice, archived: Landed | None, current_file: CurrentFile, archive: Archive) -> Extracted:
    """What is posted now, as landed. Raises NotPostedError or ArchiveError when nothing usable is posted anywhere."""
    landed = tuple(each for each in (archived, current_file.landed) if each)
    if not landed:
        _raise_nothing_posted(newest_posted.verdicts, current_file, archive)
    unasked = [_problem(probe) for probe in newest_posted.verdicts if probe.verdict is Verdict.UNKNOWN]
    for probe in newest_posted.verdicts:
        if probe.verdict is Verdict.REFUSED:
            log.info("%s: %s; taken for not posted, for another file is", probe.release.name, probe.reason)
    problems = (*unasked, *((current_file.problem,) if current_file.problem else ()))
    for problem in problems:
        log.warning(problem)
    return Extracted(landed, problems)


def _probe(archive: Archive, release: Release, *, by_get: bool = False) -> Probe:
    try:
        return archive.probe(release, by_get=by_get)
    except ArchiveError as error:
        return Probe(release, Verdict.UNKNOWN, str(error), "GET" if by_get else "HEAD")


def _probe_by_get(group: Sequence[Probe], archive: Archive, pool: ThreadPoolExecutor) -> tuple[Probe, ...]:
    if any(probe.posted and probe.method == "HEAD" for probe in group):
        return tuple(group)
    ask = partial(_probe, archive, by_get=True)
    missing = {
        number: pool.submit(ask, probe.release)
        for number, probe in enumerate(group)
        if probe.verdict is Verdict.NOT_POSTED and probe.method == "HEAD"
    }
    return tuple(missing[number].result() if number in missing else probe for number, probe in enumerate(group))


def _sniffed(probe: Probe, archive: Archive) -> Probe:
    try:
        return archive.sniffed(probe)
    except ArchiveError as error:
        return replace(probe, verdict=Verdict.UNKNOWN, reason=str(error))


def _problem(probe: Probe) -> str:
    unknown = "could not be asked: " if probe.verdict is Verdict.UNKNOWN else ""
    return f"{probe.release.name}: {unknown}{probe.reason}"


def _raise_nothing_posted(verdicts: Sequence[Probe], current_file: CurrentFile, archive: Archive) -> None:
    tried = "; ".join([*map(_problem, verdicts), *([current_file.problem] if current_file.problem else [])])
    found = {probe.verdict for probe in verdicts}
    if Verdict.REFUSED in found:
        raise RefusedError(
            f"the archive refuses to answer ({tried}); it may block the user agent {archive.user_agent!r}: "
            f"set PSD_USER_AGENT to another one, or check PSD_ARCHIVE_URL ({verdicts[0].release.url})"
        )
    if Verdict.UNKNOWN in found:
        raise ArchiveError(f"no usable release was found ({tried})")
    raise NotPostedError(
        f"no release of {verdicts[0].release.dataset} is posted ({tried}); "
        "check PSD_ARCHIVE_URL and PSD_DATASET, or give an earlier month with --as-of"
    )


def _download(wanted: Release, landed_already: Snapshot | None, archive: Archive, landing: Landing) -> Download | None:
    path = landing.workspace / f"{wanted.dataset}-{wanted.name.replace(' ', '-')}.zip"
    with disk_errors(landing.workspace):
        if landed_already is not None:
            _clear(path)
            return None
        landing.workspace.mkdir(parents=True, exist_ok=True)
    return archive.download(wanted, path)


def _landed_current(
    probe: Probe, known: Snapshot | None, archive: Archive, landing: Landing, landed_at: datetime
) -> Landed:
    downloaded = _download(probe.release, known, archive, landing)
    if known is not None:
        return Landed(known, is_new=False, is_current_file=True)
    assert downloaded is not None  # only a known file is not downloaded
    landed = _committed(probe, downloaded, _unpacked(downloaded, probe.release), landing, landed_at)
    return replace(landed, is_current_file=True)


def _unpacked(download: Download, wanted: Release) -> Contents:
    try:
        return psd_zip.unpack(download.path, wanted.member, _rows_path(download))
    except BaseException:
        download.path.unlink()
        raise


def _committed(probe: Probe, download: Download, contents: Contents, landing: Landing, landed_at: datetime) -> Landed:
    """Land a verified download; if its bytes are already landed, only store its validators."""
    with download.path.open("rb") as source:
        sha256 = hashlib.file_digest(source, "sha256").hexdigest()
    same = landing.find_bytes(probe.release.dataset, sha256)
    if same is None:
        landed = _snapshot_of(probe.release, download, contents, sha256, landed_at)
        landing.land(landed, download.path, _rows_path(download))
    else:
        landed = same
        download.path.unlink()
        _rows_path(download).unlink()
        remember(landing, replace(probe, method="GET", identity=download.identity), same)
    # If HEAD and GET may have seen different versions of the file, HEAD's validators identify neither.
    if probe.identity.agrees_with(download.identity):
        remember(landing, probe, landed)
    return Landed(landed, is_new=same is None)


def _snapshot_of(wanted: Release, download: Download, contents: Contents, sha256: str, landed_at: datetime) -> Snapshot:
    inner = inner_timestamp(download.path, contents.member)
    stamp = newest_stamp(_rows_path(download), latest_plausible(wanted.month, inner, landed_at))
    dating = date_release(wanted.month, Evidence(inner, stamp, download.last_modified))
    if dating is None:
        download.path.unlink()
        _rows_path(download).unlink()
        raise SnapshotError(f"{wanted.url} names no month, by no stamp and no date; it was not landed")
    return Snapshot(
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
        newest_stamp=str(stamp) if stamp else None,
    )


def _washington_day(moment: datetime) -> date:
    return moment.astimezone(ZoneInfo("America/New_York")).date()


def _clear(path: Path) -> None:
    """Remove the partial download of a run that died between landing and cleanup."""
    for left in path.parent.glob(f"{path.stem}.*"):
        if left.is_file():
            left.unlink(missing_ok=True)


def _rows_path(download: Download) -> Path:
    return download.path.with_suffix(".parquet")
