"""A tick with real runs in processes of their own, killed, stuck, failing, or two at once."""

import itertools
import json
import logging
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from dataflows.errors import LockHeldError
from ops.config.schedule import TRIGGER_PREFIX, Slot
from ops.config.settings import PROJECT_DIR, Settings
from ops.health.heartbeat import read_heartbeat
from ops.health.memory import Attempts, Memory, memory_path, read_memory, write_memory
from ops.health.status import take_status
from ops.host.lock import writer_lock
from ops.host.version import code_version
from ops.integrity.record import ScrubRecord, read_record, write_record
from ops.journal.journal import Journal
from ops.journal.run import RunStatus, utc_now
from ops.supervisor.command import command_of, environ_of
from ops.supervisor.health import health
from ops.supervisor.loop import once
from ops.supervisor.loop import run as run_loop
from ops.supervisor.rehearsal import rehearse
from ops.supervisor.tick import tick
from tests.ops.supervisor.conftest import Alarm, Clock, quick, settings_of
from tests.ops.supervisor.host import until

RUN = """
import sys
from contextlib import closing
from datetime import datetime
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from ops.supervisor import loop
from tests.ops.supervisor.conftest import Alarm, Clock, quick, settings_of
settings, clock = settings_of(Path(sys.argv[1])), Clock(datetime.fromisoformat(sys.argv[3]))
loop.run(settings, print, ticks=1, clock=clock, command=quick)
"""


@pytest.fixture(autouse=True)
def verified(data_dir: Path, clock: Clock) -> None:
    """What is stored was verified a moment ago: without a record every tick would start a scrub."""
    write_record(settings_of(data_dir), ScrubRecord(verified_at=clock(), attempted_at=clock()))


def scheduled(data_dir: Path) -> list[tuple[str, str, str]]:
    """Pipeline, trigger and status of every scheduled run, oldest first."""
    runs = reversed(Journal(data_dir / "runs.sqlite").runs(10_000))
    return [(r.pipeline, r.trigger, str(r.status)) for r in runs if r.trigger.startswith(TRIGGER_PREFIX)]


def start_tick(data_dir: Path, clock: Clock) -> "subprocess.Popen[str]":
    """A supervisor of its own that ticks once."""
    command = [sys.executable, "-c", RUN, *map(str, (data_dir, PROJECT_DIR, clock.now.isoformat()))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def is_running(data_dir: Path) -> bool:
    return any(status == "running" for *_, status in scheduled(data_dir))


def test_a_due_slot_runs_once(data_dir: Path, clock: Clock) -> None:
    settings = settings_of(data_dir)
    day = f"{clock.now:%Y-%m-%d}"
    ticked = tick(settings, clock, quick)
    assert [(slot.pipeline, outcome) for slot, outcome in ticked.ran] == [
        ("run-all", "done"),
        ("export_serving", "done"),
    ]
    assert tick(settings, clock, quick).ran == ()
    clock.forward(hours=1)
    assert tick(settings, clock, quick).ran == ()
    assert scheduled(data_dir) == [
        ("run-all", f"schedule:{day}T02:00Z", "done"),
        ("export_serving", f"schedule:{day}T03:00Z", "done"),
    ]
    heartbeat = read_heartbeat(settings.supervisor_dir)
    assert heartbeat is not None and heartbeat.at == clock.now and heartbeat.pid == os.getpid()
    assert not heartbeat.is_late(clock.now)


def test_a_failing_run_is_tried_again_later_and_alerted_once(data_dir: Path, clock: Clock, caplog) -> None:
    caplog.set_level(logging.INFO)
    settings = settings_of(data_dir)
    (data_dir / "mode").write_text("failing")
    tries = []
    for _ in range(40):
        tries += [slot.pipeline for slot, _ in tick(settings, clock, quick).ran]
        clock.forward(minutes=1)
    # At once, then after 5, 10 and 20 minutes.
    assert Counter(tries) == {"run-all": 4, "export_serving": 4}
    alerts = [record for record in caplog.records if record.message == "alert"]
    assert sorted(record.alert for record in alerts if record.alert.startswith("failed")) == [
        "failed-export_serving",
        "failed-run-all",
    ]
    (data_dir / "mode").write_text("done")
    clock.forward(hours=1)
    assert [outcome for _, outcome in tick(settings, clock, quick).ran] == ["done", "done"]
    assert {record.alert for record in caplog.records if record.message == "resolved"} >= {"failed-run-all"}
    assert read_memory(settings.supervisor_dir).attempts == {}


def test_a_run_that_never_reaches_the_journal_is_a_problem_too(data_dir: Path, clock: Clock) -> None:
    settings = settings_of(data_dir)
    (data_dir / "mode").write_text("settings")
    tick(settings, clock, quick)
    problems = {problem.key: problem for problem in take_status(settings, clock.now).problems}
    assert "exit code 2: error: PSD_DATASET is wrong" in problems["unrecorded-run-all"].what
    (data_dir / "mode").write_text("done")
    clock.forward(minutes=6)
    tick(settings, clock, quick)
    assert not any(problem.key.startswith("unrecorded") for problem in take_status(settings, clock.now).problems)


def test_a_program_that_is_not_there_is_a_problem_and_no_crash(data_dir: Path, clock: Clock) -> None:
    settings = settings_of(data_dir)
    ticked = tick(settings, clock, lambda slot, settings: ["/nowhere/just"])
    assert all("No such file" in outcome for _, outcome in ticked.ran) and len(ticked.ran) == 2


def test_while_somebody_else_writes_the_slot_waits_without_counting_as_failed(data_dir: Path, clock: Clock) -> None:
    settings = settings_of(data_dir)
    with writer_lock(settings.lock_path, "backfill"):
        ticked = tick(settings, clock, quick)
    assert all(outcome.startswith("another run is writing") for _, outcome in ticked.ran)
    assert read_memory(settings.supervisor_dir).attempts == {} and scheduled(data_dir) == []
    assert [outcome for _, outcome in tick(settings, clock, quick).ran] == ["done", "done"]


def test_a_stuck_run_and_what_it_started_are_ended_at_the_deadline(data_dir: Path, clock: Clock, monkeypatch) -> None:
    settings = settings_of(data_dir)
    object.__setattr__(settings.supervision, "deadline", settings.supervision.deadline / 3600)  # 1.5 s
    (data_dir / "mode").write_text("stuck")
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    ticked = tick(settings, clock, quick)
    assert {outcome for _, outcome in ticked.ran} == {"timeout: ended at its deadline"}
    assert {child.pid for child in psutil.Process().children(recursive=True)} == before
    assert {status for *_, status in scheduled(data_dir)} <= {"interrupted", "died"}
    assert {problem.key for problem in take_status(settings, clock.now).problems} >= {"unrecorded-run-all"}


def test_a_signal_ends_the_run_and_does_not_count_as_its_failure(data_dir: Path, clock: Clock) -> None:
    (data_dir / "mode").write_text("stuck")
    process = start_tick(data_dir, clock)
    until(lambda: is_running(data_dir), "the run is under way")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert [status for *_, status in scheduled(data_dir)] == ["interrupted"]
    assert read_memory(settings_of(data_dir).supervisor_dir).attempts == {}
    (data_dir / "mode").write_text("done")
    assert len(tick(settings_of(data_dir), clock, quick).ran) == 2


def test_two_supervisors_do_not_tick_at_once(data_dir: Path, clock: Clock) -> None:
    settings = settings_of(data_dir)
    (data_dir / "mode").write_text("takes 1.5")
    first = start_tick(data_dir, clock)
    until(lambda: is_running(data_dir), "the first tick runs something")
    with pytest.raises(LockHeldError, match="supervisor"):
        tick(settings, clock, quick)
    first.communicate(timeout=60)
    assert first.returncode == 0 and len(scheduled(data_dir)) == 2


def test_a_killed_supervisors_run_goes_on_and_is_not_started_again(data_dir: Path, clock: Clock) -> None:
    settings = settings_of(data_dir)
    (data_dir / "mode").write_text("takes 2")
    first = start_tick(data_dir, clock)
    until(lambda: is_running(data_dir), "the run is under way")
    first.kill()
    first.communicate()
    assert tick(settings, clock, quick).ran == ()
    until(lambda: not is_running(data_dir), "the run has ended")
    (data_dir / "mode").write_text("done")
    until(lambda: len(tick(settings, clock, quick).ran) == 1, "the other slot runs")
    assert Counter(scheduled(data_dir)).most_common(1)[0][1] == 1 and len(scheduled(data_dir)) == 2


def test_a_run_that_outlives_its_supervisor_and_ends_well_is_no_problem(data_dir: Path, clock: Clock) -> None:
    settings = settings_of(data_dir)
    (data_dir / "mode").write_text("takes 2")
    first = start_tick(data_dir, clock)
    until(lambda: is_running(data_dir), "the run is under way")
    first.kill()
    first.communicate()
    tick(settings, clock, quick)
    assert not any(problem.key.startswith("unrecorded") for problem in take_status(settings, clock.now).problems)
    until(lambda: not is_running(data_dir), "the run has ended")
    (data_dir / "mode").write_text("done")
    until(lambda: len(tick(settings, clock, quick).ran) == 1, "the other slot runs")
    assert read_memory(settings.supervisor_dir).attempts == {}
    assert not any(problem.key.startswith("unrecorded") for problem in take_status(settings, clock.now).problems)


def test_a_run_killed_with_its_supervisor_before_it_was_recorded_is_a_problem(data_dir: Path, clock: Clock) -> None:
    settings = settings_of(data_dir)
    slot = Slot(clock.now.replace(hour=2), "run-all")
    attempts = Attempts(slot.trigger, 1, clock.now, after_run=0, code_version=code_version())
    settings.supervisor_dir.mkdir()
    write_memory(settings.supervisor_dir, Memory().with_attempts("run-all", attempts))
    tick(settings, clock, quick)
    problems = {problem.key: problem.what for problem in take_status(settings, clock.now).problems}
    assert problems["unrecorded-run-all"].startswith("the supervisor was killed before the run was recorded: run-all")


def test_one_cause_is_one_problem(data_dir: Path, clock: Clock) -> None:
    settings = settings_of(data_dir)
    (data_dir / "mode").write_text("settings")
    tick(settings, clock, quick)
    [what] = [p.what for p in take_status(settings, clock.now).problems if p.key.startswith("unrecorded")]
    assert what.startswith("exit code 2: error: PSD_DATASET is wrong: run-all and export_serving could not be run")


def test_other_code_does_not_wait_for_what_failed_before_it(data_dir: Path, clock: Clock) -> None:
    settings = settings_of(data_dir)
    (data_dir / "mode").write_text("failing")
    tick(settings, clock, quick)
    assert tick(settings, clock, quick).ran == (), "the same code waits"
    memory = read_memory(settings.supervisor_dir)
    for pipeline, attempts in memory.attempts.items():
        memory = memory.with_attempts(pipeline, replace(attempts, code_version="0" * 12, failures=7))
    write_memory(settings.supervisor_dir, memory)
    assert len(tick(settings, clock, quick).ran) == 2
    assert {each.failures for each in read_memory(settings.supervisor_dir).attempts.values()} == {1}


def raising(slot: Slot, settings: Settings) -> list[str]:
    raise TypeError("an argument too many")


def test_ticks_that_raise_are_a_problem_an_alert_and_no_watchdog_signal(
    data_dir: Path, clock: Clock, alarm: Alarm, monkeypatch, tmp_path: Path
) -> None:
    settings = settings_of(data_dir, ALERT_WEBHOOK_URL=alarm.url, ALERT_PING_URL=alarm.url)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)
        monkeypatch.setitem(os.environ, "NOTIFY_SOCKET", str(tmp_path / "notify"))
        began = clock.now
        for _ in range(3):
            with pytest.raises(TypeError):
                once(settings, clock, raising, is_supervised=True)
            clock.forward(minutes=1)
        with pytest.raises(BlockingIOError):
            systemd.recv(100)
        found = read_heartbeat(settings.supervisor_dir)
        assert found is not None and found.is_failing and found.succeeded_at is None
        assert (found.failures, found.failing_since, found.began_at) == (3, began, None)
        problems = {problem.key: problem for problem in take_status(settings, clock.now).problems}
        assert problems["supervisor-failing"].what.startswith(
            "TypeError: an argument too many: 3 ticks of the supervisor"
        )
        assert health(settings, clock.now)[0] == 503 and alarm.pings == 0
        assert [alert["alert"] for alert in alarm.received].count("supervisor-failing") == 1
        for _ in range(2):
            once(settings, clock, quick, is_supervised=True)
            clock.forward(minutes=1)
        assert systemd.recv(100) == b"WATCHDOG=1" and alarm.pings == 2
    found = read_heartbeat(settings.supervisor_dir)
    assert found is not None and (found.failures, found.failing_since, found.error) == (0, None, "")
    assert found.succeeded_at == clock.now - timedelta(minutes=1)
    events = [alert["event"] for alert in alarm.received if alert["alert"] == "supervisor-failing"]
    assert events == ["raised", "resolved"]


def test_ticks_that_are_killed_count_as_failed_and_signals_do_not(data_dir: Path, clock: Clock) -> None:
    settings = settings_of(data_dir)
    (data_dir / "mode").write_text("stuck")
    for number, failures in ((signal.SIGTERM, 0), (signal.SIGKILL, 0), (signal.SIGKILL, 1)):
        process = start_tick(data_dir, clock)
        until(lambda: is_running(data_dir), "the run is under way")
        process.send_signal(number)
        process.communicate(timeout=60)
        for run in Journal(data_dir / "runs.sqlite").runs(10, status=RunStatus.RUNNING):
            os.killpg(os.getpgid(run.pid), signal.SIGKILL)
        until(lambda: not is_running(data_dir), "the run has ended")
        found = read_heartbeat(settings.supervisor_dir)
        assert found is not None and found.failures == failures
        (settings.supervisor_dir / "memory.json").unlink(missing_ok=True)
    (data_dir / "mode").write_text("done")
    tick(settings, clock, quick)
    found = read_heartbeat(settings.supervisor_dir)
    assert found is not None and found.failures == 0 and found.succeeded_at == clock.now


def test_a_loop_goes_on_after_a_tick_that_raises(data_dir: Path, clock: Clock) -> None:
    ran: list[object] = []
    commands = iter((raising, quick, quick))
    run_loop(
        settings_of(data_dir),
        ran.append,
        ticks=2,
        clock=clock,
        command=lambda slot, settings: next(commands)(slot, settings),
        sleep=lambda pause_s: None,
    )
    assert len(ran) == 1


def test_a_rehearsal_lists_due_slots_and_changes_nothing(data_dir: Path, clock: Clock, alarm: Alarm) -> None:
    settings = settings_of(data_dir, ALERT_WEBHOOK_URL=alarm.url, ALERT_PING_URL=alarm.url)
    before = {path: path.stat().st_mtime_ns for path in data_dir.rglob("*")}
    found = rehearse(settings, clock)
    assert [slot.pipeline for slot, _ in found.due] == ["run-all", "export_serving"]
    assert {path: path.stat().st_mtime_ns for path in data_dir.rglob("*")} == before
    assert (alarm.received, alarm.pings) == ([], 0)


def test_a_rehearsal_fails_where_a_tick_would(data_dir: Path, clock: Clock, monkeypatch) -> None:
    with pytest.raises(TypeError):
        rehearse(settings_of(data_dir), clock, raising)
    monkeypatch.setattr("ops.supervisor.housekeeping.clean_up_if_due", raising)
    with pytest.raises(TypeError):
        rehearse(settings_of(data_dir), clock)


def test_a_stuck_run_of_a_killed_supervisor_is_ended_by_the_next(data_dir: Path, clock: Clock) -> None:
    settings = settings_of(data_dir)
    (data_dir / "mode").write_text("stuck")
    first = start_tick(data_dir, clock)
    until(lambda: is_running(data_dir), "the run is under way")
    first.kill()
    first.communicate()
    assert tick(settings, Clock(utc_now()), quick).ran == () and is_running(data_dir)
    late = Clock(utc_now() + settings.supervision.deadline)
    late.forward(seconds=5)
    tick(settings, late, quick)
    until(lambda: not is_running(data_dir), "the stuck run is gone")
    assert scheduled(data_dir)[0][2] == "interrupted"


def test_killed_anywhere_every_slot_has_exactly_one_success(data_dir: Path, clock: Clock) -> None:
    rng = random.Random(11)
    (data_dir / "mode").write_text("takes 0.1")
    for _ in range(10):
        process = start_tick(data_dir, clock)
        time.sleep(rng.uniform(0.1, 1.0))
        process.kill()
        process.communicate()
        clock.forward(hours=rng.choice([0, 2, 24]))
    clock.forward(minutes=61)
    settings, day = settings_of(data_dir), f"{clock.now:%Y-%m-%d}"

    def successes() -> list[tuple[str, str]]:
        return [(pipeline, trigger) for pipeline, trigger, status in scheduled(data_dir) if status == "done"]

    def is_caught_up() -> bool:
        tick(settings, clock, quick)
        return {pipeline for pipeline, trigger in successes() if day in trigger} == {"run-all", "export_serving"}

    until(is_caught_up, "what was left behind has ended, and everything of the day has run")
    assert tick(settings, clock, quick).ran == ()
    assert set(Counter(successes()).values()) == {1}


def test_nothing_begins_without_free_space(data_dir: Path, clock: Clock) -> None:
    settings = settings_of(data_dir, MATERIA_MIN_FREE_MB=str(10**9))
    ticked = tick(settings, clock, quick)
    assert {outcome for _, outcome in ticked.ran} == {"not started: too little free disk space"}
    assert scheduled(data_dir) == []
    assert "disk-full" in {problem.key for problem in take_status(settings, clock.now).problems}


def test_without_a_journal_nothing_runs_and_an_alert_is_sent(data_dir: Path, clock: Clock) -> None:
    with closing(sqlite3.connect(data_dir / "runs.sqlite")) as journal:
        journal.execute("PRAGMA user_version = 1000")  # of a newer Materia: intact, and not ours to remove
    settings = settings_of(data_dir)
    assert tick(settings, clock, quick).ran == ()
    assert "journal-broken" in read_memory(settings.supervisor_dir).alerts


def test_a_damaged_journal_is_set_aside_and_what_is_due_runs(data_dir: Path, clock: Clock) -> None:
    (data_dir / "runs.sqlite").write_bytes(b"broken" * 1000)
    settings = settings_of(data_dir)
    ran = tick(settings, clock, quick).ran
    assert [(slot.pipeline, outcome) for slot, outcome in ran] == [("run-all", "done"), ("export_serving", "done")]
    (aside,) = (data_dir / "quarantine").iterdir()
    assert aside.name.endswith("-runs.sqlite") and aside.read_bytes() == b"broken" * 1000


def test_a_damaged_memory_is_replaced_by_an_empty_one(data_dir: Path, clock: Clock) -> None:
    settings = settings_of(data_dir)
    tick(settings, clock, quick)
    memory_path(settings.supervisor_dir).write_text("{")
    tick(settings, clock, quick)
    assert json.loads(memory_path(settings.supervisor_dir).read_text())["attempts"] == {}


def test_a_due_slot_is_run_with_just_run_all_and_its_secrets(data_dir: Path, clock: Clock, monkeypatch) -> None:

    monkeypatch.setenv("GITLAB_READ_TOKEN", "glpat-Canary0123456789")
    settings = settings_of(data_dir, MATERIA_ESC_ENVIRONMENT="beanflows/prod")
    slot = Slot(clock.now, "run-all")
    command = command_of(slot, settings)
    assert command[:4] == ["esc", "run", "beanflows/prod", "--"]
    assert Path(command[4]).name == "just" and command[5:] == ["run-all", "--trigger", slot.trigger]
    assert "GITLAB_READ_TOKEN" not in environ_of(settings)


def test_weeks_of_ticks_leave_memory_and_file_handles_flat(data_dir: Path, clock: Clock) -> None:
    """Four weeks at three hours a tick, every slot run. A leak takes memory in each of the last three."""
    settings, scrubs = settings_of(data_dir), [clock()]
    process = psutil.Process()

    def ticks(count: int) -> None:
        def sleep(_pause_s: float) -> None:
            record = read_record(settings)
            if record.verified_at != scrubs[-1]:  # the scrub's process dated it by the machine's clock
                scrubs.append(clock())
                write_record(settings, replace(record, verified_at=clock(), attempted_at=clock()))
            clock.forward(hours=3)

        run_loop(settings, lambda ticked: None, ticks=count, clock=clock, command=quick, sleep=sleep)
        clock.forward(hours=3)

    before = signal.getsignal(signal.SIGTERM)
    try:
        ticks(7 * 8)
        files, threads, rss_bytes = process.num_fds(), process.num_threads(), [process.memory_info().rss]
        for _ in range(3):
            ticks(7 * 8)
            rss_bytes.append(process.memory_info().rss)
    finally:
        signal.signal(signal.SIGTERM, before)
    # Fewer are no leak: handles of earlier tests in this process may be closed meanwhile.
    assert process.num_fds() <= files and process.num_threads() <= threads
    assert min(after - before for before, after in itertools.pairwise(rss_bytes)) < 1_000_000
    done = [entry for entry in scheduled(data_dir) if entry[2] == RunStatus.DONE]
    assert len(done) == len(set(done)) >= 2 * 28
    assert len(scrubs[1:]) == 3, "one a week"
