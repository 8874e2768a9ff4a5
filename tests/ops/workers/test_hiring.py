"""Creating workers: caps, the choice of offers, and no worker left behind after any error."""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ops.journal.journal import Journal
from ops.journal.run import RunStatus
from ops.workers.caps import Caps, Entry, Ledger
from ops.workers.errors import NoCapacityError, WorkerError
from ops.workers.hiring import Hire, create, destroy, ignore_signals, reap, temporary_worker
from ops.workers.keys import KeyPair, new_key
from ops.workers.labels import owner_of, worker_name
from ops.workers.provider import SIZES, Provider
from ops.workers.providers import hetzner as module
from ops.workers.settings import WorkerSettings
from ops.workers.view import rows_of, take_workers
from tests.ops.workers.conftest import PAUSE_S
from tests.support.fake_cloud import Fault
from tests.support.fake_hetzner import TOKEN, TYPES, FakeHetzner

OWNER = owner_of(Path("/somewhere/data"), "Box.example")
NAME = worker_name(OWNER, "extract")
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIclient"

Hiring = Callable[..., Hire]


@pytest.fixture(scope="module")
def host_key() -> KeyPair:
    return new_key()


@pytest.fixture
def hiring(fake: FakeHetzner, tmp_path: Path) -> Hiring:
    def make(**environ: str) -> Hire:
        workers = WorkerSettings.from_environ({"HETZNER_TOKEN": TOKEN, **environ})
        provider = module.provider(fake.values(), pause_s=PAUSE_S)
        return Hire(provider, workers, OWNER, Ledger(tmp_path / "workers.jsonl"))

    return make


def test_the_cheapest_that_fits_is_taken(fake: FakeHetzner, hiring: Hiring, host_key: KeyPair):
    created = create(hiring(), NAME, SIZES["extract"], 1, PUBLIC_KEY, host_key)
    assert created.type == "cpx22"
    assert (
        create(hiring(), worker_name(OWNER, "run-all"), SIZES["run-all"], 1, PUBLIC_KEY + "2", host_key).type == "cpx32"
    )


def test_the_preferred_location_is_taken_among_equals(fake: FakeHetzner, hiring: Hiring, host_key: KeyPair):
    hire = hiring(MATERIA_WORKER_LOCATIONS="hel1,nbg1")
    assert create(hire, NAME, SIZES["extract"], 1, PUBLIC_KEY, host_key).location == "hel1"


def test_the_ladder_ends(fake: FakeHetzner, hiring: Hiring, host_key: KeyPair):
    fake.misbehave(*[Fault("POST", "/servers", code="resource_unavailable")] * 100)
    with pytest.raises(NoCapacityError, match="no capacity: all 8 offers failed"):
        create(hiring(), NAME, SIZES["extract"], 1, PUBLIC_KEY, host_key)
    assert fake.creations == 0


def test_a_busy_robot_leads_to_the_next_offer_and_is_waited_out_in_a_list(
    fake: FakeHetzner, hiring: Hiring, host_key: KeyPair
):
    fake.misbehave(Fault("POST", "/servers", code="robot_unavailable"))
    fake.misbehave(Fault("GET", "/servers", code="robot_unavailable"))
    create(hiring(), NAME, SIZES["extract"], 1, PUBLIC_KEY, host_key)
    assert fake.creations == 1


def test_the_price_is_todays(fake: FakeHetzner, hiring: Hiring, host_key: KeyPair, monkeypatch: pytest.MonkeyPatch):
    for name, (cores, memory_gb, _, locations) in TYPES.items():
        monkeypatch.setitem(TYPES, name, (cores, memory_gb, 9.0, locations))
    with pytest.raises(WorkerError, match=r"costs 9\.0010 EUR/h"):
        create(hiring(), NAME, SIZES["extract"], 1, PUBLIC_KEY, host_key)


def test_a_days_money_is_spent_once(fake: FakeHetzner, hiring: Hiring, host_key: KeyPair):
    hire = hiring(MATERIA_WORKER_MAX_EUR_PER_DAY="0.065", MATERIA_WORKER_TTL_MINUTES="120")
    created = 0
    with pytest.raises(WorkerError, match="the caps allow"):
        for _ in range(20):
            create(hire, NAME, SIZES["extract"], 1, PUBLIC_KEY, host_key)
            destroy(hire, NAME)
            created += 1
    # 0.013 EUR for each begun hour so far, and room for two hours of one more.
    assert created == 4
    assert fake.creations == 4


def test_a_ledger_with_a_torn_last_line_goes_on_and_a_damaged_one_refuses(tmp_path: Path):
    ledger, now = Ledger(tmp_path / "workers.jsonl"), datetime.now(UTC)
    entry = Entry("a", 0.01, now, now + timedelta(hours=2))
    ledger.begin(entry, Caps(2, 1, 1), 0, now)
    with ledger.path.open("a") as file:
        file.write('{"name": "tor')
    assert ledger.entries() == (entry,)
    ledger.begin(replace(entry, name="b"), Caps(2, 1, 1), 0, now)
    assert [each.name for each in ledger.entries()] == ["a", "b"]
    ledger.path.write_text("nonsense\n" + ledger.path.read_text())
    with pytest.raises(WorkerError, match="line 1 is damaged"):
        ledger.entries()


def test_a_leftover_worker_counts_as_spent_while_it_exists(tmp_path: Path):
    ledger, then = Ledger(tmp_path / "workers.jsonl"), datetime.now(UTC)
    ledger.begin(Entry("a", 0.01, then, then + timedelta(hours=2), provider="hetzner"), Caps(2, 1, 1), 0, then)
    assert ledger.leave("a", "hetzner", then + timedelta(hours=1), "Hetzner did not answer") == 0.01
    two_days_later = then + timedelta(hours=48)
    (entry,) = ledger.unconfirmed(two_days_later)
    assert entry.warning().startswith("Hetzner did not answer; worker a may still exist and costs 0.0100 EUR/h (0.24")
    assert ledger.eur_within_a_day(two_days_later) == pytest.approx(0.48)
    ledger.confirm_gone("hetzner", ["a"], two_days_later)
    assert ledger.unconfirmed(two_days_later) == (entry,)
    ledger.confirm_gone("hetzner", [], two_days_later)
    assert ledger.unconfirmed(two_days_later) == ()


def test_an_expired_worker_without_confirmed_destruction_is_reported(tmp_path: Path):
    ledger, then = Ledger(tmp_path / "workers.jsonl"), datetime.now(UTC)
    ledger.begin(Entry("a", 0.01, then, then + timedelta(hours=2), provider="hetzner"), Caps(2, 1, 1), 0, then)
    assert ledger.unconfirmed(then + timedelta(hours=1)) == ()
    (entry,) = ledger.unconfirmed(then + timedelta(hours=3))
    assert "never confirmed" in entry.warning()


def test_reaping_takes_what_outlived_its_time_and_nothing_else(
    fake: FakeHetzner, hiring: Hiring, host_key: KeyPair, journal: Journal
):
    hire = hiring(MATERIA_WORKER_MAX_COUNT="10")
    other = replace(hire, owner="other-123456")
    running = journal.begin("extract")
    mine = worker_name(OWNER, "extract")
    theirs = worker_name(other.owner, "extract")
    by_hand = worker_name(OWNER, "by-hand")
    create(hire, mine, SIZES["extract"], running.id, PUBLIC_KEY + "1", host_key)
    create(other, theirs, SIZES["extract"], running.id + 1, PUBLIC_KEY + "2", host_key)
    create(hire, by_hand, SIZES["extract"], None, PUBLIC_KEY + "3", host_key)
    fake.foreign("database", labels={"materia-created": "1", "materia-ttl-s": "1"})
    now = datetime.now(UTC)
    assert reap(hire, journal, now) == ()
    journal.finish(running.id, RunStatus.DONE)
    assert reap(hire, journal, now) == (mine,)
    assert reap(hire, journal, now + timedelta(hours=2, minutes=1)) == (by_hand,)
    assert reap(hire, journal, now + timedelta(hours=3)) == (theirs,)
    assert [each["name"] for each in fake.state.everything] == ["database"]


def test_the_rows_say_what_a_worker_costs_and_when_it_ends(fake: FakeHetzner, hiring: Hiring, host_key: KeyPair):
    hire = hiring()
    created = create(hire, NAME, SIZES["extract"], 7, PUBLIC_KEY, host_key)
    (row,) = rows_of(hire.provider, created.labels.created_at + timedelta(minutes=61))
    assert (row.id, row.run_id, row.state, row.eur_per_h, row.eur_so_far) == (NAME, 7, "running", 0.013, 0.026)
    assert row.expires_at == created.labels.created_at + timedelta(hours=2)


def test_without_a_token_the_rows_say_so():
    found = take_workers(WorkerSettings.from_environ({}), datetime.now(UTC))
    assert found.rows == ()
    assert "credentials" in (found.unavailable or "")
    assert found.next_step.startswith("esc run")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("is_interrupted", [True, False])
def test_a_second_signal_does_not_cut_short_the_destruction(
    fake: FakeHetzner, hiring: Hiring, host_key: KeyPair, number: int, is_interrupted: bool
):
    hire = hiring()
    destroying = _SignalledWhileDestroying(hire.provider, number)
    before = {each: signal.signal(each, _interrupt) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        with (
            suppress(KeyboardInterrupt),
            temporary_worker(replace(hire, provider=destroying), NAME, SIZES["extract"], 1, host_key, host_key) as make,
        ):
            make()
            assert len(hire.provider.list_instances()) == 1
            if is_interrupted:
                os.kill(os.getpid(), number)
        # Afterwards signals are heeded as before.
        assert {each: signal.getsignal(each) for each in before} == dict.fromkeys(before, _interrupt)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert destroying.signalled == 1
    assert not hire.provider.list_belongings() and not hire.provider.list_instances()
    assert [each.ended_at is not None for each in hire.ledger.entries()] == [True]


def test_a_destruction_in_another_thread_leaves_signals_alone():
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    def work() -> None:
        with ignore_signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert seen == [before]


class _SignalledWhileDestroying:
    """The real provider; a signal arrives as it is asked to destroy a machine."""

    def __init__(self, provider: Provider, number: int) -> None:
        self._provider = provider
        self._number = number
        self.signalled = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._provider, name)

    def destroy_instance(self, name: str, within_s: float) -> None:
        self.signalled += 1
        os.kill(os.getpid(), self._number)
        self._provider.destroy_instance(name, within_s)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
