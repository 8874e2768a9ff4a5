"""The weekly scrub, in a process of its own while no run is due; `materia status` reports what it finds."""

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
MIN_DURATION = timedelta(minutes=10)
"""A scrub starts only if no slot becomes due within this time; it is ended when one does."""
MAX_DURATION = timedelta(hours=1)

log = logging.getLogger(__name__)


def scrub(
    settings: Settings,
    now: datetime,
    on_alive: Callable[[], None],
    command: Callable[[Settings], Sequence[str]] = scrub_command,
) -> None:
    """Scrub if it is due and no run is due soon; never raises an error of the scrub."""
    record = read_record(settings)
    if not _is_due(record.verified_at, EVERY, now) or not _is_due(record.attempted_at, RETRY_EVERY, now):
        return
    due_at = next_due(settings.supervision.schedule, now, "run-all", served_release(settings))
    time_left = min(due_at - now, MAX_DURATION) if due_at else MAX_DURATION
    if time_left < MIN_DURATION or not is_anything_stored(settings):
        return
    result = run_logged(settings, "scrub", command(settings), time_left.total_seconds(), on_alive)
    after = read_record(settings)
    if after.attempted_at == record.attempted_at and result.exit_code != Exit.LOCKED:
        reason = Redactor.from_environ()(result.last_line) or f"exit code {result.exit_code}"
        why = f"timeout after {time_left.total_seconds():.0f} s" if result.timed_out else reason
        write_record(settings, replace(after, attempted_at=now, error=why))
    log.info("scrub ended", extra={"output": result.last_line})


def _is_due(last: datetime | None, every: timedelta, now: datetime) -> bool:
    return last is None or not timedelta(0) <= now - last < every
