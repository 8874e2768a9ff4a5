import random
from bisect import bisect_left, insort
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.source.release import Month
from ops.config.schedule import MAX_CLOCK_SETBACK, Backoff, Schedule, due, next_due, trigger_at

SCHEDULE = Schedule()
MINUTE = timedelta(minutes=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def never(pipeline: str, first: str, last: str) -> bool:
    return False


def test_extract_runs_at_two_and_the_backstop_at_three_utc() -> None:
    slots = SCHEDULE.slots(at("2026-11-20T00:00"), at("2026-11-21T00:00"), None)
    assert [(slot.pipeline, slot.trigger) for slot in slots] == [
        ("run-all", "schedule:2026-11-20T02:00Z"),
        ("export_serving", "schedule:2026-11-20T03:00Z"),
    ]


@pytest.mark.parametrize(("day", "first_utc"), [("2026-07-10", "16:00"), ("2026-11-10", "17:00")])
def test_release_days_are_polled_at_noon_in_washington_summer_and_winter(day: str, first_utc: str) -> None:
    slots = SCHEDULE.slots(at(f"{day}T12:00"), at(f"{day}T23:59"), None)
    assert slots[0].due_at == at(f"{day}T{first_utc}") and slots[-1].due_at - slots[0].due_at == timedelta(hours=2)
    assert len(slots) == 13 and {slot.pipeline for slot in slots} == {"run-all"}


@pytest.mark.parametrize("day", ["2026-11-07", "2026-11-14", "2026-11-15", "2026-11-16", "2026-12-01"])
def test_weekends_and_other_days_are_not_polled(day: str) -> None:
    assert SCHEDULE.slots(at(f"{day}T12:00"), at(f"{day}T23:59"), None) == []


def test_polling_ends_when_the_months_release_is_served() -> None:
    noon, night = at("2026-11-10T12:00"), at("2026-11-10T23:59")
    assert len(SCHEDULE.slots(noon, night, Month(2026, 10))) == 13
    assert SCHEDULE.slots(noon, night, Month(2026, 11)) == []


@pytest.mark.parametrize("day", ["2026-03-08", "2026-11-01"])
@pytest.mark.parametrize("hour", range(0, 4))
def test_polling_hours_inside_a_clock_change_make_each_instant_once(day: str, hour: int) -> None:
    changed = Schedule(poll_from=time(hour), poll_to=time(hour, 59), poll_days=(1, 31))
    days = timedelta(days=4)
    slots = changed.slots(at(f"{day}T00:00") - days, at(f"{day}T00:00") + days, None)
    assert len(slots) == len(set(slots)) and slots == sorted(slots, key=lambda slot: slot.due_at)


def test_nothing_is_due_before_its_time_and_everything_after() -> None:
    settled = {"schedule:2026-11-19T02:00Z", "schedule:2026-11-19T03:00Z"}

    def is_settled(_pipeline: str, first: str, last: str) -> bool:
        return any(first <= trigger <= last for trigger in settled)

    assert due(SCHEDULE, at("2026-11-20T01:59"), None, is_settled) == ()
    assert [slot.pipeline for slot in due(SCHEDULE, at("2026-11-20T02:00"), None, is_settled)] == ["run-all"]


def test_a_month_of_missed_slots_is_caught_up_once() -> None:
    slots = due(SCHEDULE, at("2026-11-30T10:00"), None, never)
    assert [slot.trigger for slot in slots] == ["schedule:2026-11-30T02:00Z", "schedule:2026-11-30T03:00Z"]


def test_a_success_recorded_by_a_clock_that_ran_years_ahead_stops_nothing() -> None:
    future = trigger_at(at("2031-01-01T02:00"))
    slots = due(SCHEDULE, at("2026-11-20T04:00"), None, lambda _pipeline, first, last: first <= future <= last)
    assert len(slots) == 2


def test_the_next_run_of_each_pipeline_is_known() -> None:
    now = at("2026-11-20T02:30")
    assert next_due(SCHEDULE, now, "run-all", None) == at("2026-11-21T02:00")
    assert next_due(SCHEDULE, now, "extract", None) == at("2026-11-21T02:00")
    assert next_due(SCHEDULE, now, "transform", None) == at("2026-11-20T03:00")
    assert next_due(SCHEDULE, now, "export_serving", None) == at("2026-11-20T03:00")
    assert next_due(SCHEDULE, now, "backfill", None) is None


def test_backing_off_is_bounded_and_survives_a_clock_set_back() -> None:
    backoff = Backoff()
    pauses = [backoff.pause(failures) for failures in (0, 1, 2, 3, 4, 5, 500)]
    assert pauses == [timedelta(minutes=minutes) for minutes in (0, 5, 10, 20, 40, 60, 60)]
    now = at("2026-11-20T04:00")
    assert not backoff.is_over(1, now, now + 4 * MINUTE) and backoff.is_over(1, now, now + 5 * MINUTE)
    assert backoff.is_over(9, now + timedelta(days=400), now)


def test_slots_begin_after_the_first_instant_and_include_the_last() -> None:
    def triggers(after: str, until: str) -> list[str]:
        return [slot.trigger for slot in SCHEDULE.slots(at(after), at(until), None)]

    two, three = "schedule:2026-11-20T02:00Z", "schedule:2026-11-20T03:00Z"
    assert triggers("2026-11-20T01:59", "2026-11-20T02:00") == [two]
    assert triggers("2026-11-20T02:00", "2026-11-20T03:00") == [three]
    assert triggers("2026-11-20T03:00", "2026-11-21T01:59") == []
    assert len(triggers("2026-11-20T00:00", "2026-11-23T00:00")) == 6


def test_slots_of_one_instant_come_in_the_order_in_which_they_run() -> None:
    same = Schedule(extract_at=time(2), backstop_at=time(2))
    slots = same.slots(at("2026-11-20T00:00"), at("2026-11-21T00:00"), None)
    assert [slot.pipeline for slot in slots] == list(same.pipelines) == ["run-all", "export_serving"]


@pytest.mark.parametrize("hours", [-12, 0, 13])
def test_a_question_in_another_time_zone_is_answered_alike(hours: int) -> None:
    from datetime import timezone

    zone = timezone(timedelta(hours=hours))
    first, last = at("2026-11-09T20:00"), at("2026-11-10T20:00")
    asked = SCHEDULE.slots(first.astimezone(zone), last.astimezone(zone), None)
    assert asked == SCHEDULE.slots(first, last, None)
    assert trigger_at(first.astimezone(zone)) == trigger_at(first)


@pytest.mark.parametrize(
    ("served", "polls"),
    [(None, 13), (Month(2026, 10), 13), (Month(2026, 11), 0), (Month(2026, 12), 0), (Month(2025, 12), 13)],
)
def test_a_months_release_is_polled_for_until_it_is_served(served: Month | None, polls: int) -> None:
    assert len(SCHEDULE.slots(at("2026-11-10T12:00"), at("2026-11-10T23:59"), served)) == polls


@pytest.mark.parametrize(("day", "polls"), [(7, 0), (8, 13), (9, 13), (13, 13), (14, 13), (15, 0)])
def test_polling_days_are_the_eighth_to_the_fourteenth(day: int, polls: int) -> None:
    # All of these are weekdays.
    month = {7: "2026-10", 8: "2026-10", 9: "2026-10", 13: "2026-10", 14: "2026-10", 15: "2026-10"}[day]
    assert len(SCHEDULE.slots(at(f"{month}-{day:02}T12:00"), at(f"{month}-{day:02}T23:59"), None)) == polls


def test_a_poll_in_washingtons_evening_belongs_to_washingtons_day() -> None:
    late = Schedule(poll_from=time(22), poll_to=time(23), poll_every_min=30)
    slots = late.slots(at("2026-11-10T12:00"), at("2026-11-11T12:00"), None)
    assert [slot.trigger[-17:] for slot in slots if slot.pipeline == "run-all"] == [
        "2026-11-11T02:00Z",
        "2026-11-11T03:00Z",
        "2026-11-11T03:30Z",
        "2026-11-11T04:00Z",
    ]
    # Also where UTC's day is the next one from the start.
    assert late.slots(at("2026-11-11T00:00"), at("2026-11-11T12:00"), None) == slots[-6:]


@pytest.mark.parametrize(("ahead", "is_due"), [(26 * 60, False), (26 * 60 + 1, True)])
def test_a_success_counts_if_it_lies_up_to_26_hours_ahead(ahead: int, is_due: bool) -> None:
    now = at("2026-11-20T02:00")
    success = trigger_at(now + ahead * MINUTE)
    found = due(SCHEDULE, now, None, lambda _pipeline, first, last: first <= success <= last)
    assert bool(found) is is_due


def test_due_slots_are_ordered_by_their_due_time() -> None:
    swapped = Schedule(extract_at=time(3), backstop_at=time(2))
    found = due(swapped, at("2026-11-20T04:00"), None, never)
    assert [slot.pipeline for slot in found] == ["export_serving", "run-all"]


def test_a_slot_of_a_day_and_an_hour_ago_is_still_due() -> None:
    backstop = [slot for slot in due(SCHEDULE, at("2026-11-21T02:30"), None, never) if slot.pipeline != "run-all"]
    assert [slot.trigger for slot in backstop] == ["schedule:2026-11-20T03:00Z"]


def test_nothing_scheduled_is_never_due() -> None:
    assert next_due(SCHEDULE, at("2026-11-20T02:30"), "unknown", None) is None


def test_the_next_run_of_a_polled_day_is_a_poll() -> None:
    assert next_due(SCHEDULE, at("2026-11-10T17:01"), "extract", None) == at("2026-11-10T17:10")
    assert next_due(SCHEDULE, at("2026-11-10T17:01"), "extract", Month(2026, 11)) == at("2026-11-11T02:00")


def test_a_pause_is_over_to_the_minute_and_a_clock_set_back_is_noticed() -> None:
    backoff, now = Backoff(first=5 * MINUTE, longest=60 * MINUTE), at("2026-11-20T04:00")
    assert backoff.pause(-1) == timedelta(0)
    assert backoff.is_over(0, now, now)
    assert not backoff.is_over(1, now + 60 * MINUTE, now)
    assert backoff.is_over(1, now + 60 * MINUTE + timedelta(seconds=1), now)
    assert Backoff(first=timedelta(seconds=1), longest=timedelta(days=9)).pause(40) == timedelta(seconds=2**16)


@dataclass
class Host:
    """A host with a journal, that ticks every minute while it is up; what a tick does, with a run of no length."""

    now: datetime
    served: Month | None = None
    journal: dict[str, list[str]] = field(default_factory=lambda: {"run-all": [], "export_serving": []})
    attempts: dict[str, tuple[str, int, datetime]] = field(default_factory=dict)

    def is_settled(self, pipeline: str, first: str, last: str) -> bool:
        successes = self.journal[pipeline]
        index = bisect_left(successes, first)
        return index < len(successes) and successes[index] <= last

    def tick(self, works: bool) -> list[str]:
        ran = []
        for slot in due(SCHEDULE, self.now, self.served, self.is_settled):
            trigger, failures, last_at = self.attempts.get(slot.pipeline, ("", 0, self.now))
            if trigger == slot.trigger and not Backoff().is_over(failures, last_at, self.now):
                continue
            ran.append(slot.trigger)
            if works:
                insort(self.journal[slot.pipeline], slot.trigger)
            else:
                self.attempts[slot.pipeline] = (slot.trigger, failures * (trigger == slot.trigger) + 1, self.now)
        return ran

    def restart(self) -> None:
        self.attempts.clear()


OUTAGES = st.lists(
    st.tuples(
        st.sampled_from(["down", "failing", "restart", "forward", "back"]),
        st.integers(1, 3 * 24 * 60),
        st.integers(0, 4 * 24 * 60),
    ),
    max_size=12,
)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), outages=OUTAGES)
def test_every_slot_of_a_month_has_exactly_one_success_whatever_the_outages(seed: int, outages: list) -> None:
    """Each slot is settled by one success, its own or that of the first later one that ran; none by two."""
    rng = random.Random(seed)
    start = datetime(2026, rng.choice([3, 10, 11]), 1, tzinfo=UTC)
    host = Host(start, served=Month(2026, 1))
    plan = iter(outages)
    kind, length, pause = next(plan, ("end", 0, 0))
    highest = start
    while host.now < start + timedelta(days=31):
        # A look every five minutes shows what one each minute would; slots lie ten minutes apart at least.
        host.now += 5 * MINUTE
        highest = max(highest, host.now)
        pause -= 5
        works = not (pause < 0 and kind == "failing")
        if pause < 0:
            if kind in ("forward", "back"):
                jump = timedelta(minutes=min(length, 20 * 60))
                host.now += jump if kind == "forward" else -jump
                length = 0
            elif kind == "restart":
                host.restart()
                length = 0
            if length <= 0:
                kind, length, pause = next(plan, ("end", 0, 10**9))
            length -= 5
        if not (pause < 0 and kind == "down"):
            host.tick(works)
    host.tick(works=True)
    host.attempts.clear()
    host.tick(works=True)
    for pipeline, successes in host.journal.items():
        assert max(Counter(successes).values(), default=1) == 1
        last_seen = max(host.now, highest - MAX_CLOCK_SETBACK)
        for slot in SCHEDULE.slots(start - timedelta(days=1), min(host.now, last_seen), host.served):
            if slot.pipeline == pipeline:
                assert host.is_settled(pipeline, slot.trigger, "schedule:9999")
    assert host.tick(works=True) == []


def test_a_year_without_trouble_runs_each_slot_itself_once() -> None:
    host = Host(at("2026-01-01T00:00"), served=Month(2025, 12))
    end = host.now + timedelta(days=365)
    triggers: list[str] = []
    while host.now < end:
        triggers += host.tick(works=True)
        host.now += 10 * MINUTE
    expected = SCHEDULE.slots(at("2025-12-31T00:00"), end - 10 * MINUTE, host.served)
    assert sorted(triggers) == sorted(slot.trigger for slot in expected)
    polls = [slot for slot in expected if slot.pipeline == "run-all" and slot.due_at.time() != time(2)]
    assert {date.weekday(slot.due_at.date()) for slot in polls} == {0, 1, 2, 3, 4} and len(polls) == 13 * 60


def test_a_slot_that_keeps_failing_is_tried_a_bounded_number_of_times_a_day() -> None:
    host = Host(at("2026-11-20T00:00"), served=Month(2026, 11))
    tries = 0
    for _ in range(24 * 60):
        tries += len(host.tick(works=False))
        host.now += MINUTE
    assert 40 <= tries <= 60
