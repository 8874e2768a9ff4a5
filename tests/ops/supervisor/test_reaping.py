"""A tick destroys what workers left behind, in bounded time, and a provider in trouble fails no tick."""

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ops.health.memory import read_memory
from ops.health.status import take_status
from ops.supervisor import reaping
from ops.supervisor.tick import tick
from ops.workers.labels import Labels
from tests.ops.supervisor.conftest import Alarm, Clock, quick, settings_of
from tests.support.fake_hetzner import TOKEN, FakeHetzner


@pytest.fixture
def hetzner(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHetzner]:
    """A provider whose credentials are in the environment."""
    with FakeHetzner() as fake:
        monkeypatch.setenv("HETZNER_TOKEN", TOKEN)
        monkeypatch.setenv("HETZNER_API_URL", fake.url)
        yield fake
        assert fake.violations == []


def leave(hetzner: FakeHetzner, name: str, age: timedelta) -> None:
    """A worker of another owner that was created so long ago, for an hour."""
    labels = Labels("somebody-abc123", None, datetime.now(UTC).replace(microsecond=0) - age, timedelta(hours=1), "k")
    hetzner.foreign(name, labels=labels.as_labels())


def test_a_tick_reaps_what_outlived_its_time_and_nothing_else(
    hetzner: FakeHetzner, data_dir: Path, clock: Clock
) -> None:
    leave(hetzner, "overdue", timedelta(hours=3))
    leave(hetzner, "working", timedelta(minutes=3))
    hetzner.foreign("database")
    settings = settings_of(data_dir)
    tick(settings, clock, quick)
    assert [each["name"] for each in hetzner.state.everything] == ["working", "database"]
    asked = len(hetzner.requests)
    tick(settings, clock, quick)
    assert len(hetzner.requests) == asked
    clock.forward(minutes=5)
    tick(settings, clock, quick)
    assert len(hetzner.requests) > asked


def test_an_api_that_is_down_is_an_alert_once_and_the_tick_goes_on(
    hetzner: FakeHetzner, data_dir: Path, clock: Clock, alarm: Alarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HETZNER_TOKEN", "another-token-3f9d")
    settings = settings_of(data_dir, ALERT_WEBHOOK_URL=alarm.url)
    assert [outcome for _, outcome in tick(settings, clock, quick).ran] == ["done", "done"]
    clock.forward(minutes=6)
    tick(settings, clock, quick)
    (alert,) = [each for each in alarm.received if each["alert"] == "workers-not-reaped"]
    assert "check HETZNER_TOKEN" in alert["what"] and "another-token" not in str(alarm.received)
    monkeypatch.setenv("HETZNER_TOKEN", TOKEN)
    clock.forward(minutes=6)
    tick(settings, clock, quick)
    assert [each["event"] for each in alarm.received if each["alert"] == "workers-not-reaped"] == ["raised", "resolved"]


def test_an_api_that_hangs_is_given_up_in_time(data_dir: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HETZNER_TOKEN", TOKEN)
    settings = settings_of(data_dir)
    settings.supervisor_dir.mkdir(parents=True)
    beats: list[float] = []
    hang = [sys.executable, "-c", "import time; time.sleep(60)"]
    started_at = time.monotonic()
    reaping.reap(settings, clock(), lambda: beats.append(time.monotonic()), lambda _: hang, deadline_s=0.5)
    assert time.monotonic() - started_at < 30
    (problem,) = [each for each in take_status(settings, clock()).problems if each.key == "workers-not-reaped"]
    assert "it took too long" in problem.what


def test_without_credentials_no_provider_is_called(
    data_dir: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HETZNER_TOKEN", raising=False)
    settings = settings_of(data_dir)
    tick(settings, clock, quick)
    assert read_memory(settings.supervisor_dir).reaping is None
    assert not (settings.log_dir / "scheduled-reap.log").exists()
