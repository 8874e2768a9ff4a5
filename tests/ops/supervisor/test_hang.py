"""Ticks that hang, in processes of their own: each is ended, counted as failed and reported; the loop goes on."""

import subprocess
import sys
import time
from pathlib import Path

from ops.config.settings import PROJECT_DIR
from ops.health.heartbeat import read_heartbeat
from ops.supervisor.hang import note_progress
from tests.ops.supervisor.conftest import Alarm, settings_of

HANGING = """
import sys, time
from dataclasses import replace
from pathlib import Path
from ops.supervisor.loop import run
from tests.ops.supervisor.conftest import quick, settings_of

data_dir, webhook = Path(sys.argv[1]), sys.argv[2]
settings = settings_of(data_dir, ALERT_WEBHOOK_URL=webhook)
silent_s = 600.0 if (data_dir / "healed").exists() else 1.0
settings = replace(settings, supervision=replace(settings.supervision, tick_silent_s=silent_s, tick_s=0.1))

def command(slot, settings):
    if not (data_dir / "healed").exists():
        time.sleep(600)
    return quick(slot, settings)

run(settings, print, ticks=int(sys.argv[3]), command=command)
"""


def run_ticks(data_dir: Path, webhook: str, ticks: int) -> None:
    """Run so many ticks in a process of its own."""
    command = [sys.executable, "-c", HANGING, data_dir, webhook, str(ticks)]
    subprocess.run(command, cwd=PROJECT_DIR, check=True, timeout=100, capture_output=True)


def test_a_tick_that_hangs_is_ended_counted_and_reported_and_the_next_one_runs(data_dir: Path, alarm: Alarm) -> None:
    run_ticks(data_dir, alarm.url, 3)
    supervisor_dir = settings_of(data_dir).supervisor_dir
    heartbeat = read_heartbeat(supervisor_dir)
    assert heartbeat is not None and heartbeat.failures == 3
    assert heartbeat.error.startswith("TickHungError: no progress for 1 s at ")
    raised = [each["what"] for each in alarm.received if each["alert"] == "supervisor-failing"]
    assert len(raised) == 1 and "no progress for 1 s" in raised[0]
    (data_dir / "healed").touch()
    run_ticks(data_dir, alarm.url, 2)
    assert [each["event"] for each in alarm.received if each["alert"] == "supervisor-failing"] == ["raised", "resolved"]


def test_without_a_limit_progress_starts_no_timer() -> None:
    note_progress()
    time.sleep(0.1)
