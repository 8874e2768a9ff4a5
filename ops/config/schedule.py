"""The schedule: when pipelines must run, and which slots are due. Pure functions, cheap to import.

A slot is an instant at which a pipeline must run. It is due until a successful run has been recorded for it, or for a
later slot of the same pipeline, which did the same work on newer data. Only the newest slot can therefore be due: one
run makes up for all missed ones. The only state is the successes in the journal, so restarts and clock jumps do no
harm.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from dataflows.source.release import Month

TRIGGER_PREFIX = "schedule:"
WASHINGTON = "America/New_York"

MAX_CLOCK_SETBACK = timedelta(hours=26)
"""A success for a slot up to this far ahead of the clock counts for earlier slots, because the clock was set back. A
success further ahead was recorded by a wrong clock and must not stop the schedule."""

_LOOKBACK = timedelta(hours=25)
"""Every pipeline has a slot each day, and only the newest can be due."""
_LOOKAHEAD = timedelta(days=3)


@dataclass(frozen=True)
class Slot:
    """An instant (UTC, whole minutes) at which a pipeline must run."""

    due_at: datetime
    pipeline: str

    @property
    def trigger(self) -> str:
        """Its trigger in the journal: `schedule:2026-11-21T02:00Z`, which sorts by time."""
        return trigger_at(self.due_at)


@dataclass(frozen=True)
class Schedule:
    """The times of all pipelines. `extract_at` and `backstop_at` are in UTC, the polling hours in Washington time.

    `run-all` runs at `extract_at`. It also runs every `poll_every_min` minutes of the polling hours, on the weekdays
    among `poll_days` of a month whose release is not served yet, and as soon as a HEAD at a tick of these hours finds
    that month posted. At `backstop_at` all landed releases are transformed
    and published, even if extract fails.
    """

    extract_at: time = time(2)
    backstop_at: time = time(3)
    poll_from: time = time(12)
    poll_to: time = time(14)
    poll_every_min: int = 10
    poll_days: tuple[int, int] = (8, 14)

    @property
    def pipelines(self) -> tuple[str, ...]:
        """The scheduled pipelines, in the order in which slots of the same instant run."""
        return ("run-all", "export_serving")

    def slots(self, after: datetime, until: datetime, served: Month | None) -> list[Slot]:
        """The slots after `after` and until `until` inclusive, in order; `served` is the newest served release."""
        first, last = after.astimezone(UTC).date(), until.astimezone(UTC).date()
        # One more day on both sides, because Washington's day differs from UTC's.
        days = (first + timedelta(days=n) for n in range(-1, (last - first).days + 2))
        found = {slot for day in days for slot in self._of_day(day, served) if after < slot.due_at <= until}
        return sorted(found, key=lambda slot: (slot.due_at, self.pipelines.index(slot.pipeline)))

    def _of_day(self, day: date, served: Month | None) -> Iterator[Slot]:
        yield Slot(datetime.combine(day, self.extract_at, UTC), "run-all")
        yield Slot(datetime.combine(day, self.backstop_at, UTC), "export_serving")
        if self._is_poll_day(day) and (served is None or served < Month.of(day)):
            for due_at in self._polls(day):
                yield Slot(due_at, "run-all")

    def awaited_month(self, now: datetime, served: Month | None) -> Month | None:
        """The month whose release is watched for at `now`; None outside of the polling hours or if it is served."""
        day = _washington(now).date()
        month = Month.of(day)
        if not self._is_poll_day(day) or (served is not None and served >= month):
            return None
        return month if self.poll_from <= _washington(now).time() <= self.poll_to else None

    def _is_poll_day(self, day: date) -> bool:
        first, last = self.poll_days
        return first <= day.day <= last and day.isoweekday() <= 5

    def _polls(self, day: date) -> Iterator[datetime]:
        from zoneinfo import ZoneInfo

        washington = ZoneInfo(WASHINGTON)
        due_at = datetime.combine(day, self.poll_from, washington).astimezone(UTC)
        end = datetime.combine(day, self.poll_to, washington).astimezone(UTC)
        while due_at <= end:
            yield due_at
            due_at += timedelta(minutes=self.poll_every_min)


def _washington(moment: datetime) -> datetime:
    from zoneinfo import ZoneInfo

    return moment.astimezone(ZoneInfo(WASHINGTON))


IsSettled = Callable[[str, str, str], bool]
"""Takes a pipeline and two triggers; returns whether it succeeded for a slot between them, inclusive."""


def due(schedule: Schedule, now: datetime, served: Month | None, is_settled: IsSettled) -> tuple[Slot, ...]:
    """The slots that are due now, at most one per pipeline, oldest first."""
    newest = {slot.pipeline: slot for slot in schedule.slots(now - _LOOKBACK, now, served)}
    waiting = (
        slot
        for slot in newest.values()
        if not is_settled(slot.pipeline, slot.trigger, trigger_at(max(slot.due_at, now) + MAX_CLOCK_SETBACK))
    )
    return tuple(sorted(waiting, key=lambda slot: slot.due_at))


def next_due(schedule: Schedule, now: datetime, pipeline: str, served: Month | None) -> datetime | None:
    """When a pipeline runs next (UTC), alone or within `run-all`; None if it is not scheduled."""
    within = {"extract": ("run-all",), "transform": schedule.pipelines, "export_serving": schedule.pipelines}
    names = within.get(pipeline, (pipeline,))
    ahead = schedule.slots(now, now + _LOOKAHEAD, served)
    return next((slot.due_at for slot in ahead if slot.pipeline in names), None)


def trigger_at(due_at: datetime) -> str:
    """The trigger of a slot at that instant."""
    return f"{TRIGGER_PREFIX}{due_at.astimezone(UTC):%Y-%m-%dT%H:%MZ}"


@dataclass(frozen=True)
class Backoff:
    """The pause after a failure, which doubles up to `longest`."""

    first: timedelta = timedelta(minutes=5)
    longest: timedelta = timedelta(hours=1)

    def pause(self, failures: int) -> timedelta:
        """The pause after that many consecutive failures (0: none)."""
        if failures < 1:
            return timedelta(0)
        return min(self.first * 2 ** min(failures - 1, 16), self.longest)

    def is_over(self, failures: int, last_at: datetime, now: datetime) -> bool:
        """Whether a retry is allowed; also if the last failure is in the future, because the clock was set back."""
        waited = now - last_at
        return waited < -self.longest or waited >= self.pause(failures)
