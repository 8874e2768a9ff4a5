"""The weekly scrub, in a process of its own while nothing else is due; `materia status` names what it finds."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from ops.config.schedule import next_due
from ops.config.settings import Settings
from ops.health.status import served_release
from ops.host.exits import Exit
from ops.host.redact import Redactor
from ops.integrity.record import read_record, write_record
from ops.integrity.scrub import is_anything_stored
from ops.supervisor.command import run_logged, scrub_command

EVERY = timedelta(days=7)
RETRY_EVERY = timedelta(hours=6)
LEAST = timedelta(minutes=10)
"""How much time must be left before a slot is due; the scrub is ended when it is over."""
MOST = timedelta(hours=1)

log = logging.getLogger(__name__)


def scrub(
    settings: Settings,
    now: datetime,
    alive: Callable[[], None],
    command: Callable[[Settings], Sequence[str]] = scrub_command,
) -> None:
    """Scrub if it is time to and no run is due soon; never raises for what the scrub finds."""
    record = read_record(settings)
    if not _is_due(record.verified_at, EVERY, now) or not _is_due(record.attempted_at, RETRY_EVERY, now):
        return
    due_at = next_due(settings.supervision.schedule, now, "run-all", served_release(settings))
    left = min(due_at - now, MOST) if due_at else MOST
    if left < LEAST or not is_anything_stored(settings):
        return
    ended = run_logged(settings, "scrub", command(settings), left.total_seconds(), alive)
    after = read_record(settings)
    if after.attempted_at == record.attempted_at and ended.exit_code != Exit.LOCKED:
        said = Redactor.from_environ()(ended.last_line) or f"exit code {ended.exit_code}"
        why = f"it was not done within {left.total_seconds():.0f} s" if ended.timed_out else said
        write_record(settings, replace(after, attempted_at=now, error=why))
    log.info("scrubbed", extra={"said": ended.last_line})


def _is_due(last: datetime | None, every: timedelta, now: datetime) -> bool:
    return last is None or not timedelta(0) <= now - last < every
