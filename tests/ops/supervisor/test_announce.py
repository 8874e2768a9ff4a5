"""A newly served release is announced once, with its headline."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from dataflows.serving.store import ServingStore
from ops.config.settings import Settings
from ops.health.memory import Memory, read_memory, write_memory
from ops.journal.run import utc_now
from ops.supervisor.announce import announce
from tests.ops.supervisor.conftest import Alarm, settings_of
from tests.support.served_demo import ServedDemo

BEFORE = date(1999, 1, 12)


@pytest.fixture
def host(served_demo: ServedDemo, tmp_path: Path, alarm: Alarm) -> Settings:
    """A host whose last announcement is long ago."""
    settings = settings_of(served_demo.copy(tmp_path / "demo"), ALERT_WEBHOOK_URL=alarm.url)
    settings.supervisor_dir.mkdir(parents=True)
    write_memory(settings.supervisor_dir, Memory(announced=BEFORE))
    return settings


def call(settings: Settings, after_h: int = 0) -> None:
    announce(settings, utc_now() + timedelta(hours=after_h), lambda: None)


def test_a_release_is_announced_once_and_not_after_a_rollback(host: Settings, alarm: Alarm) -> None:
    store = ServingStore(host.serving_path)
    newest = store.served()
    for _ in range(2):
        call(host)
    [sent] = alarm.received
    assert sent["event"] == "released" and sent["released_on"] == str(newest.newest_released_on)
    assert f"psd_alldata {newest.newest_month} is served: " in sent["text"] and "%" in sent["text"]
    store.rollback()
    call(host)
    assert len(alarm.received) == 1
    assert read_memory(host.supervisor_dir).announced == newest.newest_released_on


def test_a_webhook_that_is_down_gets_it_later(host: Settings, alarm: Alarm) -> None:
    alarm.is_down = True
    call(host)
    assert (alarm.received, read_memory(host.supervisor_dir).announced) == ([], BEFORE)
    assert read_memory(host.supervisor_dir).webhook.failures == 1
    alarm.is_down = False
    call(host)
    assert len(alarm.received) == 1 and read_memory(host.supervisor_dir).webhook is None


def test_a_new_host_announces_what_comes_next_only(host: Settings, alarm: Alarm) -> None:
    write_memory(host.supervisor_dir, Memory())
    call(host)
    assert alarm.received == [] and read_memory(host.supervisor_dir).announced is not None


def test_without_a_webhook_nothing_is_kept_for_later(host: Settings, alarm: Alarm) -> None:
    silent = replace(host, supervision=replace(host.supervision, alert_webhook_url=None))
    call(silent)
    call(host)
    assert alarm.received == []
