"""The supervisor's heartbeat: a small file that says when it last lived and what it was doing. Cheap to read."""

import json
import os
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

from dataflows.errors import JournalError

BEAT_EVERY_S = 15.0
"""How often the supervisor beats while it works or waits for a run."""


@dataclass(frozen=True)
class Heartbeat:
    """A sign of life at `at` (UTC); `doing` is a line for a person, `pause_s` how long it was about to sleep."""

    at: datetime
    doing: str
    pause_s: float
    pid: int
    host: str
    code_version: str

    def is_late(self, now: datetime) -> bool:
        """Whether the next one should have come long ago: three pauses, and never less than five minutes."""
        return now - self.at > timedelta(seconds=max(3 * self.pause_s, 300.0))


def heartbeat_path(supervisor_dir: Path) -> Path:
    return supervisor_dir / "heartbeat.json"


def beat(supervisor_dir: Path, at: datetime, doing: str, pause_s: float = BEAT_EVERY_S) -> None:
    """Leave a sign of life, whole or not at all. It need not survive a power cut: nor does what it tells of."""
    from ops.host.version import code_version

    record = Heartbeat(at, doing, pause_s, os.getpid(), os.uname().nodename, code_version())
    path = heartbeat_path(supervisor_dir)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(asdict(record) | {"at": at.isoformat()}))
    draft.replace(path)


def read_heartbeat(supervisor_dir: Path) -> Heartbeat | None:
    """The last sign of life; None when no supervisor has run here. JournalError when the file makes no sense."""
    path = heartbeat_path(supervisor_dir)
    try:
        record = json.loads(path.read_text())
        found = Heartbeat(**{**record, "at": datetime.fromisoformat(record["at"])})
        if found.at.tzinfo is None or not isinstance(found.pause_s, int | float):
            raise ValueError("a field is of another kind")
        return found
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise JournalError(f"{path} is no heartbeat ({error}); remove it, the next tick writes a new one") from error
