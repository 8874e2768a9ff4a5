"""A tick: reap workers, run what is due, clean up, send alerts. Everything that the supervisor does, once.

Two locks: `supervisor.lock` lets one supervisor at a time tick; `scheduled.lock` is inherited by a scheduled
run and everything under it, and held until the last of them has ended, also when the supervisor was killed. A
slot is judged only under it, so that no run that is still under way can settle it afterwards.
"""

import logging
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import datetime

from dataflows.errors import JournalError, LockHeldError
from ops.config.schedule import TRIGGER_PREFIX, Backoff, Slot, due
from ops.config.settings import PROJECT_DIR, Settings
from ops.health import alerts
from ops.health.heartbeat import BEAT_EVERY_S, beat, tick_begins, tick_succeeded
from ops.health.memory import Attempts, Memory, recall, remember
from ops.health.status import served_release, take_status
from ops.host.exits import Exit
from ops.host.lock import WriterLock, writer_lock
from ops.host.redact import Redactor
from ops.host.version import code_version
from ops.journal.file import set_aside_if_damaged
from ops.journal.journal import Journal
from ops.journal.run import RunStatus, utc_now
from ops.supervisor import housekeeping, reaping, scrubbing
from ops.supervisor.child import GRACE_S, Ended, run_child, signal_group
from ops.supervisor.command import command_of, environ_of
from ops.supervisor.notify import notify

BACKOFF = Backoff()

_beats = ContextVar("beats", default=True)
"""Whether this tick is one of a loop's, whose end would be noticed by the missing heartbeat."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ticked:
    """What a tick did: the slots that it ran, with the outcome of each, and how many problems it left."""

    ran: tuple[tuple[Slot, str], ...]
    problems: int

    def __str__(self) -> str:
        ran = "; ".join(f"{slot.pipeline} for {slot.trigger}: {outcome}" for slot, outcome in self.ran)
        return f"{ran or 'nothing was due'}; {self.problems or 'no'} problem{'' if self.problems == 1 else 's'}"


Command = Callable[[Slot, Settings], Sequence[str]]
"""What a slot is run with."""


def tick(
    settings: Settings,
    clock: Callable[[], datetime] = utc_now,
    command: Command = command_of,
    *,
    is_rehearsal: bool = False,
    is_supervised: bool = True,
) -> Ticked:
    """Do everything that is to be done now; returns when it is done. Without `is_supervised` it leaves no heartbeat.

    A rehearsal reaps no workers, pings nothing and does not feed the watchdog. Raises LockHeldError when another
    supervisor ticks here. A run that fails is no error of the tick: it is an alert, and is tried again.
    """
    settings.supervisor_dir.mkdir(parents=True, exist_ok=True)
    with writer_lock(settings.supervisor_dir / "supervisor.lock", "supervisor"):
        _beats.set(is_supervised)
        if is_supervised:
            tick_begins(settings.supervisor_dir, clock())
        if not is_rehearsal:
            reaping.reap(settings, clock(), lambda: _beat(settings, clock(), "reaping workers"))
        housekeeping.keep_house(settings, clock())
        ran = _run_what_is_due(settings, clock, command)
        if not is_rehearsal:
            scrubbing.scrub(settings, clock(), lambda: _beat(settings, clock(), "verifying what is stored"))
        status = take_status(settings, clock())
        remember(settings.supervisor_dir, alerts.tell(settings, status, recall(settings.supervisor_dir)))
        if not is_rehearsal:
            alerts.ping(settings.supervision.alert_ping_url)
        # Last: a tick that raises anywhere has not succeeded, and the watchdog is not fed.
        if is_supervised:
            tick_succeeded(settings.supervisor_dir, clock(), settings.supervision.tick_s)
        if not is_rehearsal:
            notify("WATCHDOG=1")
        return Ticked(ran, len(status.problems))


def ready_slots(settings: Settings, now: datetime, journal: Journal) -> tuple[Slot, ...]:
    """The slots that are due and may be tried now. Raises JournalError."""
    slots = due(settings.supervision.schedule, now, served_release(settings), journal.succeeded)
    memory = recall(settings.supervisor_dir)
    return tuple(slot for slot in slots if _is_ready(memory, slot, now))


def _run_what_is_due(
    settings: Settings, clock: Callable[[], datetime], command: Command
) -> tuple[tuple[Slot, str], ...]:
    try:
        with writer_lock(settings.supervisor_dir / "scheduled.lock", "a scheduled run") as lock:
            set_aside_if_damaged(settings.journal_path)
            journal = Journal(settings.journal_path)
            _settle_open_attempts(settings, journal)
            ready = ready_slots(settings, clock(), journal)
            return tuple((slot, _run(settings, slot, command(slot, settings), lock, journal, clock)) for slot in ready)
    except LockHeldError:
        log.info("a scheduled run of an earlier supervisor is still under way")
        _end_what_is_stuck(settings, clock())
    except JournalError as error:
        # Without the journal it is unknown what has run already; `take_status` reports what is wrong with it.
        log.error("nothing can be scheduled", extra={"error": str(error)})
    return ()


def _settle_open_attempts(settings: Settings, journal: Journal) -> None:
    """Judge what the journal says now of attempts whose supervisor was killed: their runs went on without it."""
    memory = recall(settings.supervisor_dir)
    for pipeline, attempts in memory.attempts.items():
        if journal.succeeded(pipeline, attempts.trigger, attempts.trigger):
            memory = memory.attempted(pipeline, None)
        elif attempts.after_run is not None:
            is_recorded = _is_recorded(journal, attempts.trigger, attempts.after_run)
            said = None if is_recorded else "the supervisor was killed before the run was recorded"
            memory = memory.attempted(pipeline, replace(attempts, after_run=None, unrecorded=said))
    if memory != recall(settings.supervisor_dir):
        remember(settings.supervisor_dir, memory)


def _is_recorded(journal: Journal, trigger: str, after_run: int) -> bool:
    return any(run.id > after_run and run.trigger == trigger for run in journal.runs(20))


def _is_ready(memory: Memory, slot: Slot, now: datetime) -> bool:
    """Whether a slot that is due may be tried now, after its earlier failures with this code."""
    before = _attempts_before(memory, slot)
    return before is None or BACKOFF.is_over(before.failures, before.last_at, now)


def _attempts_before(memory: Memory, slot: Slot) -> Attempts | None:
    """The failures in a row at this slot; none where other code failed, which may be what was fixed."""
    before = memory.attempts.get(slot.pipeline)
    is_same = before is not None and (before.trigger, before.code_version) == (slot.trigger, code_version())
    return before if is_same else None


def _run(
    settings: Settings,
    slot: Slot,
    command: Sequence[str],
    lock: WriterLock,
    journal: Journal,
    clock: Callable[[], datetime],
) -> str:
    """Run the pipeline of a slot in a process of its own, and remember how it went; returns that in a line."""
    where = settings.supervisor_dir
    if shutil.disk_usage(settings.data_dir).free < settings.supervision.min_free_bytes:
        return "not begun: too little free disk space"
    memory = recall(where)
    before = _attempts_before(memory, slot)
    newest_run_id = max((run.id for run in journal.runs(1)), default=0)
    failures = before.failures + 1 if before else 1
    attempts = Attempts(slot.trigger, failures, clock(), after_run=newest_run_id, code_version=code_version())
    # Counted before it begins: a run that kills the supervisor must wait its turn as well.
    remember(where, memory.attempted(slot.pipeline, attempts))
    try:
        ended = _run_child(settings, slot, command, lock, clock)
    except OSError as error:
        ended = Ended(-1, False, str(error))
    except BaseException:
        remember(where, memory)
        raise
    after = recall(where)
    if journal.succeeded(slot.pipeline, slot.trigger, slot.trigger):
        remember(where, after.attempted(slot.pipeline, None))
        return "done"
    if ended.exit_code == Exit.LOCKED:
        remember(where, after.attempted(slot.pipeline, memory.attempts.get(slot.pipeline)))
        return "another run is writing; it waits for that"
    said = _said(ended)
    is_known = not ended.timed_out and _is_recorded(journal, slot.trigger, newest_run_id)
    failed = replace(attempts, last_at=clock(), after_run=None, unrecorded=None if is_known else said)
    remember(where, after.attempted(slot.pipeline, failed))
    log.warning("a scheduled run failed", extra={"trigger": slot.trigger, "failures": failures, "said": said})
    return said


def _run_child(
    settings: Settings, slot: Slot, command: Sequence[str], lock: WriterLock, clock: Callable[[], datetime]
) -> Ended:
    doing = f"running {slot.pipeline} for {slot.trigger}"
    settings.log_dir.mkdir(parents=True, exist_ok=True)
    log.info("running what is due", extra={"trigger": slot.trigger, "command": " ".join(command)})
    _alive(settings, clock(), doing)
    return run_child(
        command,
        cwd=PROJECT_DIR,
        environ=environ_of(settings),
        output_path=settings.log_dir / f"scheduled-{slot.pipeline}.log",
        deadline_s=settings.supervision.deadline.total_seconds(),
        alive=lambda: _alive(settings, clock(), doing),
        alive_every_s=BEAT_EVERY_S,
        held_fds=(lock.fileno(),),
    )


def _said(ended: Ended) -> str:
    if ended.timed_out:
        return "stuck: it was ended at its deadline"
    how = f"exit code {ended.exit_code}" if ended.exit_code >= 0 else f"signal {-ended.exit_code}"
    last_line = Redactor.from_environ()(ended.last_line)
    return f"{how}: {last_line or 'it said nothing'}" if ended.exit_code else "it ended well and recorded no success"


def _end_what_is_stuck(settings: Settings, now: datetime) -> None:
    """End the scheduled runs that a supervisor which is gone left behind, once they are past their deadline."""
    for run in Journal(settings.journal_path).runs(100, status=RunStatus.RUNNING):
        overdue_s = (now - run.started_at - settings.supervision.deadline).total_seconds()
        is_ours = run.trigger.startswith(TRIGGER_PREFIX) and run.host == os.uname().nodename
        if is_ours and overdue_s > 0 and run.process.is_alive():
            how = signal.SIGTERM if overdue_s < GRACE_S + 2 * settings.supervision.tick_s else signal.SIGKILL
            log.warning("ending a stuck run", extra={"stuck": run.id, "pid": run.pid, "signal": how.name})
            try:
                signal_group(os.getpgid(run.pid), how)
            except ProcessLookupError:
                continue


def _alive(settings: Settings, now: datetime, doing: str) -> None:
    """A run is under way, within its deadline: say so to people and to systemd's watchdog."""
    _beat(settings, now, doing)
    notify("WATCHDOG=1")


def _beat(settings: Settings, now: datetime, doing: str) -> None:
    if _beats.get():
        beat(settings.supervisor_dir, now, doing)
