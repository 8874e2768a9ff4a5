"""The supervisor scrubs weekly, out of the way of what is due, and what goes wrong is a problem."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from dataflows.serving.store import ServingStore
from ops.config.settings import Settings
from ops.health.status import take_status
from ops.integrity.record import read_record
from ops.supervisor.scrubbing import scrub
from tests.ops.supervisor.conftest import Alarm, Clock, settings_of
from tests.support.command_line import MATERIA, materia


@pytest.fixture
def settings(data_dir: Path) -> Settings:
    found = settings_of(data_dir)
    found.supervisor_dir.mkdir()
    return found


def scrubbed(settings: Settings, clock: Clock, *command: object) -> bool:
    """Whether a tick at that time starts the command, by default the real one, on this data directory."""
    started = []

    def asked(_: Settings) -> Sequence[str]:
        started.append(True)
        return [*map(str, command)] or [str(MATERIA), "scrub"]

    scrub(settings, clock(), lambda: None, asked)
    return bool(started)


def keys(settings: Settings, clock: Clock) -> set[str]:
    return {each.key for each in take_status(settings, clock()).problems}


def test_everything_is_verified_once_a_week_and_damage_is_a_problem(settings: Settings, clock: Clock) -> None:
    assert scrubbed(settings, clock) and read_record(settings).verified_at is not None
    clock.forward(days=6)
    assert not scrubbed(settings, clock)
    served = ServingStore(settings.serving_path).path(7)
    with served.open("r+b") as file:
        file.seek(-100_000, 2)  # in a block of rows
        file.write(b"damaged")
    assert "serving-damaged" not in keys(settings, clock)
    clock.forward(days=2)
    assert scrubbed(settings, clock)
    assert "serving-damaged" in keys(settings, clock)


def test_a_scrub_waits_while_a_run_is_due_soon(settings: Settings, clock: Clock) -> None:
    clock.now = clock.now.replace(hour=1, minute=55)
    assert not scrubbed(settings, clock)
    clock.now = clock.now.replace(hour=2, minute=30)
    assert scrubbed(settings, clock)


def test_a_scrub_that_fails_is_a_problem_and_is_tried_again_after_six_hours(settings: Settings, clock: Clock) -> None:
    fails = (sys.executable, "-c", "import sys; print('the bucket did not answer'); sys.exit(1)")
    assert scrubbed(settings, clock, *fails)
    (problem,) = [each for each in take_status(settings, clock()).problems if each.key == "scrub-failed"]
    assert problem.what == "the scrub could not read everything: the bucket did not answer"
    assert not scrubbed(settings, clock)
    clock.forward(hours=6)
    assert scrubbed(settings, clock) and "scrub-failed" not in keys(settings, clock)


def test_a_scrub_that_meets_a_run_is_tried_at_the_next_tick(settings: Settings, clock: Clock) -> None:
    locked = (sys.executable, "-c", "import sys; sys.exit(4)")
    assert scrubbed(settings, clock, *locked) and scrubbed(settings, clock, *locked)
    assert "scrub-failed" not in keys(settings, clock)


def test_without_stored_files_no_scrub_runs(settings: Settings, clock: Clock) -> None:
    settings.serving_path.unlink()
    for path in settings.data_dir.glob("serving-*"):
        path.unlink()
    shutil.rmtree(settings.landing_dir, ignore_errors=True)
    assert not scrubbed(settings, clock)


def test_a_test_alert_is_sent_or_its_failure_is_reported(data_dir: Path, alarm: Alarm) -> None:
    missing = materia(data_dir, "supervisor", "test-alert")
    assert missing.returncode == 2 and "ALERT_WEBHOOK_URL is not set" in missing.stderr
    taken = materia(data_dir, "supervisor", "test-alert", ALERT_WEBHOOK_URL=alarm.url)
    assert (taken.returncode, taken.stdout) == (0, "the webhook accepted the test alert\n")
    (alert,) = alarm.received
    assert (alert["alert"], alert["severity"], alert["what"]) == ("test", "test", "this is a test alert")
    alarm.is_down = True
    refused = materia(data_dir, "supervisor", "test-alert", ALERT_WEBHOOK_URL=alarm.url)
    assert refused.returncode == 1 and "did not accept the test alert" in refused.stderr
