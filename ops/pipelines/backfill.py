"""Backfill: land every posted release of a range of months, a few at a time, and serve them."""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum

from dataflows.errors import MateriaError, NotPostedError, RefusedError, SettingsError
from dataflows.source.archive import Archive
from dataflows.source.release import Month, release_of
from ops.config.settings import Settings
from ops.journal.run import utc_now
from ops.pipelines.job import Job, Request, open_job
from ops.pipelines.repair import repair
from ops.pipelines.run import bring_up_to_date, described, upgrade_landing

MAX_MONTHS = 600
"""Fifty years; a longer range is a slip of the keyboard."""

AT_A_TIME = 3
"""Releases fetched side by side: USDA's server is not ours."""

log = logging.getLogger(__name__)


class Outcome(StrEnum):
    """What became of a month."""

    LANDED = "landed"
    KNOWN = "landed before"
    NOT_POSTED = "not posted"
    REFUSED = "refused"
    """401 or 403. Not posted, as far as other months are; where none is, the archive may block the client."""
    FAILED = "failed"


@dataclass(frozen=True)
class MonthDone:
    """A month that is dealt with, and how, in a line."""

    month: Month
    outcome: Outcome
    detail: str


Report = Callable[[MonthDone], None]


def backfill(settings: Settings, first: Month, last: Month, request: Request, *, serve: bool, report: Report) -> str:
    """Land the releases of `first` to `last`, then transform and publish unless `serve` is False.

    A month that is not posted is no error, nor one that is refused where another is posted. One that fails does not
    stop the others, and is raised at the end as MateriaError before anything is published. Repeating a backfill goes
    on where it stopped. Returns the outcome in a line.
    """
    months = tuple(first.through(last)) if (last.year - first.year) * 12 <= MAX_MONTHS else ()
    if not 0 < len(months) <= MAX_MONTHS:
        raise SettingsError(f"{first} to {last} is no range of at most {MAX_MONTHS} months")
    arguments = ("--from", str(first), "--to", str(last))
    with open_job("backfill", settings, request, arguments) as job:
        repair(job)
        upgrade_landing(job)
        done = _land_all(job, months, report)
        counts = {outcome: sum(1 for each in done if each.outcome is outcome) for outcome in Outcome}
        summary = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
        job.recorder.result = summary
        posted = counts[Outcome.LANDED] + counts[Outcome.KNOWN]
        failures = {Outcome.FAILED} if posted else {Outcome.FAILED, Outcome.REFUSED}
        if failed := [each for each in done if each.outcome in failures]:
            raise MateriaError(
                f"{len(failed)} of {len(months)} months failed ({summary}); the first, {failed[0].month}: "
                f"{failed[0].detail}. What landed stays; run the same backfill again to go on"
            )
        if serve and posted:
            bring_up_to_date(job)
            job.recorder.result = f"{summary}; {job.recorder.result}"
        return job.recorder.result


def _land_all(job: Job, months: tuple[Month, ...], report: Report) -> list[MonthDone]:
    """Land the months side by side; an interruption ends what is under way at once."""
    archive = Archive(job.request.retry_policy, job.settings.user_agent)
    done = []
    with closing(archive), ThreadPoolExecutor(AT_A_TIME, "backfill") as pool, _stopping(pool, archive):
        landing: list[Future[MonthDone]] = [pool.submit(_land, job, month, archive) for month in months]
        for future in as_completed(landing):
            done.append(future.result())
            report(done[-1])
    return sorted(done, key=lambda each: each.month)


@contextmanager
def _stopping(pool: ThreadPoolExecutor, archive: Archive) -> Iterator[None]:
    try:
        yield
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        archive.stop()
        raise


def _land(job: Job, month: Month, archive: Archive) -> MonthDone:
    from dataflows import driver, extract

    inputs = {"archive": archive, "landing": job.landing, "landed_at": utc_now()}
    release = release_of(job.settings.archive_url, job.settings.dataset, month)
    given = {"candidates": (release,), "live": None}
    try:
        with job.recorder.step(str(month)) as note:
            try:
                found = driver.execute(extract, "snapshot", inputs, overrides=given)
                outcome = Outcome.LANDED if found.is_new else Outcome.KNOWN
                done = MonthDone(month, outcome, described(found.snapshot))
            except NotPostedError:
                done = MonthDone(month, Outcome.NOT_POSTED, release.url)
            except RefusedError as error:
                done = MonthDone(month, Outcome.REFUSED, str(error))
            note.detail = f"{done.outcome}: {done.detail}"
    except MateriaError as error:
        done = MonthDone(month, Outcome.FAILED, str(error))
    log.info("month done", extra={"month": str(month), "outcome": str(done.outcome), "detail": done.detail})
    return done
