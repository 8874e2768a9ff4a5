"""Sends the headline of a newly served release to ALERT_WEBHOOK_URL, once."""

import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

from dataflows.errors import ServingError
from dataflows.serving.store import ServingStore
from ops.config.settings import Settings
from ops.health import alerts
from ops.health.memory import read_memory, write_memory
from ops.supervisor.command import run_logged

DEADLINE_S = 120.0


def announce(settings: Settings, now: datetime, on_alive: Callable[[], None]) -> None:
    """Announce the newest served release unless that was done; a webhook that fails is called again later.

    A memory without an announcement takes the served release as announced: after a loss nothing is sent twice.
    """
    try:
        served = ServingStore(settings.serving_path).served()
    except ServingError:
        return  # `take_status` reports it
    if served is None or served.newest_released_on is None:
        return
    memory, day = read_memory(settings.supervisor_dir), served.newest_released_on
    announced: date | None = day
    url = settings.supervision.alert_webhook_url
    if memory.announced is not None and day <= memory.announced:
        return
    if url is not None and memory.announced is not None:
        if not alerts.may_call(memory.webhook, now):
            return
        text = _headline(settings, on_alive) or f"{settings.dataset} of {day} is served; `materia releases show` fails"
        is_accepted = alerts.post(url, {"text": text, "event": "released", "released_on": day.isoformat()})
        memory = replace(memory, webhook=alerts.after_call(memory.webhook, is_accepted, now))
        announced = day if is_accepted else memory.announced
    write_memory(settings.supervisor_dir, replace(memory, announced=announced))


def _headline(settings: Settings, on_alive: Callable[[], None]) -> str | None:
    """Computed in a process of its own: DuckDB's memory must not stay in the supervisor. None if that fails."""
    command = [str(Path(sys.executable).parent / "materia"), "releases", "show", "--headline"]
    done = run_logged(settings, "headline", command, DEADLINE_S, on_alive)
    return done.last_line if done.exit_code == 0 else None
