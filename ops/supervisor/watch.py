"""Watch for the month that is due: one HEAD a minute in the polling hours, between the polls that probe everything.

`run-all` probes several months and the current file, starts a process and leaves a run in the journal, too much for
every minute. A HEAD that finds the month posted starts it at once.
"""

import logging
from datetime import datetime

from dataflows.errors import MateriaError
from dataflows.landing.same_content import landed_as
from dataflows.source.archive import Archive, Probe
from dataflows.source.http import RetryPolicy
from dataflows.source.release import release_of
from ops.config.schedule import Slot
from ops.config.settings import Settings
from ops.health.memory import Memory
from ops.pipelines.remote import landing_of, remote_of

ONE_REQUEST = RetryPolicy(attempts=1, idle_s=10, probe_s=20)
"""The next tick tries again, so nothing is retried here."""

log = logging.getLogger(__name__)


def posted_slot(settings: Settings, now: datetime, memory: Memory) -> tuple[Slot, str] | None:
    """A slot of `run-all` and the posting's identity if the month that is due was posted; None if nothing is new.

    Sends nothing outside of the polling hours, or if the month is served. A posting that a run has already tried is
    left to the regular polls.
    """
    from ops.health.status import served_release

    # With shorter pauses than a minute, only the first tick of a minute asks.
    if now.second >= settings.supervision.tick_s:
        return None
    schedule = settings.supervision.schedule
    month = schedule.awaited_month(now, served_release(settings))
    if month is None:
        return None
    archive = Archive(ONE_REQUEST, settings.user_agent)
    try:
        probe = archive.probe(release_of(settings.archive_url, settings.dataset, month))
        if not probe.posted or _identity(probe) == memory.tried_posting:
            return None
        if landed_as(probe, archive, landing_of(settings, remote_of(settings))) is not None:
            return None
    except MateriaError as error:
        log.warning("the awaited month could not be asked for", extra={"month": str(month), "error": str(error)})
        return None
    finally:
        archive.close()
    log.info("the awaited month is posted", extra={"month": str(month)})
    return Slot(now.replace(second=0, microsecond=0), "run-all"), _identity(probe)


def _identity(probe: Probe) -> str:
    found = probe.identity
    return f"{probe.release.url} {found.etag} {found.last_modified} {found.size_bytes}"
