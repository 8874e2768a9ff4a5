"""Having workers: caps, the ladder, nothing left behind whatever goes wrong."""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ops.journal import Journal
from ops.run import RunStatus
from ops.workers import hetzner as module
from ops.workers.caps import Caps, Entry, Ledger
from ops.workers.errors import CapError, ForeignError, NoCapacityError, WorkerError
from ops.workers.hiring import Hire, create, destroy, hired, leftovers, reap
from ops.workers.keys import KeyPair, new_key
from ops.workers.labels import owner_of, worker_name
from ops.workers.provider import SIZES
from ops.workers.settings import WorkerSettings
from ops.workers.view import rows_of, take_workers
from tests.ops.workers.conftest import PAUSE_S
from tests.support.fake_hetzner import TOKEN, TYPES, FakeHetzner, Fault

OWNER = owner_of(Path("/somewhere/data"), "Box.example")
NAME = worker_name(OWNER, "extract")
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIclient"
SEEDS = 200

Hiring = Callable[..., Hire]


@pytest.fixture(scope="module")
def host_key() -> KeyPair:
    return new_key()


@pytest.fixture
def hiring(fake: FakeHetzner, tmp_path: Path) -> Hiring:
    def make(**environ: str) -> Hire:
        workers = WorkerSettings.from_environ({"HETZNER_TOKEN": TOKEN, **environ})
        provider = module.provider(TOKEN, fake.url, pause_s=PAUSE_S)
        return Hire(provider, workers, OWNER, Ledger(tmp_path / "workers.jsonl"))

    return make


def test_the_cheapest_that_fits_is_taken(fake: FakeHetzner, hiring: Hiring, host_key: KeyPair):
    made = create(hiring(), NAME, SIZES["extract"], 1, PUBLIC_KEY, host_key)
    assert made.type == "cpx22"
    assert (
        create(hiring(), worker_name(OWNER, "run-all"), SIZES["run-all"], 1, PUBLIC_KEY + "2", host_key).type == "cpx32"
    )


def test_the_preferred_location_is_taken_among_equals(fake: FakeHetzner, hiring: Hiring, host_key: KeyPair):
    hire = hiring(MATERIA_WORKER_LOCATIONS="hel1,nbg1")
    assert create(hire, NAME, SIZES["extract"], 1, PUBLIC_KEY, host_key).location == "hel1"


def test_short_capacity_is_climbed_around(fake: FakeHetzner, hiring: Hiring, host_key: KeyPair):
    fake.misbehave(*[Fault("POST", "/servers", code="resource_unavailable")] * 3)
    made = create(hiring(), NAME, SIZES["extract"], 1, PUBLIC_KEY, host_key)
    assert made.type == "ccx13"
    assert [len(fake.state.servers), len(fake.state.ssh_keys), len(fake.state.firewalls)] == [1, 1, 1]
    # What never came to be costs nothing.
    assert hiring().ledger.eur_within_a_day(datetime.now(UTC)) == pytest.approx(2 * 0.026)


def test_the_ladder_ends(fake: FakeHetzner, hiring: Hiring, host_key: KeyPair):
    fake.misbehave(*[Fault("POST", "/servers", code="resource_unavailable")] * 100)
    with pytest.raises(NoCapacityError, match="none of 8 offers"):
        create(hiring(), NAME, SIZES["extract"], 1, PUBLIC_KEY, host_key)
    assert fake.creations == 0


@pytest.mark.parametrize(
    "setting", ["MATERIA_WORKER_MAX_EUR_PER_RUN", "MATERIA_WORKER_MAX_EUR_PER_DAY", "MATERIA_WORKER_MAX_COUNT"]
)
def test_what_would_pass_a_cap_is_not_asked_for(fake: FakeHetzner, hiring: Hiring, host_key: KeyPair, setting: str):
    limit = "0" if setting.endswith("COUNT") else "0.02"
    with pytest.raises(CapError, match="MATERIA_WORKER_MAX"):
        create(hiring(**{setting: limit}), NAME, SIZES["extract"], 1, PUBLIC_KEY, host_key)
    assert not any(method == "POST" for method, _ in fake.requests)


def test_the_price_is_todays(fake: FakeHetzner, hiring: Hiring, host_key: KeyPair, monkeypatch: pytest.MonkeyPatch):
    for name, (cores, memory_gb, _, locations) in TYPES.items():
        monkeypatch.setitem(TYPES, name, (cores, memory_gb, 9.0, locations))
    with pytest.raises(CapError, match=r"costs 9\.0010 EUR an hour"):
        create(hiring(), NAME, SIZES["extract"], 1, PUBLIC_KEY, host_key)


def test_a_days_money_is_spent_once(fake: FakeHetzner, hiring: Hiring, host_key: KeyPair):
    hire = hiring(MATERIA_WORKER_MAX_EUR_PER_DAY="0.065", MATERIA_WORKER_TTL_MINUTES="120")
    made = 0
    with pytest.raises(CapError):
        for _ in range(20):
            create(hire, NAME, SIZES["extract"], 1, PUBLIC_KEY, host_key)
            destroy(hire, NAME)
            made += 1
    # 0.013 EUR for each begun hour so far, and room for two hours of one more.
    assert made == 4
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


class Died(BaseException):
    """Stands for the end of the process: nobody cleans up."""


PATHS = ("/servers", "/ssh_keys", "/firewalls", r"/servers/\d+", r"/ssh_keys/\d+", r"/firewalls/\d+", "/server_types")


def faults(chance: random.Random) -> Iterator[Fault]:
    for _ in range(chance.choice([0, 1, 2, 4, 8])):
        method = chance.choice(["GET", "POST", "DELETE"])
        code = chance.choice(
            [
                "rate_limit_exceeded",
                "service_error",
                "unavailable",
                "resource_unavailable",
                "uniqueness_error",
                None,
                None,
            ]
        )
        yield Fault(method, chance.choice(PATHS), code=code, cut=None if code else chance.choice(["before", "after"]))


def live(hire: Hire, fake: FakeHetzner, chance: random.Random, run_id: int, host_key: KeyPair) -> None:
    """One life of a worker, ended somewhere, somehow."""
    end = chance.choice(["done", "done", "error", "interrupt", "death", "death"])
    public_key = f"{PUBLIC_KEY}{run_id}"
    fake.misbehave(*faults(chance))
    if end == "death":
        # A process that dies leaves as much as it had done, and its ledger as it was.
        fake.misbehave(Fault(*chance.choice([("POST", "/servers"), ("POST", "/ssh_keys")]), cut="after"))
        if chance.random() < 0.5:
            hire.provider.create_instance(
                _order(hire, run_id, public_key, host_key), chance.choice(hire.provider.offers())
            )
        else:
            create(hire, NAME, SIZES["extract"], run_id, public_key, host_key)
        raise Died
    with hired(hire, NAME, SIZES["extract"], run_id, KeyPair("", public_key), host_key) as make:
        make()
        fake.misbehave(*faults(chance))
        if end == "error":
            raise WorkerError("something went wrong")
        if end == "interrupt":
            raise KeyboardInterrupt


def _order(hire: Hire, run_id: int, public_key: str, host_key: KeyPair):
    from ops.workers.labels import Labels
    from ops.workers.provider import Order

    now = datetime.now(UTC).replace(microsecond=0)
    labels = Labels(hire.owner, run_id, now, hire.workers.ttl, host_key.short)
    return Order(NAME, labels, public_key, "#cloud-config\n{}\n", 22, ("0.0.0.0/0",))


def test_after_hundreds_of_random_lives_nothing_is_left_and_nothing_foreign_is_missing(
    fake: FakeHetzner,
    hiring: Hiring,
    host_key: KeyPair,
    journal: Journal,
    monkeypatch: pytest.MonkeyPatch,
):
    # hcloud waits seconds for a rate limit; how long is its own affair.
    monkeypatch.setattr("hcloud._client.exponential_backoff_function", lambda **_: lambda retries: 0.001)
    hire = hiring(MATERIA_WORKER_MAX_EUR_PER_DAY="1000", MATERIA_WORKER_MAX_COUNT="1")
    foreign = [fake.foreign("database"), fake.foreign("admin", "ssh_keys"), fake.foreign("wall", "firewalls")]
    outcomes: dict[str, int] = {}
    left_by_a_life = 0
    for seed in range(SEEDS):
        chance = random.Random(seed)
        run = journal.begin("extract")
        try:
            live(hire, fake, chance, run.id, host_key)
            outcome, status = "done", RunStatus.DONE
        except (Died, KeyboardInterrupt, WorkerError, NoCapacityError, ForeignError) as error:
            outcome, status = type(error).__name__, RunStatus.FAILED
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        assert len(fake.state.servers) <= 2, f"seed {seed}: more than one worker at once"
        journal.finish(run.id, status)
        left_by_a_life += len(fake.state.everything) > len(foreign)
        fake.behave()
        # The next start, of a process that knows nothing of what was before.
        reap(hire, journal, datetime.now(UTC))
        assert sorted(each["id"] for each in fake.state.everything) == sorted(foreign), f"seed {seed} leaked"
        assert leftovers(hire, journal, datetime.now(UTC)) == ()
    assert min(outcomes.get(each, 0) for each in ("done", "Died", "KeyboardInterrupt", "WorkerError")) >= 10, outcomes
    assert left_by_a_life >= 20


def test_the_rows_say_what_a_worker_costs_and_when_it_ends(fake: FakeHetzner, hiring: Hiring, host_key: KeyPair):
    hire = hiring()
    made = create(hire, NAME, SIZES["extract"], 7, PUBLIC_KEY, host_key)
    (row,) = rows_of(hire.provider, made.labels.created_at + timedelta(minutes=61)).rows
    assert (row.id, row.run_id, row.state, row.eur_per_h, row.eur_so_far) == (NAME, 7, "running", 0.013, 0.026)
    assert row.expires_at == made.labels.created_at + timedelta(hours=2)


def test_without_a_token_the_rows_say_so():
    found = take_workers(WorkerSettings.from_environ({}), datetime.now(UTC))
    assert found.rows == ()
    assert "token" in (found.unavailable or "")
    assert found.next_step.startswith("esc run")
