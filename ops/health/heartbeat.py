"""The supervisor's heartbeat: a small file with the last successful tick, the current failures, and what is running.

Cheap to read. Status, `/health`, the console and systemd's watchdog use it to judge the supervisor.
"""

import json
import os
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from dataflows.errors import JournalError
from ops.health.state_file import write_state

BEAT_EVERY_S = 15.0
"""How often the supervisor writes a heartbeat while it works or waits for a run."""

FAILING_AFTER = 2
"""Consecutive failed ticks that count as a problem; a single failure may be transient."""

_TIMES = ("at", "succeeded_at", "began_at", "failing_since")


@dataclass(frozen=True)
class Heartbeat:
    """The heartbeat written at `at` (UTC); `doing` is a line for people, `pause_s` the planned sleep."""

    at: datetime
    doing: str
    pause_s: float
    pid: int
    host: str
    code_version: str
    succeeded_at: datetime | None = None
    """When a tick last succeeded."""
    began_at: datetime | None = None
    """The start of the tick that has not ended yet."""
    failing_since: datetime | None = None
    failures: int = 0
    """Consecutive failed ticks."""
    error: str = ""
    """Why the last tick failed."""

    def is_late(self, now: datetime) -> bool:
        """Whether the next heartbeat is overdue: by three pauses, but at least five minutes."""
        return now - self.at > timedelta(seconds=max(3 * self.pause_s, 300.0))

    @property
    def is_failing(self) -> bool:
        return self.failures >= FAILING_AFTER


def heartbeat_path(supervisor_dir: Path) -> Path:
    return supervisor_dir / "heartbeat.json"


def beat(supervisor_dir: Path, at: datetime, doing: str, pause_s: float = BEAT_EVERY_S, **changes: Any) -> None:
    """Write a heartbeat atomically; keep the previous one's fields about ticks, except `changes`.

    Not flushed to disk: after a power cut the supervisor starts again anyway.
    """
    from ops.host.version import code_version

    record = Heartbeat(at, doing, pause_s, os.getpid(), os.uname().nodename, code_version())
    if previous := _read_previous(supervisor_dir):
        kept = {each.name: getattr(previous, each.name) for each in fields(Heartbeat)[6:]}
        record = replace(record, **kept)
    text = json.dumps(asdict(replace(record, **changes)), default=datetime.isoformat)
    write_state(heartbeat_path(supervisor_dir), text, is_durable=False)


def record_tick_start(supervisor_dir: Path, at: datetime) -> None:
    """Record the start of a tick. A previous tick that has not ended was killed and counts as failed."""
    previous = _read_previous(supervisor_dir)
    killed_at = previous.began_at if previous else None
    changes = _failure_fields(previous, killed_at, "the tick was killed") if killed_at else {}
    beat(supervisor_dir, at, "looking at what is due", **changes | {"began_at": at})


def record_tick_success(supervisor_dir: Path, at: datetime, pause_s: float) -> None:
    """Record a successful tick, which resets the failures."""
    doing = "waiting for what is due next"
    changes = {"succeeded_at": at, "began_at": None, "failing_since": None, "failures": 0, "error": ""}
    beat(supervisor_dir, at, doing, pause_s, **changes)


def record_tick_failure(supervisor_dir: Path, at: datetime, error: str, pause_s: float) -> None:
    """Record a failed tick; `error` is one line without secrets."""
    previous = _read_previous(supervisor_dir)
    beat(supervisor_dir, at, f"waiting; the last tick failed: {error}", pause_s, **_failure_fields(previous, at, error))


def record_tick_stop(supervisor_dir: Path, at: datetime) -> None:
    """Record that a signal ended the tick; this is no failure."""
    beat(supervisor_dir, at, "stopped by a signal", began_at=None)


def _failure_fields(previous: Heartbeat | None, at: datetime, error: str) -> dict[str, Any]:
    since = previous.failing_since if previous else None
    failures = previous.failures if previous else 0
    return {"began_at": None, "failing_since": since or at, "failures": failures + 1, "error": error}


def _read_previous(supervisor_dir: Path) -> Heartbeat | None:
    """The last heartbeat; None if it is damaged, because the next one replaces it."""
    try:
        return read_heartbeat(supervisor_dir)
    except JournalError:
        return None


def read_heartbeat(supervisor_dir: Path) -> Heartbeat | None:
    """The last heartbeat; None if no supervisor has run here. Raises JournalError if the file is damaged."""
    path = heartbeat_path(supervisor_dir)
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise JournalError(f"cannot read {path} ({error}); rm {path}, the supervisor writes a new one") from error
    return parse_heartbeat(text, str(path))


def parse_heartbeat(text: str, where: str = "the host's heartbeat.json") -> Heartbeat:
    """Parse a heartbeat. Raises JournalError, naming `where`, if it is invalid.

    Unknown fields are ignored, so that an older commit reads a newer file after a rollback.
    """
    try:
        record = json.loads(text)
        known = {each.name: record[each.name] for each in fields(Heartbeat) if each.name in record}
        named = [name for name in _TIMES if name == "at" or known.get(name) is not None]
        times = {name: datetime.fromisoformat(known[name]) for name in named}
        found = Heartbeat(**{**known, **times})
        kinds = ((found.pause_s, int | float), (found.failures, int), (found.error, str), (found.doing, str))
        if any(not isinstance(value, kind) for value, kind in kinds) or any(not each.tzinfo for each in times.values()):
            raise ValueError("a field has a wrong type")
        return found
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise JournalError(
            f"invalid heartbeat {where} ({error}); rm {where}, the supervisor writes a new one"
        ) from error
