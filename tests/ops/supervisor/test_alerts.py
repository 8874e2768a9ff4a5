"""Alerts reach a webhook once, and once more when they are over."""

import logging
from datetime import timedelta
from pathlib import Path

from ops import alerts
from ops.journal import Journal
from ops.run import RunStatus, utc_now
from ops.status import take_status
from ops.supervisor.memory import Memory, recall
from ops.supervisor.tick import tick
from tests.ops.conftest import serve
from tests.ops.supervisor.conftest import Alarm, Clock, quick, settings_of


def told(alarm: Alarm) -> list[tuple[str, str]]:
    return [(each["event"], each["alert"]) for each in alarm.told]


def record(data_dir: Path, pipeline: str, status: RunStatus) -> None:
    with Journal(data_dir / "runs.sqlite") as journal:
        run = journal.begin(pipeline)
        journal.finish(run.id, status, error="no luck" if status is RunStatus.FAILED else None)


def test_each_problem_is_told_once_and_once_more_when_it_is_over(data_dir: Path, alarm: Alarm) -> None:
    settings = settings_of(data_dir, ALERT_WEBHOOK_URL=alarm.url)
    record(data_dir, "extract", RunStatus.DONE)
    record(data_dir, "transform", RunStatus.FAILED)
    memory = Memory()
    for _ in range(3):
        memory = alerts.tell(settings, take_status(settings, utc_now()), memory)
    record(data_dir, "transform", RunStatus.FAILED)  # another run, the same problem
    memory = alerts.tell(settings, take_status(settings, utc_now()), memory)
    assert told(alarm) == [("raised", "failed-transform")]
    assert "no luck" in alarm.told[0]["text"] and alarm.told[0]["next_step"].startswith("materia runs show")
    record(data_dir, "transform", RunStatus.DONE)
    for _ in range(2):
        memory = alerts.tell(settings, take_status(settings, utc_now()), memory)
    assert told(alarm) == [("raised", "failed-transform"), ("resolved", "failed-transform")]
    assert memory.alerts == {}


def test_absence_is_told_too(data_dir: Path, alarm: Alarm) -> None:
    settings = settings_of(data_dir, ALERT_WEBHOOK_URL=alarm.url, MATERIA_STALE_AFTER_H="5")
    record(data_dir, "extract", RunStatus.DONE)
    serve(data_dir / "serving.duckdb", 8, released_on=utc_now().date() - timedelta(days=90))
    alerts.tell(settings, take_status(settings, utc_now() + timedelta(hours=6)), Memory())
    assert {key for _, key in told(alarm)} == {"release-stale", "extract-stale"}


def test_a_webhook_that_was_down_is_told_later_once(data_dir: Path, alarm: Alarm) -> None:
    settings = settings_of(data_dir, ALERT_WEBHOOK_URL=alarm.url)
    record(data_dir, "extract", RunStatus.DONE)
    record(data_dir, "transform", RunStatus.FAILED)
    alarm.is_down = True
    memory = alerts.tell(settings, take_status(settings, utc_now()), Memory())
    memory = alerts.tell(settings, take_status(settings, utc_now()), memory)
    alarm.is_down = False
    for _ in range(2):
        memory = alerts.tell(settings, take_status(settings, utc_now()), memory)
    record(data_dir, "transform", RunStatus.DONE)
    alarm.is_down = True
    memory = alerts.tell(settings, take_status(settings, utc_now()), memory)
    alarm.is_down = False
    memory = alerts.tell(settings, take_status(settings, utc_now()), memory)
    assert told(alarm) == [("raised", "failed-transform"), ("resolved", "failed-transform")] and memory.alerts == {}


def test_what_was_over_before_the_webhook_heard_of_it_is_not_told(data_dir: Path, alarm: Alarm) -> None:
    settings = settings_of(data_dir, ALERT_WEBHOOK_URL=alarm.url)
    record(data_dir, "extract", RunStatus.DONE)
    record(data_dir, "transform", RunStatus.FAILED)
    alarm.is_down = True
    memory = alerts.tell(settings, take_status(settings, utc_now()), Memory())
    alarm.is_down = False
    record(data_dir, "transform", RunStatus.DONE)
    assert alerts.tell(settings, take_status(settings, utc_now()), memory).alerts == {} and alarm.told == []


def test_a_restart_between_two_ticks_repeats_nothing(data_dir: Path, clock: Clock, alarm: Alarm) -> None:
    settings = settings_of(data_dir, ALERT_WEBHOOK_URL=alarm.url, ALERT_PING_URL=alarm.url)
    (data_dir / "mode").write_text("failing")
    for _ in range(3):
        tick(settings, clock, quick)
        clock.forward(minutes=6)
    assert len(told(alarm)) == len(set(told(alarm))) and ("raised", "failed-run-all") in told(alarm)
    assert alarm.pings == 3
    assert all(each.is_told for each in recall(settings.supervisor_dir).alerts.values())


def test_no_address_is_written_anywhere(data_dir: Path, clock: Clock, alarm: Alarm, caplog, monkeypatch) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("ALERT_WEBHOOK_URL", alarm.url)
    settings = settings_of(data_dir, ALERT_WEBHOOK_URL=alarm.url, ALERT_PING_URL="http://127.0.0.1:9/p1ng-secret")
    alarm.is_down = True
    (data_dir / "mode").write_text("failing")
    tick(settings, clock, quick)
    assert "did not take it" in caplog.text
    written = [path.read_bytes() for path in data_dir.rglob("*") if path.is_file()]
    for secret in ("s3cret-path", "p1ng-secret"):
        assert secret not in caplog.text and secret not in repr(settings)
        assert not any(secret.encode() in text for text in written)
