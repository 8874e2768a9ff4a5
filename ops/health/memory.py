"""What the supervisor remembers between ticks: failed attempts, raised alerts, the last housekeeping and reaping.

Successes are not here: those the journal knows. So losing this file costs a repeated alert, and nothing else.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from dataflows.files import write_durably

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Attempts:
    """Failures in a row at one slot of a pipeline. `unrecorded` is what the last one said, if no run tells it."""

    trigger: str
    failures: int
    last_at: datetime
    unrecorded: str | None = None
    after_run: int | None = None
    """While an attempt is open: the newest run before it. The supervisor may be killed and the run go on."""
    code_version: str = ""
    """The code that failed; another one is tried at once."""


@dataclass(frozen=True)
class Raised:
    """An alert that was raised and not yet resolved; `is_told` once the webhook took it (or there is none)."""

    severity: str
    what: str
    next_step: str
    since: datetime
    is_told: bool = False
    is_over: bool = False
    """Resolved, and not yet sent to the webhook."""


@dataclass(frozen=True)
class Reaping:
    """When workers were last reaped, and since when that fails and what was said, if it does."""

    at: datetime
    failing_since: datetime | None = None
    said: str = ""


@dataclass(frozen=True)
class Webhook:
    """Failures in a row of the alert webhook."""

    failures: int
    last_at: datetime


@dataclass(frozen=True)
class Memory:
    """Everything remembered; by pipeline, and by a problem's key."""

    attempts: Mapping[str, Attempts] = field(default_factory=dict)
    alerts: Mapping[str, Raised] = field(default_factory=dict)
    cleaned_at: datetime | None = None
    reaping: Reaping | None = None
    webhook: Webhook | None = None
    """None while it answers."""

    def attempted(self, pipeline: str, attempts: Attempts | None) -> "Memory":
        """The same with other attempts of a pipeline; None forgets them."""
        others = {name: each for name, each in self.attempts.items() if name != pipeline}
        return replace(self, attempts=others | ({pipeline: attempts} if attempts else {}))


def memory_path(supervisor_dir: Path) -> Path:
    return supervisor_dir / "memory.json"


def remember(supervisor_dir: Path, memory: Memory) -> None:
    """Write it down durably: it must hold when the next moment kills the process."""
    write_durably(memory_path(supervisor_dir), json.dumps(asdict(memory), default=datetime.isoformat, indent=1))


def recall(supervisor_dir: Path) -> Memory:
    """What was remembered; an empty memory, with a warning, when the file is damaged."""
    try:
        record = json.loads(memory_path(supervisor_dir).read_text())
        return Memory(
            attempts={name: Attempts(**_timed(each, "last_at")) for name, each in record["attempts"].items()},
            alerts={key: Raised(**_timed(each, "since")) for key, each in record["alerts"].items()},
            cleaned_at=_time(record["cleaned_at"]),
            reaping=_reaping(record.get("reaping")),
            webhook=_webhook(record.get("webhook")),
        )
    except FileNotFoundError:
        return Memory()
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        log.warning("the supervisor's memory is damaged and begins empty", extra={"error": str(error)})
        return Memory()


def _webhook(record: dict[str, Any] | None) -> Webhook | None:
    return Webhook(int(record["failures"]), datetime.fromisoformat(record["last_at"])) if record else None


def _reaping(record: dict[str, Any] | None) -> Reaping | None:
    if record is None:
        return None
    return Reaping(datetime.fromisoformat(record["at"]), _time(record["failing_since"]), record["said"])


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _timed(record: dict[str, Any], name: str) -> dict[str, Any]:
    return {**record, name: datetime.fromisoformat(record[name])}
