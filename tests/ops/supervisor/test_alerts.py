"""Alerts reach a webhook once, and once more when they are over."""

import logging
import os
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import create_server

import pytest

from dataflows.source.release import Month
from ops.health import alerts
from ops.health.memory import Alert, Memory, read_memory
from ops.health.status import Problem, Severity, Status, take_status
from ops.journal.journal import Journal
from ops.journal.run import RunStatus, utc_now
from ops.supervisor.tick import tick
from tests.ops.conftest import serve
from tests.ops.supervisor.conftest import Alarm, Clock, quick, settings_of


def events(alarm: Alarm) -> list[tuple[str, str]]:
    return [(each["event"], each["alert"]) for each in alarm.received]


def record(data_dir: Path, pipeline: str, status: RunStatus) -> None:
    with Journal(data_dir / "runs.sqlite") as journal:
        run = journal.begin(pipeline)
        journal.finish(run.id, status, error="no luck" if status is RunStatus.FAILED else None)


def test_each_problem_is_sent_once_and_its_resolution_once(data_dir: Path, alarm: Alarm) -> None:
    settings = settings_of(data_dir, ALERT_WEBHOOK_URL=alarm.url)
    record(data_dir, "extract", RunStatus.DONE)
    record(data_dir, "transform", RunStatus.FAILED)
    memory = Memory()
    for _ in range(3):
        memory = alerts.send_alerts(settings, take_status(settings, utc_now()), memory)
    record(data_dir, "transform", RunStatus.FAILED)  # another run, the same problem
    memory = alerts.send_alerts(settings, take_status(settings, utc_now()), memory)
    assert events(alarm) == [("raised", "failed-transform")]
    assert "no luck" in alarm.received[0]["text"] and "`materia runs show" in alarm.received[0]["next_step"]
    record(data_dir, "transform", RunStatus.DONE)
    for _ in range(2):
        memory = alerts.send_alerts(settings, take_status(settings, utc_now()), memory)
    assert events(alarm) == [("raised", "failed-transform"), ("resolved", "failed-transform")]
    assert memory.alerts == {}


def test_a_stale_release_and_a_stale_extract_are_reported(data_dir: Path, alarm: Alarm) -> None:
    settings = settings_of(data_dir, ALERT_WEBHOOK_URL=alarm.url, MATERIA_STALE_AFTER_H="5")
    record(data_dir, "extract", RunStatus.DONE)
    serve(data_dir / "serving.duckdb", 8, released_on=utc_now().date() - timedelta(days=90))
    alerts.send_alerts(settings, take_status(settings, utc_now() + timedelta(hours=6)), Memory())
    assert {key for _, key in events(alarm)} == {"release-stale", "extract-stale"}


def test_a_webhook_that_was_down_gets_each_alert_later_once(data_dir: Path, alarm: Alarm) -> None:
    settings = settings_of(data_dir, ALERT_WEBHOOK_URL=alarm.url)
    record(data_dir, "extract", RunStatus.DONE)
    record(data_dir, "transform", RunStatus.FAILED)
    alarm.is_down = True
    memory = alerts.send_alerts(settings, take_status(settings, utc_now()), Memory())
    memory = alerts.send_alerts(settings, take_status(settings, utc_now()), memory)
    alarm.is_down = False
    for _ in range(2):
        memory = alerts.send_alerts(settings, take_status(settings, utc_now()), memory)
    record(data_dir, "transform", RunStatus.DONE)
    alarm.is_down = True
    memory = alerts.send_alerts(settings, take_status(settings, utc_now()), memory)
    alarm.is_down = False
    memory = alerts.send_alerts(settings, take_status(settings, utc_now()), memory)
    assert events(alarm) == [("raised", "failed-transform"), ("resolved", "failed-transform")] and memory.alerts == {}


def test_a_problem_resolved_before_it_was_sent_is_not_sent(data_dir: Path, alarm: Alarm) -> None:
    settings = settings_of(data_dir, ALERT_WEBHOOK_URL=alarm.url)
    record(data_dir, "extract", RunStatus.DONE)
    record(data_dir, "transform", RunStatus.FAILED)
    alarm.is_down = True
    memory = alerts.send_alerts(settings, take_status(settings, utc_now()), Memory())
    alarm.is_down = False
    record(data_dir, "transform", RunStatus.DONE)
    assert alerts.send_alerts(settings, take_status(settings, utc_now()), memory).alerts == {} and alarm.received == []


def test_a_restart_between_two_ticks_repeats_nothing(data_dir: Path, clock: Clock, alarm: Alarm) -> None:
    settings = settings_of(data_dir, ALERT_WEBHOOK_URL=alarm.url, ALERT_PING_URL=alarm.url)
    (data_dir / "mode").write_text("failing")
    for _ in range(3):
        tick(settings, clock, quick)
        clock.forward(minutes=6)
    assert len(events(alarm)) == len(set(events(alarm))) and ("raised", "failed-run-all") in events(alarm)
    assert alarm.pings == 3
    assert all(each.is_sent for each in read_memory(settings.supervisor_dir).alerts.values())


def test_no_address_is_written_anywhere(data_dir: Path, clock: Clock, alarm: Alarm, caplog, monkeypatch) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("ALERT_WEBHOOK_URL", alarm.url)
    settings = settings_of(data_dir, ALERT_WEBHOOK_URL=alarm.url, ALERT_PING_URL="http://127.0.0.1:9/p1ng-secret")
    alarm.is_down = True
    (data_dir / "mode").write_text("failing")
    tick(settings, clock, quick)
    assert "failed and is called again later" in caplog.text
    written = [path.read_bytes() for path in data_dir.rglob("*") if path.is_file()]
    for secret in ("s3cret-path", "p1ng-secret"):
        assert secret not in caplog.text and secret not in repr(settings)
        assert not any(secret.encode() in text for text in written)


CHECKED_AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
SINCE = datetime(2026, 11, 19, 3, tzinfo=UTC)


def problem(name: str, **changes: object) -> Problem:
    return replace(Problem(Severity.FAILED, f"{name} broke", SINCE, f"repair {name}", key=name), **changes)


def status_with(*problems: Problem) -> Status:
    return Status(CHECKED_AT, None, Month(2026, 11), (), problems)


def url_of(alarm: Alarm, tmp_path: Path):
    return settings_of(tmp_path, ALERT_WEBHOOK_URL=alarm.url)


def test_the_webhook_gets_the_problem_its_start_and_the_next_step(tmp_path: Path, alarm: Alarm) -> None:
    settings, host = url_of(alarm, tmp_path), os.uname().nodename
    memory = alerts.send_alerts(settings, status_with(problem("disk")), Memory())
    raised = {
        "text": f"materia on {host}: failed: disk broke (next: repair disk)",
        "event": "raised",
        "alert": "disk",
        "severity": "failed",
        "what": "disk broke",
        "next_step": "repair disk",
        "since": SINCE.isoformat(),
        "host": host,
    }
    assert alarm.received == [raised]
    assert memory.alerts == {"disk": Alert("failed", "disk broke", "repair disk", SINCE, is_sent=True)}
    assert alerts.send_alerts(settings, status_with(), memory).alerts == {}
    assert alarm.received[1] == raised | {"event": "resolved", "text": f"materia on {host}: resolved: disk broke"}


def test_without_a_webhook_an_alert_is_logged_once_and_counts_as_sent(tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.INFO)
    settings = settings_of(tmp_path)
    memory = alerts.send_alerts(settings, status_with(problem("disk", since=None)), Memory())
    assert memory.alerts["disk"] == Alert("failed", "disk broke", "repair disk", CHECKED_AT, is_sent=True)
    memory = alerts.send_alerts(settings, status_with(problem("disk", since=None)), memory)
    assert [record.message for record in caplog.records] == ["alert"]
    memory = alerts.send_alerts(settings, status_with(), memory)
    assert memory.alerts == {}
    assert [record.message for record in caplog.records] == ["alert", "resolved"]
    alerts.send_alerts(settings, status_with(), memory)
    assert len(caplog.records) == 2


def test_problems_without_a_key_are_distinguished_by_their_text(tmp_path: Path, alarm: Alarm) -> None:
    memory = alerts.send_alerts(
        url_of(alarm, tmp_path), status_with(problem("a", key=""), problem("b", key="")), Memory()
    )
    assert sorted(memory.alerts) == ["a broke", "b broke"]


def test_ten_alerts_are_sent_in_a_tick_and_the_rest_in_the_next(tmp_path: Path, alarm: Alarm) -> None:
    settings, status = url_of(alarm, tmp_path), status_with(*(problem(f"p{number:02}") for number in range(12)))
    memory = alerts.send_alerts(settings, status, Memory())
    assert [key for _, key in events(alarm)] == [f"p{number:02}" for number in range(10)]
    memory = alerts.send_alerts(settings, status, memory)
    assert [key for _, key in events(alarm)] == [f"p{number:02}" for number in range(12)]
    alerts.send_alerts(settings, status, memory)
    assert len(alarm.received) == 12


def test_a_webhook_that_refuses_is_asked_once_a_tick(tmp_path: Path, alarm: Alarm, caplog) -> None:
    alarm.is_down = True
    settings, status = url_of(alarm, tmp_path), status_with(problem("a"), problem("b"))
    memory = alerts.send_alerts(settings, status, Memory())
    refusals = [record for record in caplog.records if "failed and is called again later" in record.message]
    assert [(record.message.partition(" failed")[0], record.error) for record in refusals] == [
        ("the alert webhook", "HTTP 500")
    ]
    assert [each.is_sent for each in memory.alerts.values()] == [False, False]


def test_a_webhook_that_is_down_for_weeks_is_called_once_an_hour(tmp_path: Path, alarm: Alarm, caplog) -> None:
    alarm.is_down = True
    settings, status, memory = url_of(alarm, tmp_path), status_with(problem("a")), Memory()
    minutes = 2 * 24 * 60
    for minute in range(0, minutes, 5):
        memory = alerts.send_alerts(
            settings, replace(status, checked_at=CHECKED_AT + timedelta(minutes=minute)), memory
        )
    calls = [record for record in caplog.records if "failed and is called again later" in record.message]
    assert 45 <= len(calls) <= 60 and memory.webhook is not None
    alarm.is_down = False
    memory = alerts.send_alerts(
        settings, replace(status, checked_at=CHECKED_AT + timedelta(minutes=minutes + 60)), memory
    )
    assert events(alarm) == [("raised", "a")] and memory.webhook is None


def test_resolved_alerts_that_no_webhook_takes_are_bounded(tmp_path: Path, alarm: Alarm) -> None:
    alarm.is_down = True
    over = {f"w{n}": Alert("failed", "w", "x", SINCE + timedelta(minutes=n), True, True) for n in range(300)}
    memory = alerts.send_alerts(url_of(alarm, tmp_path), status_with(problem("disk")), Memory(alerts=over))
    assert len(memory.alerts) == alerts.MAX_RESOLVED + 1 and {"disk", "w299"} <= memory.alerts.keys()


def test_a_webhook_that_answers_a_byte_at_a_time_holds_no_tick(tmp_path: Path, caplog, monkeypatch) -> None:
    monkeypatch.setattr(alerts, "TIMEOUT_S", 0.5)
    from threading import Event, Thread

    ended = Event()
    with create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                while not ended.wait(0.1):
                    connection.sendall(b"x")

        serving = Thread(target=drip)
        serving.start()
        settings = settings_of(tmp_path, ALERT_WEBHOOK_URL=f"http://127.0.0.1:{listener.getsockname()[1]}/hook")
        began = time.monotonic()
        memory = alerts.send_alerts(settings, status_with(problem("disk")), Memory())
        took_s = time.monotonic() - began
        ended.set()
        serving.join(10)
    assert took_s < 5 and not memory.alerts["disk"].is_sent
    assert "no answer within 0.5 s" in [getattr(record, "error", "") for record in caplog.records]


def test_a_problem_that_returns_before_its_resolution_was_sent_is_not_sent_again(tmp_path: Path, alarm: Alarm) -> None:
    settings = url_of(alarm, tmp_path)
    memory = alerts.send_alerts(settings, status_with(problem("disk")), Memory())
    alarm.is_down = True
    memory = alerts.send_alerts(settings, status_with(), memory)
    assert memory.alerts["disk"].is_over and memory.alerts["disk"].is_sent
    alarm.is_down = False
    memory = alerts.send_alerts(settings, status_with(problem("disk")), memory)
    assert events(alarm) == [("raised", "disk")]
    assert memory.alerts["disk"].is_sent and not memory.alerts["disk"].is_over
    alerts.send_alerts(settings, status_with(), memory)
    assert events(alarm) == [("raised", "disk"), ("resolved", "disk")]


def test_an_alert_that_is_over_leaves_the_others_raised(tmp_path: Path, alarm: Alarm) -> None:
    settings = url_of(alarm, tmp_path)
    memory = alerts.send_alerts(settings, status_with(problem("disk"), problem("memory")), Memory())
    memory = alerts.send_alerts(settings, status_with(problem("memory")), memory)
    assert list(memory.alerts) == ["memory"]
    assert events(alarm) == [("raised", "disk"), ("raised", "memory"), ("resolved", "disk")]


def test_the_rest_of_the_memory_stays(tmp_path: Path) -> None:
    before = Memory(cleaned_at=SINCE)
    assert alerts.send_alerts(settings_of(tmp_path), status_with(problem("disk")), before).cleaned_at == SINCE


def test_a_secret_in_a_problem_does_not_reach_the_webhook(tmp_path: Path, alarm: Alarm, monkeypatch) -> None:
    monkeypatch.setenv("HETZNER_TOKEN", "t0ken-value")
    alerts.send_alerts(url_of(alarm, tmp_path), status_with(problem("disk", what="refused t0ken-value")), Memory())
    assert alarm.received[0]["what"] == "refused ***"


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", None])
def test_a_webhook_that_answers_nonsense_or_not_at_all_ends_no_tick(
    tmp_path: Path, caplog, monkeypatch, answer: bytes | None
) -> None:
    monkeypatch.setattr(alerts, "TIMEOUT_S", 0.2)
    from threading import Thread

    with create_server(("127.0.0.1", 0)) as listener:

        def serve_once() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                if answer is not None:
                    connection.sendall(answer)
                else:
                    connection.recv(65536)  # until the other side gives up

        listener.settimeout(10)
        serving = Thread(target=serve_once)
        serving.start()
        settings = settings_of(tmp_path, ALERT_WEBHOOK_URL=f"http://127.0.0.1:{listener.getsockname()[1]}/hook")
        memory = alerts.send_alerts(settings, status_with(problem("disk")), Memory())
        serving.join(10)
    assert not memory.alerts["disk"].is_sent
    assert "the alert webhook failed and is called again later" in caplog.text


def test_the_dead_mans_switch_is_asked_where_there_is_one(alarm: Alarm, caplog) -> None:
    alerts.ping(None)
    alerts.ping(alarm.url)
    assert alarm.pings == 1 and "failed and is called again later" not in caplog.text
    alarm.is_down = True
    alerts.ping(alarm.url)
    assert "the dead-man switch failed and is called again later" in caplog.text
