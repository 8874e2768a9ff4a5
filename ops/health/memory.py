"""The supervisor's state between ticks: failed attempts, raised alerts, the last housekeeping and reaping.

The journal holds the successes. Losing this file therefore costs a repeated alert and nothing else.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

from ops.health.state_file import write_state

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Attempts:
    """Consecutive failures at one slot of a pipeline; `unrecorded` is the last one's error if the journal lacks it."""

    trigger: str
    failures: int
    last_at: datetime
    unrecorded: str | None = None
    after_run: int | None = None
    """While an attempt is open: the newest run before it. The run goes on if the supervisor is killed."""
    code_version: str = ""
    """The code that failed; other code is tried immediately."""


@dataclass(frozen=True)
class Alert:
    """A raised alert that is not yet resolved; `is_sent` once the webhook accepted it, or if there is no webhook."""

    severity: str
    what: str
    next_step: str
    since: datetime
    is_sent: bool = False
    is_over: bool = False
    """Resolved, but the webhook does not have that yet."""


@dataclass(frozen=True)
class Reaping:
    """When workers were last reaped; if that fails, since when and why."""

    at: datetime
    failing_since: datetime | None = None
    error: str = ""


@dataclass(frozen=True)
class WebhookFailures:
    """Consecutive failures of the alert webhook."""

    failures: int
    last_at: datetime


@dataclass(frozen=True)
class Memory:
    """The whole state: attempts by pipeline, alerts by problem key."""

    attempts: Mapping[str, Attempts] = field(default_factory=dict)
    alerts: Mapping[str, Alert] = field(default_factory=dict)
    cleaned_at: datetime | None = None
    reaping: Reaping | None = None
    webhook: WebhookFailures | None = None
    """None while the webhook works."""
    tried_posting: str | None = None
    """The identity of a posting of the awaited month that a successful run did not serve."""
    announced: date | None = None
    """The day of the newest release whose headline the webhook accepted."""

    def with_attempts(self, pipeline: str, attempts: Attempts | None) -> "Memory":
        """Return a copy with other attempts for a pipeline; None removes them."""
        others = {name: each for name, each in self.attempts.items() if name != pipeline}
        return replace(self, attempts=others | ({pipeline: attempts} if attempts else {}))


def memory_path(supervisor_dir: Path) -> Path:
    return supervisor_dir / "memory.json"


def write_memory(supervisor_dir: Path, memory: Memory) -> None:
    """Write the memory durably, so that it survives a kill right after."""
    write_state(memory_path(supervisor_dir), json.dumps(asdict(memory), default=_iso, indent=1))


def _iso(moment: date | datetime) -> str:
    return moment.isoformat()


def read_memory(supervisor_dir: Path) -> Memory:
    """Read the memory; if the file is damaged, log a warning and return an empty memory."""
    try:
        record = json.loads(memory_path(supervisor_dir).read_text())
        return Memory(
            attempts={
                name: Attempts(**_fields(Attempts, each, "last_at")) for name, each in record["attempts"].items()
            },
            alerts={key: Alert(**_fields(Alert, each, "since")) for key, each in record["alerts"].items()},
            cleaned_at=_time(record["cleaned_at"]),
            reaping=_reaping(record.get("reaping")),
            webhook=_webhook(record.get("webhook")),
            tried_posting=record.get("tried_posting"),
            announced=date.fromisoformat(record["announced"]) if record.get("announced") else None,
        )
    except FileNotFoundError:
        return Memory()
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        log.warning("the supervisor's memory is damaged; starting with an empty one", extra={"error": str(error)})
        return Memory()


def _webhook(record: dict[str, Any] | None) -> WebhookFailures | None:
    return WebhookFailures(int(record["failures"]), datetime.fromisoformat(record["last_at"])) if record else None


def _reaping(record: dict[str, Any] | None) -> Reaping | None:
    if record is None:
        return None
    return Reaping(datetime.fromisoformat(record["at"]), _time(record["failing_since"]), record.get("error", ""))


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _fields(kind: type, record: dict[str, Any], time_name: str) -> dict[str, Any]:
    """The record's values for the fields of `kind`; those that another version wrote are left out."""
    known = {each.name: record[each.name] for each in fields(kind) if each.name in record}
    return known | {time_name: datetime.fromisoformat(record[time_name])}
