"""A run of a pipeline and its steps, as stored in the journal."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

from ops.host.process import Process

DIED = "its process is gone: killed, out of memory, or the machine went down"


class RunStatus(StrEnum):
    """The status of a run or a step; one that found nothing new is done."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    DIED = "died"


@dataclass(frozen=True)
class Run:
    """One run of one pipeline, times in UTC. A run of `run-all` is the parent of one run per pipeline.

    `arguments` are those of the command line, `snapshots` the landed or used keys, `result` the outcome as a line,
    `error` the failure as a line, `error_detail` its traceback. A run that died has no `ended_at`: it is unknown.
    """

    id: int
    parent_id: int | None
    pipeline: str
    status: RunStatus
    trigger: str
    arguments: tuple[str, ...]
    started_at: datetime
    ended_at: datetime | None
    pid: int
    process_started: str
    host: str
    worker: str | None
    code_version: str
    snapshots: tuple[str, ...]
    result: str | None
    error: str | None
    error_detail: str | None
    log_path: str | None

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> Self:
        """Parse a row of the journal with the columns RUN_COLUMNS."""
        record = dict(zip(RUN_COLUMNS, row, strict=True))
        record["status"] = RunStatus(record["status"])
        record["arguments"] = tuple(json.loads(record["arguments"]))
        record["snapshots"] = tuple(json.loads(record["snapshots"]))
        return cls(**_with_times(record))

    @property
    def process(self) -> Process:
        return Process(self.pid, self.process_started)

    @property
    def is_orphan(self) -> bool:
        """Whether its status is running although its process is gone."""
        return self.status is RunStatus.RUNNING and not self.process.is_alive()

    def as_died(self) -> "Run":
        """Return this run with the status died."""
        return replace(self, status=RunStatus.DIED, error=DIED)

    def duration_s(self, now: datetime) -> float | None:
        """Seconds from start to end, or to `now` while it runs; None for a run that died."""
        return _duration_s(self, now)


@dataclass(frozen=True)
class Step:
    """One step of a run, such as a node of a Hamilton DAG; `detail` is short."""

    id: int
    run_id: int
    name: str
    status: RunStatus
    started_at: datetime
    ended_at: datetime | None
    detail: str

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> Self:
        """Parse a row of the journal with the columns STEP_COLUMNS."""
        record = dict(zip(STEP_COLUMNS, row, strict=True))
        record["status"] = RunStatus(record["status"])
        return cls(**_with_times(record))

    def with_status_of(self, run: Run) -> "Step":
        """Return this step, as died if it was running when its run died."""
        if run.status is RunStatus.DIED and self.status is RunStatus.RUNNING:
            return replace(self, status=RunStatus.DIED)
        return self

    def duration_s(self, now: datetime) -> float | None:
        """Seconds from start to end, or to `now` while it runs; None for a step that died."""
        return _duration_s(self, now)


RUN_COLUMNS = tuple(field.name for field in fields(Run))
STEP_COLUMNS = tuple(field.name for field in fields(Step))


def utc_now() -> datetime:
    return datetime.now(UTC)


def _duration_s(entry: Run | Step, now: datetime) -> float | None:
    if entry.ended_at is None and entry.status is not RunStatus.RUNNING:
        return None
    return ((entry.ended_at or now) - entry.started_at).total_seconds()


def _with_times(record: dict[str, Any]) -> dict[str, Any]:
    for name in ("started_at", "ended_at"):
        if record[name] is not None:
            record[name] = datetime.fromisoformat(record[name])
            if record[name].tzinfo is None:
                raise ValueError(f"{name} has no time zone")
    return record
