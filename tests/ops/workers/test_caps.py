"""What workers may cost: to the cent, to the hour, and whatever the ledger went through."""

import fcntl
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ops.workers.caps import Caps, Entry, Ledger, billed_hours
from ops.workers.errors import WorkerError

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
PLENTY = Caps(count=10, eur_per_run=100.0, eur_per_day=100.0)


def entry(name: str = "box", eur: float = 0.5, hours: int = 2, provider: str = "hetzner") -> Entry:
    return Entry(name, eur, NOW, NOW + hours * HOUR, provider=provider)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "data" / "deep" / "workers.jsonl")


@pytest.mark.parametrize(
    ("time", "hours"), [(-HOUR, 1), (0 * HOUR, 1), (SECOND, 1), (HOUR, 1), (HOUR + SECOND, 2), (3 * HOUR, 3)]
)
def test_an_hour_that_began_is_billed(time: timedelta, hours: int) -> None:
    assert billed_hours(time) == hours


def test_a_machine_costs_its_hours_until_it_ended_or_at_the_latest_until_its_time_is_up() -> None:
    assert entry(eur=0.1234567, hours=3).eur() == 0.37037
    assert replace(entry(hours=3), ended_at=NOW + HOUR).eur() == 0.5


def test_a_machine_is_within_the_caps_up_to_the_last_cent(ledger: Ledger) -> None:
    ledger.begin(entry("a"), Caps(1, 1.0, 1.0), 0, NOW)
    assert ledger.entries() == (entry("a"),)


def test_a_run_that_may_cost_more_than_its_cap_is_refused(ledger: Ledger) -> None:
    with pytest.raises(WorkerError, match=r"box may cost 1\.00 EUR .*MAX_EUR_PER_RUN is 0\.99"):
        ledger.begin(entry(), Caps(1, 0.99, 100.0), 0, NOW)
    assert ledger.entries() == ()


def test_a_day_that_may_cost_more_than_its_cap_is_refused(ledger: Ledger) -> None:
    ledger.begin(entry("a"), PLENTY, 0, NOW)
    ledger.begin(entry("b"), replace(PLENTY, eur_per_day=2.0), 0, NOW)
    with pytest.raises(WorkerError, match=r"cost 2\.00 EUR .* c may cost 1\.00, .*PER_DAY is 2\.99"):
        ledger.begin(entry("c"), replace(PLENTY, eur_per_day=2.99), 0, NOW)
    assert [each.name for each in ledger.entries()] == ["a", "b"]


@pytest.mark.parametrize(("running", "message"), [(1, "1 worker running"), (2, "2 workers running")])
def test_no_more_machines_than_the_cap_run_at_once(ledger: Ledger, running: int, message: str) -> None:
    with pytest.raises(WorkerError, match=f"^{message}, and MATERIA_WORKER_MAX_COUNT is 1;"):
        ledger.begin(entry(), replace(PLENTY, count=1), running, NOW)
    ledger.begin(entry(), replace(PLENTY, count=running + 1), running, NOW)


def test_machines_of_other_providers_count_until_their_time_is_up_or_they_end(ledger: Ledger) -> None:
    two = replace(PLENTY, count=2)
    ledger.begin(entry("a", provider="oracle"), two, 0, NOW)
    ledger.begin(entry("b", provider="ovh"), two, 0, NOW)
    with pytest.raises(WorkerError, match="2 workers"):
        ledger.begin(entry("c"), two, 0, NOW)
    with pytest.raises(WorkerError, match="2 workers"):
        ledger.begin(entry("c"), two, 0, NOW + 2 * HOUR - SECOND)
    ledger.begin(entry("c"), two, 0, NOW + 2 * HOUR)
    ledger.end("a", "oracle", NOW + HOUR)
    ledger.begin(entry("d"), two, 0, NOW + HOUR)


def test_machines_of_the_same_provider_are_those_that_it_reports(ledger: Ledger) -> None:
    one = replace(PLENTY, count=1)
    # A line without a provider is from when there was only one.
    ledger.begin(entry("a", provider=""), one, 0, NOW)
    ledger.begin(entry("b"), one, 0, NOW)
    ledger.begin(entry("c"), one, 0, NOW)


def test_the_price_that_the_caps_leave_is_an_hours_share_of_the_smaller_rest(ledger: Ledger) -> None:
    assert ledger.max_eur_per_hour(Caps(1, 3.0, 100.0), 3 * HOUR, NOW) == 1.0
    assert ledger.max_eur_per_hour(Caps(1, 100.0, 1.0), 3 * HOUR, NOW) == 0.333333
    ledger.begin(entry(), PLENTY, 0, NOW)
    assert ledger.max_eur_per_hour(Caps(1, 100.0, 1.5), HOUR, NOW) == 0.5
    assert ledger.max_eur_per_hour(Caps(1, 100.0, 0.5), HOUR, NOW) == -0.5


def test_a_machine_counts_for_a_day_after_it_ended(ledger: Ledger) -> None:
    ledger.begin(entry(), PLENTY, 0, NOW)
    assert ledger.eur_within_a_day(NOW + 26 * HOUR - SECOND) == 1.0
    assert ledger.eur_within_a_day(NOW + 26 * HOUR) == 0.0
    ledger.end("box", "hetzner", NOW + HOUR)
    assert ledger.eur_within_a_day(NOW + 25 * HOUR - SECOND) == 0.5
    assert ledger.eur_within_a_day(NOW + 25 * HOUR) == 0.0


def test_costs_of_many_machines_are_summed_without_binary_rounding_errors(ledger: Ledger) -> None:
    for number in range(3):
        ledger.begin(entry(f"box{number}", eur=0.1, hours=1), PLENTY, 0, NOW)
    assert ledger.eur_within_a_day(NOW) == 0.3
    ledger.begin(entry("last", eur=0.1, hours=1), replace(PLENTY, eur_per_day=0.4), 0, NOW)


def test_an_end_is_recorded_for_the_machine_of_that_name_and_provider_alone(ledger: Ledger) -> None:
    for each in (entry("a"), entry("b"), replace(entry("a", provider="ovh"), begun_at=NOW + SECOND)):
        ledger.begin(each, PLENTY, 0, NOW)
    ledger.end("a", "hetzner", NOW + HOUR)
    assert [each.ended_at for each in ledger.entries()] == [NOW + HOUR, None, None]
    ledger.end("a", "hetzner", NOW + 2 * HOUR)
    assert ledger.entries()[0].ended_at == NOW + HOUR


def test_a_machine_from_before_there_were_providers_is_ended_by_any(ledger: Ledger) -> None:
    ledger.begin(entry("a", provider=""), PLENTY, 0, NOW)
    ledger.end("a", "hetzner", NOW + HOUR)
    assert ledger.entries()[0].ended_at == NOW + HOUR


def test_no_machine_ends_before_it_began(ledger: Ledger) -> None:
    ledger.begin(entry(), PLENTY, 0, NOW)
    ledger.end("box", "hetzner", NOW - HOUR)
    assert ledger.entries()[0].ended_at == NOW


def test_a_machine_that_never_came_to_be_costs_nothing(ledger: Ledger) -> None:
    ledger.begin(entry(), PLENTY, 0, NOW)
    ledger.void("box", "hetzner", NOW + SECOND)
    assert ledger.entries() == (replace(entry(), ended_at=NOW + SECOND, eur_per_hour=0.0),)
    assert ledger.eur_within_a_day(NOW) == 0.0


def test_nothing_was_asked_for_yet(ledger: Ledger) -> None:
    assert ledger.entries() == ()
    assert ledger.eur_within_a_day(NOW) == 0.0


@pytest.mark.parametrize(
    "line",
    ["nonsense", "[]", "null", '{"name": "a"}', "[" * 100_000]
    + [
        json.dumps({"name": "a", "eur_per_hour": price, "begun_at": started, "due_at": started, "ended_at": None})
        for price, started in ((1, "2026-11-20T12:00"), (1, "soon"), ("dear", "2026-11-20T12:00+00:00"), (1, 5))
    ],
    ids=lambda line: line[:20],
)
def test_a_damaged_line_is_refused_by_its_number_unless_it_is_a_torn_last_one(ledger: Ledger, line: str) -> None:
    ledger.begin(entry("a"), PLENTY, 0, NOW)
    whole = ledger.path.read_text()
    ledger.path.write_text(f"{whole}{line}")
    assert ledger.entries() == (entry("a"),)
    ledger.path.write_text(f"{whole}{line}\n{whole}")
    with pytest.raises(WorkerError, match="line 2 is damaged"):
        ledger.entries()
    ledger.path.write_text(f"{line}\n{whole}")
    with pytest.raises(WorkerError, match="line 1 is damaged"):
        ledger.entries()


def test_a_torn_last_line_gives_way_to_the_next(ledger: Ledger) -> None:
    ledger.begin(entry("a"), PLENTY, 0, NOW)
    with ledger.path.open("a") as file:
        file.write('{"name": "tor')
    ledger.begin(entry("b"), PLENTY, 0, NOW)
    assert ledger.entries() == (entry("a"), entry("b"))
    assert len(ledger.path.read_text().splitlines()) == 2


@pytest.mark.parametrize("act", ["begin", "end", "void"])
def test_nothing_is_written_while_another_process_writes(ledger: Ledger, act: str) -> None:
    import threading

    ledger.begin(entry("a"), PLENTY, 0, NOW)
    before = ledger.path.read_text()
    acts = {
        "begin": lambda: ledger.begin(entry("b"), PLENTY, 0, NOW),
        "end": lambda: ledger.end("a", "hetzner", NOW),
        "void": lambda: ledger.void("a", "hetzner", NOW),
    }
    with ledger.path.with_suffix(".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = threading.Thread(target=acts[act])
        waiting.start()
        waiting.join(0.1)
        assert waiting.is_alive() and ledger.path.read_text() == before
    waiting.join(10)
    assert ledger.path.read_text() != before
