"""WASDE reports: land the files that an operator points at, and probe USDA's current report where that is set."""

import logging
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataflows.errors import ArchiveError, MateriaError, NotPostedError
from dataflows.source.formats import WASDE
from dataflows.source.release import Month, Release
from ops.config.settings import Settings
from ops.journal.run import utc_now
from ops.pipelines.job import Job, Request, open_job

if TYPE_CHECKING:
    from dataflows.landing.report import ReportFile
    from dataflows.landing.snapshot import Snapshot
    from dataflows.source.archive import Archive, Probe

log = logging.getLogger(__name__)

_START_BYTES = 16
_ZIP_START = b"PK"


def land_files(settings: Settings, paths: Sequence[Path], request: Request, *, serve: bool) -> str:
    """Land WASDE reports, then transform and publish unless `serve` is False; returns the outcome in a line.

    All files are read before the first is landed: a report that is refused (ReportError) changes nothing.
    """
    from ops.pipelines.run import bring_up_to_date

    files = [file for path in paths for file in _read(path)]
    with open_job("land_reports", settings, request, [str(path) for path in paths]) as job:
        landed = [_land(job, file) for file in files]
        described = [_described(snapshot) for snapshot, is_new in landed if is_new]
        job.recorder.snapshots = tuple(dict.fromkeys(snapshot.key for snapshot, _ in landed))
        outcome = f"landed {', '.join(described)}" if described else "nothing new: these reports were landed before"
        job.recorder.result = outcome
        if serve and any(each.dataset == settings.dataset for each in job.landing.snapshots()):
            bring_up_to_date(job)
            job.recorder.result = f"{outcome}; {job.recorder.result}"
        return job.recorder.result


def extract_beside(job: Job) -> str | None:
    """Land the current report, as a run inside this one, where an address is set; says which was landed, if any.

    A failure is that run's and stops nothing else.
    """
    if job.settings.wasde_url is None:
        return None
    try:
        with job.inside("extract_wasde") as extracting, _archive(job) as archive:
            snapshot, is_new = _landed(extracting, archive, _newest_posted(job, archive))
            extracting.recorder.snapshots = (snapshot.key,)
            outcome = f"{'landed' if is_new else 'nothing new:'} {_described(snapshot)}"
            extracting.recorder.result = outcome
            return outcome if is_new else None
    except MateriaError as error:
        log.warning("WASDE: %s", error)
        return None


def has_work(job: Job) -> bool:
    """Whether a report is posted that is not landed; False where none is probed."""
    if job.settings.wasde_url is None:
        return False
    try:
        with _archive(job) as archive:
            return _find_landed(job, archive, _newest_posted(job, archive)) is None
    except ArchiveError:
        return False


@contextmanager
def _archive(job: Job) -> Iterator["Archive"]:
    from dataflows.source.archive import Archive

    setting = "MATERIA_WASDE_URL"
    with closing(Archive(job.request.retry_policy, job.settings.user_agent, setting=setting)) as archive:
        yield archive


def _newest_posted(job: Job, archive: "Archive") -> "Probe":
    """The newest posted report, of this month or the one before; a web page in its place is none."""
    newest = job.request.as_of or Month.of(utc_now().date())
    reasons = []
    for month in (newest, newest.back(1)):
        url = (job.settings.wasde_url or "").replace("{month}", f"{month.month:02d}")
        release = Release(WASDE.prefix, month, url.replace("{year}", f"{month.year % 100:02d}"))
        try:
            probe = archive.probe(release)
            if probe.posted and (_find_landed(job, archive, probe) or _is_xml(archive, release)):
                return probe
            reasons.append(f"{month}: {'not XML' if probe.posted else probe.reason}")
        except ArchiveError as error:
            reasons.append(f"{month}: could not be asked: {error}")
    raise NotPostedError(f"no WASDE report is posted ({'; '.join(reasons)}); check MATERIA_WASDE_URL")


def _find_landed(job: Job, archive: "Archive", probe: "Probe") -> "Snapshot | None":
    from dataflows.landing.same_content import landed_as

    return landed_as(probe, archive, job.landing.of(WASDE))


def _is_xml(archive: "Archive", release: Release) -> bool:
    piece = archive.piece(release, 0, _START_BYTES)
    return piece is not None and piece.data.removeprefix(BOM_UTF8).startswith((b"<?xml", b"<Report"))


def _landed(job: Job, archive: "Archive", probe: "Probe") -> tuple["Snapshot", bool]:
    from dataflows.landing.report import ReportFile
    from dataflows.landing.same_content import remember

    if known := _find_landed(job, archive, probe):
        return known, False
    landing = job.landing.of(WASDE)
    landing.workspace.mkdir(parents=True, exist_ok=True)
    path = landing.workspace / "wasde.download"
    download = archive.download(probe.release, path)
    try:
        served_on = _day(download.last_modified, probe.release.month)
        file = ReportFile.read(probe.release.url.rpartition("/")[2], path.read_bytes(), served_on)
    finally:
        path.unlink()
    served = {"url": probe.release.url, "etag": download.etag, "last_modified": download.last_modified}
    landed = _land(job, file, served)
    remember(landing, probe, landed[0])
    return landed


def _day(last_modified: str | None, month: Month | None) -> date | None:
    """The day of a `Last-Modified` header, if a report of that month can have been published on it."""
    from dataflows.source.release_dates import Evidence, date_release

    dating = date_release(month, Evidence(None, None, last_modified))
    return dating.published_at.date() if dating and dating.published_at else None


def _read(path: Path) -> Iterator["ReportFile"]:
    """The report, or each report of a zip."""
    from dataflows.files import disk_errors
    from dataflows.landing.report import ReportFile
    from dataflows.source.wasde.packed import reports_in
    from dataflows.source.wasde.report import MAX_REPORT_BYTES

    with disk_errors(path), path.open("rb") as file:
        data = file.read(MAX_REPORT_BYTES + 1)
    reports = reports_in(path) if data.startswith(_ZIP_START) else [(path.name, data)]
    for name, report in reports:
        yield ReportFile.read(name, report)


def _land(job: Job, file: "ReportFile", served: Mapping[str, Any] | None = None) -> tuple["Snapshot", bool]:
    from dataflows.landing.report import land_report
    from dataflows.source.wasde.report import unmapped_regions

    if regions := unmapped_regions(file.report):
        log.warning("%s: not served, because they are not mapped to PSD: %s", file.name, ", ".join(regions))
    with job.recorder.step(file.name) as note:
        snapshot, is_new = land_report(job.landing.of(WASDE), file, utc_now(), served)
        note.detail = _described(snapshot)
    return snapshot, is_new


def _described(snapshot: "Snapshot") -> str:
    return f"WASDE of {snapshot.month} ({snapshot.member}, {snapshot.row_count:,} figures)"
