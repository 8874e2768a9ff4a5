"""A disk that fills at once and stays full for a day: one alert, and everything works on when there is space again."""

import os
import subprocess
from pathlib import Path

import pytest

from ops.config.settings import Settings
from ops.health.heartbeat import read_heartbeat
from ops.health.memory import read_memory
from ops.health.state_file import write_state
from ops.journal.journal import Journal
from ops.journal.run import RunStatus, utc_now
from ops.supervisor.tick import tick
from tests.ops.conftest import serve
from tests.ops.supervisor.conftest import Alarm, Clock, quick, settings_of
from tests.support.command_line import MATERIA
from tests.support.small_disk import fill, small_disk

ONE_MB = {"MATERIA_MIN_FREE_MB": "1"}


def events(alarm: Alarm) -> list[str]:
    return [each["event"] for each in alarm.received if each["alert"] == "disk-full"]


def succeeded(settings: Settings) -> int:
    return len(Journal(settings.journal_path).runs(100, status=RunStatus.DONE))


def test_a_disk_that_is_full_for_a_day_is_one_alert_and_heals(tmp_path: Path, alarm: Alarm) -> None:
    with small_disk(tmp_path / "disk", 20 << 20) as mounted:
        if not mounted:
            pytest.skip("this machine lets nothing be mounted; run it as root")
        data_dir = tmp_path / "disk" / "data"
        data_dir.mkdir()
        serve(data_dir / "serving.duckdb", 7, released_on=utc_now().date())
        settings = settings_of(data_dir, ALERT_WEBHOOK_URL=alarm.url, **ONE_MB)
        clock = Clock(utc_now().replace(hour=4, minute=0, second=0, microsecond=0))
        tick(settings, clock, quick)
        before = succeeded(settings)
        assert before == 2 and events(alarm) == []
        fill(tmp_path / "disk" / "filling")
        for _ in range(24):
            clock.forward(hours=1)
            tick(settings, clock, quick)
        assert events(alarm) == ["raised"] and succeeded(settings) == before
        heartbeat = read_heartbeat(settings.supervisor_dir)
        assert heartbeat is not None and heartbeat.succeeded_at == clock.now and heartbeat.failures == 0
        assert "disk-full" in read_memory(settings.supervisor_dir).alerts
        (tmp_path / "disk" / "filling").unlink()
        tick(settings, clock, quick)
        assert events(alarm) == ["raised", "resolved"] and succeeded(settings) == before + 2
        drafts = [path.name for path in settings.supervisor_dir.iterdir() if path.name.startswith(".")]
        assert drafts == []


def test_the_tick_of_a_full_disk_exits_with_0(tmp_path: Path, alarm: Alarm) -> None:
    """Failed ticks would make supervisor.sh refuse a good commit."""
    with small_disk(tmp_path / "disk", 20 << 20) as mounted:
        if not mounted:
            pytest.skip("this machine lets nothing be mounted; run it as root")
        data_dir = tmp_path / "disk" / "data"
        data_dir.mkdir()
        serve(data_dir / "serving.duckdb", 7, released_on=utc_now().date())
        settings = settings_of(data_dir, ALERT_WEBHOOK_URL=alarm.url, **ONE_MB)
        tick(settings, Clock(utc_now()), quick)
        fill(tmp_path / "disk" / "filling")
        environ = os.environ | ONE_MB | {"MATERIA_DATA_DIR": str(data_dir), "ALERT_WEBHOOK_URL": alarm.url}
        command = [MATERIA, "supervisor", "tick"]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert events(alarm) == ["raised"]


def test_state_that_no_longer_fits_is_left_as_it_is(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1 << 20) as mounted:
        if not mounted:
            pytest.skip("this machine lets nothing be mounted; run it as root")
        path = tmp_path / "disk" / "state.json"
        write_state(path, "{}")
        fill(tmp_path / "disk" / "filling")
        with pytest.raises(OSError, match="No space left"):
            write_state(path, "[" + "1," * 20_000 + "1]")
        assert path.read_text().strip() == "{}"
        write_state(path, "[1]")
        assert path.read_text().strip() == "[1]"


def test_a_run_needs_space_for_a_generation_as_large_as_the_served_one(data_dir: Path) -> None:
    from ops.health.disk import disk_space

    settings = settings_of(data_dir, **ONE_MB)
    size_bytes = (data_dir / "serving.duckdb").stat().st_size
    assert disk_space(settings).needed_bytes == 1_000_000 + size_bytes
    assert disk_space(settings_of(data_dir)).needed_bytes == 0
