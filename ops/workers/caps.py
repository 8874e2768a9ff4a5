"""Spending caps of workers, checked against live prices before a machine is created. The ledger survives crashes."""

import fcntl
import json
import math
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from ops.workers.errors import WorkerError

DAY = timedelta(days=1)
LEDGER_NAME = "workers.jsonl"
"""The ledger's file in the data directory."""
_EUR_DECIMALS = 6
_CAUSE_CHARS = 300


@dataclass(frozen=True)
class Caps:
    """The maximum number of machines at once, of EUR per run, and of EUR in any 24 hours."""

    count: int
    eur_per_run: float
    eur_per_day: float


@dataclass(frozen=True)
class Entry:
    """A requested machine, which is billed until `ended_at` (UTC), or until `due_at` at the latest.

    Names are unique per provider only.
    """

    name: str
    eur_per_hour: float
    begun_at: datetime
    due_at: datetime
    ended_at: datetime | None = None
    provider: str = ""
    left_at: datetime | None = None
    left_because: str = ""
    """Since when and why its destruction has failed."""

    def paid_until(self, now: datetime) -> datetime:
        """When billing ends; a machine that could not be destroyed is billed until now."""
        return self.ended_at or (max(self.due_at, now) if self.left_at else self.due_at)

    def eur(self, now: datetime | None = None) -> float:
        """The maximum cost; a started hour is billed in full."""
        hours = billed_hours(self.paid_until(now or self.due_at) - self.begun_at)
        return round(hours * self.eur_per_hour, _EUR_DECIMALS)

    def is_unconfirmed(self, now: datetime) -> bool:
        """Whether it may still cost money although its run has ended."""
        return self.ended_at is None and (self.left_at is not None or self.due_at < now)

    def warning(self) -> str:
        """Why it may still exist, what that costs, and how to destroy it."""
        cause = self.left_because or "it expired and its destruction was never confirmed"
        return leftover_text(cause, self.name, self.eur_per_hour)


def leftover_text(cause: str, name: str, eur_per_hour: float | None) -> str:
    """The message about a worker that could not be destroyed: cause, price and the command that destroys it."""
    cost = "costs an unknown amount"
    if eur_per_hour is not None:
        cost = f"costs {eur_per_hour:.4f} EUR/h ({24 * eur_per_hour:.2f} EUR/day)"
    return f"{cause}; worker {name} may still exist and {cost}; destroy it: `materia worker destroy {name}`"


def billed_hours(time: timedelta) -> int:
    """The number of started hours, at least one."""
    return max(1, math.ceil(time / timedelta(hours=1)))


class Ledger:
    """The machines requested from this data directory: one JSON line per request, and one per end."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def max_eur_per_hour(self, caps: Caps, ttl: timedelta, now: datetime) -> float:
        """The price that the caps allow for one more machine; negative if they are used up."""
        left = min(caps.eur_per_run, caps.eur_per_day - self.eur_within_a_day(now))
        return round(left / billed_hours(ttl), _EUR_DECIMALS)

    def begin(self, entry: Entry, caps: Caps, running: int, now: datetime) -> None:
        """Record that a machine will be requested; raises WorkerError if that would exceed a cap.

        `running` counts the machines at the same provider; those at others are counted from the ledger. The lock
        prevents two processes from using the same remaining budget.
        """
        with self._locked():
            running += self._running_elsewhere(entry.provider, now)
            if running >= caps.count:
                raise WorkerError(
                    f"{running} worker{'' if running == 1 else 's'} running, and MATERIA_WORKER_MAX_COUNT is "
                    f"{caps.count}; `materia worker list` shows them"
                )
            if entry.eur() > caps.eur_per_run:
                raise WorkerError(
                    f"{entry.name} may cost {entry.eur():.2f} EUR until it expires, and "
                    f"MATERIA_WORKER_MAX_EUR_PER_RUN is {caps.eur_per_run:.2f}"
                )
            spent = self.eur_within_a_day(now)
            if round(spent + entry.eur(), _EUR_DECIMALS) > caps.eur_per_day:
                raise WorkerError(
                    f"workers cost {spent:.2f} EUR within 24 hours, {entry.name} may cost {entry.eur():.2f}, and "
                    f"MATERIA_WORKER_MAX_EUR_PER_DAY is {caps.eur_per_day:.2f}"
                )
            self._append(entry)

    def end(self, name: str, provider: str, now: datetime) -> None:
        """Record that a provider's machines of that name no longer exist."""
        with self._locked():
            for entry in self._unended(name, provider):
                self._append(replace(entry, ended_at=max(now, entry.begun_at)))

    def leave(self, name: str, provider: str, now: datetime, cause: str) -> float | None:
        """Record that a provider's machine of that name could not be destroyed; returns its EUR per hour if known."""
        with self._locked():
            entries = self._unended(name, provider)
            for entry in entries:
                since = entry.left_at or max(now, entry.begun_at)
                self._append(replace(entry, left_at=since, left_because=cause[:_CAUSE_CHARS]))
        return max((each.eur_per_hour for each in entries), default=None)

    def unconfirmed(self, now: datetime) -> tuple[Entry, ...]:
        """The machines that may still cost money although their run has ended, the newest of each name."""
        found = {(each.name, each.provider): each for each in self.entries() if each.is_unconfirmed(now)}
        return tuple(found.values())

    def confirm_gone(self, provider: str, there: Collection[str], now: datetime) -> None:
        """Record the end of a provider's unconfirmed machines that are not among those `there`."""
        with self._locked():
            for entry in self.entries():
                if entry.is_unconfirmed(now) and entry.provider in (provider, "") and entry.name not in there:
                    self._append(replace(entry, ended_at=now))

    def void(self, name: str, provider: str, now: datetime) -> None:
        """Record that a provider's machine of that name was never created and costs nothing."""
        with self._locked():
            for entry in self._unended(name, provider):
                self._append(replace(entry, ended_at=now, eur_per_hour=0.0))

    def _unended(self, name: str, provider: str) -> list[Entry]:
        return [
            each
            for each in self.entries()
            # A line without a provider is from a version with only one.
            if each.name == name and each.provider in (provider, "") and each.ended_at is None
        ]

    def _running_elsewhere(self, provider: str, now: datetime) -> int:
        others = (each for each in self.entries() if each.provider not in (provider, ""))
        return sum(1 for each in others if each.ended_at is None and (each.due_at > now or each.left_at))

    def eur_within_a_day(self, now: datetime) -> float:
        """The maximum total cost of the machines that ran in the last 24 hours."""
        recent = (each for each in self.entries() if each.paid_until(now) > now - DAY)
        return round(sum(each.eur(now) for each in recent), _EUR_DECIMALS)

    def entries(self) -> tuple[Entry, ...]:
        """Every requested machine, in order; raises WorkerError if the file is damaged."""
        try:
            lines = self.path.read_text().splitlines()
        except FileNotFoundError:
            return ()
        found: dict[tuple[str, str], Entry] = {}
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise ValueError("not an object")
                times = {name: _time(record.get(name)) for name in ("begun_at", "due_at", "ended_at", "left_at")}
                entry = Entry(**{**record, **times})
                entry.eur()
                found[record["name"], record["begun_at"]] = entry
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                if number == len(lines):
                    # A writer died in the middle of its line, before it requested the machine.
                    break
                raise WorkerError(
                    f"worker costs are unknown: {self.path}, line {number} is damaged ({error}); "
                    "repair or remove the line"
                ) from error
        return tuple(found.values())

    def _append(self, entry: Entry) -> None:
        record = {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in asdict(entry).items()
            # Omit empty fields that an older version does not know.
            if value or not name.startswith("left_")
        }
        with self.path.open("ab+") as file:
            # Remove the incomplete line of a writer that died: it had not requested the machine yet.
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
            file.write(json.dumps(record).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _time(text: str | None) -> datetime | None:
    time = datetime.fromisoformat(text) if text is not None else None
    if time is not None and time.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return time
