"""The supervisor's heartbeat: a small file that says when a tick last succeeded, since when ticks fail, and what runs.

Cheap to read. Status, `/health`, the console and systemd's watchdog judge the supervisor by it.
"""

import json
import os
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from dataflows.errors import JournalError

BEAT_EVERY_S = 15.0
"""How often the supervisor beats while it works or waits for a run."""

FAILING_AFTER = 2
"""Failed ticks in a row that are a problem: a single one may be a moment's."""

_TIMES = ("at", "succeeded_at", "began_at", "failing_since")


@dataclass(frozen=True)
class Heartbeat:
    """The last beat at `at` (UTC); `doing` is a line for a person, `pause_s` how long it was about to sleep."""

    at: datetime
    doing: str
    pause_s: float
    pid: int
    host: str
    code_version: str
    succeeded_at: datetime | None = None
    """When a tick last succeeded."""
    began_at: datetime | None = None
    """When the tick began that has not ended yet."""
    failing_since: datetime | None = None
    failures: int = 0
    """Failed ticks in a row."""
    error: str = ""
    """Why the last one failed."""

    def is_late(self, now: datetime) -> bool:
        """Whether the next one should have come long ago: three pauses, and never less than five minutes."""
        return now - self.at > timedelta(seconds=max(3 * self.pause_s, 300.0))

    @property
    def is_failing(self) -> bool:
        return self.failures >= FAILING_AFTER


def heartbeat_path(supervisor_dir: Path) -> Path:
    return supervisor_dir / "heartbeat.json"


def beat(supervisor_dir: Path, at: datetime, doing: str, pause_s: float = BEAT_EVERY_S, **changes: Any) -> None:
    """Write a heartbeat, whole or not at all; what the last one says of ticks is kept, but for `changes`.

    It need not survive a power cut: nor does the supervisor.
    """
    from ops.host.version import code_version

    record = Heartbeat(at, doing, pause_s, os.getpid(), os.uname().nodename, code_version())
    if previous := _previous(supervisor_dir):
        kept = {each.name: getattr(previous, each.name) for each in fields(Heartbeat)[6:]}
        record = replace(record, **kept)
    path = heartbeat_path(supervisor_dir)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(asdict(replace(record, **changes)), default=datetime.isoformat))
    draft.replace(path)


def tick_begins(supervisor_dir: Path, at: datetime) -> None:
    """A tick begins. One that began before and has not ended was killed, and counts as failed."""
    previous = _previous(supervisor_dir)
    killed_at = previous.began_at if previous else None
    changes = _failure(previous, killed_at, "the tick was killed") if killed_at else {}
    beat(supervisor_dir, at, "looking at what is due", **changes | {"began_at": at})


def tick_succeeded(supervisor_dir: Path, at: datetime, pause_s: float) -> None:
    """A tick ended well: nothing fails any more."""
    doing = "waiting for what is due next"
    changes = {"succeeded_at": at, "began_at": None, "failing_since": None, "failures": 0, "error": ""}
    beat(supervisor_dir, at, doing, pause_s, **changes)


def tick_failed(supervisor_dir: Path, at: datetime, error: str, pause_s: float) -> None:
    """A tick failed; `error` is one line and holds no secret."""
    previous = _previous(supervisor_dir)
    beat(supervisor_dir, at, f"waiting; the last tick failed: {error}", pause_s, **_failure(previous, at, error))


def tick_stopped(supervisor_dir: Path, at: datetime) -> None:
    """A signal ended the tick, which is no failure."""
    beat(supervisor_dir, at, "stopped by a signal", began_at=None)


def _failure(previous: Heartbeat | None, at: datetime, error: str) -> dict[str, Any]:
    since = previous.failing_since if previous else None
    failures = previous.failures if previous else 0
    return {"began_at": None, "failing_since": since or at, "failures": failures + 1, "error": error}


def _previous(supervisor_dir: Path) -> Heartbeat | None:
    """The last heartbeat; None for a damaged one, which the next replaces."""
    try:
        return read_heartbeat(supervisor_dir)
    except JournalError:
        return None


def read_heartbeat(supervisor_dir: Path) -> Heartbeat | None:
    """The last heartbeat; None when no supervisor has run here. JournalError when the file makes no sense."""
    path = heartbeat_path(supervisor_dir)
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise JournalError(f"{path} cannot be read ({error}); rm {path}, the supervisor writes a new one") from error
    return parse_heartbeat(text, str(path))


def parse_heartbeat(text: str, where: str = "the host's heartbeat.json") -> Heartbeat:
    """The heartbeat in a text; JournalError, naming `where`, when it makes no sense.

    Fields of a newer version are ignored: after a return to the commit before, the file is still read.
    """
    try:
        record = json.loads(text)
        known = {each.name: record[each.name] for each in fields(Heartbeat) if each.name in record}
        named = [name for name in _TIMES if name == "at" or known.get(name) is not None]
        times = {name: datetime.fromisoformat(known[name]) for name in named}
        found = Heartbeat(**{**known, **times})
        kinds = ((found.pause_s, int | float), (found.failures, int), (found.error, str), (found.doing, str))
        if any(not isinstance(value, kind) for value, kind in kinds) or any(not each.tzinfo for each in times.values()):
            raise ValueError("a field is of another kind")
        return found
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise JournalError(f"{where} is no heartbeat ({error}); rm {where}, the supervisor writes a new one") from error
