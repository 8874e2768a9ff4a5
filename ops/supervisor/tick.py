"""A tick does everything that the supervisor does, once: reap workers, clean up, run due slots, scrub, send alerts.

Two locks: `supervisor.lock` lets one supervisor tick at a time. `scheduled.lock` is inherited by a scheduled run and
its children and held until the last of them ends, even if the supervisor is killed. Slots are evaluated only under
this lock, so that no run still in progress can complete one afterwards.
"""

import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import datetime

from dataflows.errors import JournalError, LockHeldError
from ops.config.schedule import TRIGGER_PREFIX, Backoff, Slot, due
from ops.config.settings import Settings
from ops.health import alerts
from ops.health.disk import disk_space
from ops.health.heartbeat import beat, record_tick_start, record_tick_success
from ops.health.memory import Attempts, Memory, read_memory, write_memory
from ops.health.status import served_release, take_status
from ops.host.exits import Exit
from ops.host.lock import WriterLock, writer_lock
from ops.host.redact import Redactor
from ops.host.version import code_version
from ops.journal.file import set_aside_if_damaged
from ops.journal.journal import Journal
from ops.journal.run import RunStatus, utc_now
from ops.supervisor import housekeeping, reaping, scrubbing, watch
from ops.supervisor.announce import announce
from ops.supervisor.child import GRACE_S, ChildResult, signal_group
from ops.supervisor.command import command_of, run_logged
from ops.supervisor.hang import note_progress
from ops.supervisor.notify import notify

BACKOFF = Backoff()

_beats = ContextVar("beats", default=True)
"""Whether this tick belongs to a loop, whose end a missing heartbeat reveals."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TickResult:
    """The result of a tick: the slots that it ran, with their outcomes, and the number of problems afterwards."""

    ran: tuple[tuple[Slot, str], ...]
    problems: int

    def __str__(self) -> str:
        ran = "; ".join(f"{slot.pipeline} for {slot.trigger}: {outcome}" for slot, outcome in self.ran)
        return f"{ran or 'nothing was due'}; {self.problems or 'no'} problem{'' if self.problems == 1 else 's'}"


Command = Callable[[Slot, Settings], Sequence[str]]
"""Returns the command that runs a slot."""


def tick(
    settings: Settings,
    clock: Callable[[], datetime] = utc_now,
    command: Command = command_of,
    *,
    is_rehearsal: bool = False,
    is_supervised: bool = True,
) -> TickResult:
    """Do all due work and return when it is done. Without `is_supervised` no heartbeat is written.

    A rehearsal reaps no workers, pings nothing and does not feed the watchdog. Raises LockHeldError if another
    supervisor ticks here. A failed run is not an error of the tick: it raises an alert and is retried.
    """
    settings.supervisor_dir.mkdir(parents=True, exist_ok=True)
    with writer_lock(settings.supervisor_dir / "supervisor.lock", "supervisor"):
        _beats.set(is_supervised)
        if is_supervised:
            record_tick_start(settings.supervisor_dir, clock())
        if not is_rehearsal:
            reaping.reap(settings, clock(), lambda: _beat(settings, clock(), "reaping workers"))
        housekeeping.clean_up_if_due(settings, clock(), lambda: _beat(settings, clock(), "cleaning up"))
        ran = _run_due_slots(settings, clock, command)
        if not is_rehearsal and not disk_space(settings).is_low:
            scrubbing.scrub(settings, clock(), lambda: _beat(settings, clock(), "scrubbing"))
        status = take_status(settings, clock())
        write_memory(
            settings.supervisor_dir, alerts.send_alerts(settings, status, read_memory(settings.supervisor_dir))
        )
        if not is_rehearsal:
            announce(settings, clock(), lambda: _beat(settings, clock(), "announcing a release"))
            alerts.ping(settings.supervision.alert_ping_url)
        # Last: a tick that raised before has not succeeded and must not feed the watchdog.
        if is_supervised:
            record_tick_success(settings.supervisor_dir, clock(), settings.supervision.tick_s)
        if not is_rehearsal:
            notify("WATCHDOG=1")
        return TickResult(ran, len(status.problems))


def ready_slots(settings: Settings, now: datetime, journal: Journal) -> tuple[Slot, ...]:
    """The due slots that may be tried now, with respect to their backoff. Raises JournalError."""
    slots = due(settings.supervision.schedule, now, served_release(settings), journal.succeeded)
    memory = read_memory(settings.supervisor_dir)
    return tuple(slot for slot in slots if _is_ready(memory, slot, now))


def _run_due_slots(settings: Settings, clock: Callable[[], datetime], command: Command) -> tuple[tuple[Slot, str], ...]:
    try:
        with writer_lock(settings.supervisor_dir / "scheduled.lock", "a scheduled run") as lock:
            set_aside_if_damaged(settings.journal_path)
            journal = Journal(settings.journal_path)
            _settle_open_attempts(settings, journal)
            ready = ready_slots(settings, clock(), journal)
            ran = [(slot, _run(settings, slot, command(slot, settings), lock, journal, clock)) for slot in ready]
            if "run-all" not in {slot.pipeline for slot in ready}:
                ran += _run_if_posted(settings, clock, command, lock, journal)
            return tuple(ran)
    except LockHeldError:
        log.info("a scheduled run of an earlier supervisor is still in progress")
        _end_stuck_runs(settings, clock())
    except JournalError as error:
        # Without the journal it is unknown what has already run; `take_status` reports the damage.
        log.error("nothing can be scheduled", extra={"error": str(error)})
    return ()


def _run_if_posted(
    settings: Settings, clock: Callable[[], datetime], command: Command, lock: WriterLock, journal: Journal
) -> Iterator[tuple[Slot, str]]:
    """Run `run-all` if the awaited month was posted since the last poll, unless its last failure is too recent."""
    memory, now = read_memory(settings.supervisor_dir), clock()
    failed = memory.attempts.get("run-all")
    if failed is not None and not BACKOFF.is_over(failed.failures, failed.last_at, now):
        return
    posted = watch.posted_slot(settings, now, memory)
    if posted is None:
        return
    slot, identity = posted
    outcome = _run(settings, slot, command(slot, settings), lock, journal, clock)
    if outcome == "done" and settings.supervision.schedule.awaited_month(now, served_release(settings)) is not None:
        memory = read_memory(settings.supervisor_dir)
        write_memory(settings.supervisor_dir, replace(memory, tried_posting=identity))
    yield slot, outcome


def _settle_open_attempts(settings: Settings, journal: Journal) -> None:
    """Complete the attempts whose supervisor was killed while their runs went on, from what the journal says now."""
    memory = read_memory(settings.supervisor_dir)
    for pipeline, attempts in memory.attempts.items():
        if journal.succeeded(pipeline, attempts.trigger, attempts.trigger):
            memory = memory.with_attempts(pipeline, None)
        elif attempts.after_run is not None:
            is_recorded = _is_recorded(journal, attempts.trigger, attempts.after_run)
            error = None if is_recorded else "the supervisor was killed before the run was recorded"
            memory = memory.with_attempts(pipeline, replace(attempts, after_run=None, unrecorded=error))
    if memory != read_memory(settings.supervisor_dir):
        write_memory(settings.supervisor_dir, memory)


def _is_recorded(journal: Journal, trigger: str, after_run: int) -> bool:
    return any(run.id > after_run and run.trigger == trigger for run in journal.runs(20))


def _is_ready(memory: Memory, slot: Slot, now: datetime) -> bool:
    """Whether the backoff after earlier failures with this code is over."""
    before = _attempts_before(memory, slot)
    return before is None or BACKOFF.is_over(before.failures, before.last_at, now)


def _attempts_before(memory: Memory, slot: Slot) -> Attempts | None:
    """The consecutive failures at this slot; None if other code failed, because a new commit may fix it."""
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
    """Run the pipeline of a slot in a process of its own, record the outcome and return it as a line."""
    folder = settings.supervisor_dir
    if disk_space(settings).is_low:
        return "not started: too little free disk space"
    memory = read_memory(folder)
    before = _attempts_before(memory, slot)
    newest_run_id = max((run.id for run in journal.runs(1)), default=0)
    failures = before.failures + 1 if before else 1
    attempts = Attempts(slot.trigger, failures, clock(), after_run=newest_run_id, code_version=code_version())
    # Counted before the start, so that a run that kills the supervisor also gets a backoff.
    write_memory(folder, memory.with_attempts(slot.pipeline, attempts))
    doing = f"running {slot.pipeline} for {slot.trigger}"
    log.info("running a due slot", extra={"trigger": slot.trigger, "command": " ".join(command)})
    try:
        _report_alive(settings, clock(), doing)
        result = run_logged(
            settings,
            slot.pipeline,
            command,
            settings.supervision.deadline.total_seconds(),
            lambda: _report_alive(settings, clock(), doing),
            held_fds=(lock.fileno(),),
        )
    except BaseException:
        write_memory(folder, memory)
        raise
    after = read_memory(folder)
    if journal.succeeded(slot.pipeline, slot.trigger, slot.trigger):
        write_memory(folder, after.with_attempts(slot.pipeline, None))
        return "done"
    if result.exit_code == Exit.LOCKED:
        write_memory(folder, after.with_attempts(slot.pipeline, memory.attempts.get(slot.pipeline)))
        return "another run is writing; this one waits for it"
    failure = _failure_text(result)
    is_known = not result.timed_out and _is_recorded(journal, slot.trigger, newest_run_id)
    failed = replace(attempts, last_at=clock(), after_run=None, unrecorded=None if is_known else failure)
    write_memory(folder, after.with_attempts(slot.pipeline, failed))
    log.warning("a scheduled run failed", extra={"trigger": slot.trigger, "failures": failures, "error": failure})
    return failure


def _failure_text(result: ChildResult) -> str:
    if result.timed_out:
        return "timeout: ended at its deadline"
    how = f"exit code {result.exit_code}" if result.exit_code >= 0 else f"signal {-result.exit_code}"
    last_line = Redactor.from_environ()(result.last_line)
    return f"{how}: {last_line or 'no output'}" if result.exit_code else "exit code 0, but no success was recorded"


def _end_stuck_runs(settings: Settings, now: datetime) -> None:
    """End scheduled runs of an earlier supervisor that are past their deadline."""
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


def _report_alive(settings: Settings, now: datetime, doing: str) -> None:
    """Report to the heartbeat and systemd's watchdog that a run is in progress within its deadline."""
    _beat(settings, now, doing)
    notify("WATCHDOG=1")


def _beat(settings: Settings, now: datetime, doing: str) -> None:
    note_progress()
    if _beats.get():
        beat(settings.supervisor_dir, now, doing)
