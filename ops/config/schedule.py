"""The schedule: at which instants a pipeline is to run, and which of these is due. Pure, and cheap to import.

A slot is an instant at which a pipeline is to run. It is settled by a success recorded for it, or for a later
slot of the same pipeline, which did the same work on newer data. So only the newest slot can be due: however
many were missed, they are caught up once. Nothing is remembered but what the journal says of successes, which
makes restarts and clock jumps harmless.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from dataflows.source.release import Month

TRIGGER_PREFIX = "schedule:"
WASHINGTON = "America/New_York"

SEES_AHEAD = timedelta(hours=26)
"""A success for a slot so far ahead of the clock still counts for an earlier one: the clock was set back. One
further ahead was recorded by a clock that was wrong, and must not stop the schedule until then."""

_LOOKS_BACK = timedelta(hours=25)
"""Every pipeline has a slot each day, and only the newest can be due."""
_LOOKS_AHEAD = timedelta(days=3)


@dataclass(frozen=True)
class Slot:
    """An instant (UTC, whole minutes) at which a pipeline is to run."""

    due_at: datetime
    pipeline: str

    @property
    def trigger(self) -> str:
        """How the journal names it: `schedule:2026-11-21T02:00Z`; sorts as time does."""
        return trigger_at(self.due_at)


@dataclass(frozen=True)
class Schedule:
    """When what runs. `extract_at` and `backstop_at` are UTC, the polling hours Washington's.

    At `extract_at`, and every `poll_every_min` minutes of the polling hours on the weekdays among `poll_days` of
    a month whose release is not served yet, everything runs (`run-all`: transform and export follow extract's
    success). At `backstop_at` whatever is landed is transformed and published, also when extract fails.
    """

    extract_at: time = time(2)
    backstop_at: time = time(3)
    poll_from: time = time(12)
    poll_to: time = time(14)
    poll_every_min: int = 10
    poll_days: tuple[int, int] = (8, 14)

    @property
    def pipelines(self) -> tuple[str, ...]:
        """The pipelines that are scheduled, in the order in which slots of one instant run."""
        return ("run-all", "export_serving")

    def slots(self, after: datetime, until: datetime, served: Month | None) -> list[Slot]:
        """The slots later than `after` and not later than `until`, in order; `served` is the newest release served."""
        first, last = after.astimezone(UTC).date(), until.astimezone(UTC).date()
        # A day more on both sides: Washington's day is not UTC's.
        days = (first + timedelta(days=n) for n in range(-1, (last - first).days + 2))
        found = {slot for day in days for slot in self._of_day(day, served) if after < slot.due_at <= until}
        return sorted(found, key=lambda slot: (slot.due_at, self.pipelines.index(slot.pipeline)))

    def _of_day(self, day: date, served: Month | None) -> Iterator[Slot]:
        yield Slot(datetime.combine(day, self.extract_at, UTC), "run-all")
        yield Slot(datetime.combine(day, self.backstop_at, UTC), "export_serving")
        if self._may_bring_a_release(day) and (served is None or served < Month.of(day)):
            for due_at in self._polls(day):
                yield Slot(due_at, "run-all")

    def _may_bring_a_release(self, day: date) -> bool:
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


IsSettled = Callable[[str, str, str], bool]
"""Asked a pipeline and two triggers: has it succeeded for a slot from the first to the second, both included?"""


def due(schedule: Schedule, now: datetime, served: Month | None, is_settled: IsSettled) -> tuple[Slot, ...]:
    """The slots that must run now, at most one per pipeline, in the order in which they came due."""
    newest = {slot.pipeline: slot for slot in schedule.slots(now - _LOOKS_BACK, now, served)}
    waiting = (
        slot
        for slot in newest.values()
        if not is_settled(slot.pipeline, slot.trigger, trigger_at(max(slot.due_at, now) + SEES_AHEAD))
    )
    return tuple(sorted(waiting, key=lambda slot: slot.due_at))


def next_due(schedule: Schedule, now: datetime, pipeline: str, served: Month | None) -> datetime | None:
    """When the schedule runs a pipeline next (UTC), alone or within `run-all`; None where nothing schedules it."""
    within = {"extract": ("run-all",), "transform": schedule.pipelines, "export_serving": schedule.pipelines}
    names = within.get(pipeline, (pipeline,))
    ahead = schedule.slots(now, now + _LOOKS_AHEAD, served)
    return next((slot.due_at for slot in ahead if slot.pipeline in names), None)


def trigger_at(due_at: datetime) -> str:
    """How the journal names a slot of that instant."""
    return f"{TRIGGER_PREFIX}{due_at.astimezone(UTC):%Y-%m-%dT%H:%MZ}"


@dataclass(frozen=True)
class Backoff:
    """How long a slot waits after it failed: longer each time, up to `longest`, for as long as it is due."""

    first: timedelta = timedelta(minutes=5)
    longest: timedelta = timedelta(hours=1)

    def pause(self, failures: int) -> timedelta:
        """The pause after that many failures in a row (0: none)."""
        if failures < 1:
            return timedelta(0)
        return min(self.first * 2 ** min(failures - 1, 16), self.longest)

    def is_over(self, failures: int, last_at: datetime, now: datetime) -> bool:
        """Whether it may be tried again; a last failure in the future says that the clock was set back."""
        waited = now - last_at
        return waited < -self.longest or waited >= self.pause(failures)
