"""What every provider promises, each through its real client against a stand-in held to its published description."""

import random
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dataflows.errors import SettingsError
from ops.config.table import needed_by
from ops.journal.journal import Journal
from ops.journal.run import RunStatus
from ops.workers.caps import Ledger
from ops.workers.errors import ForeignError, NoCapacityError, WorkerError
from ops.workers.hiring import Hire, create, reap, temporary_worker
from ops.workers.keys import KeyPair, new_key
from ops.workers.labels import Labels, owner_of, worker_name
from ops.workers.provider import SIZES, Offer, Order, select_offers
from ops.workers.settings import WorkerSettings, provider_of
from tests.ops.workers.conftest import an_order
from tests.support.clouds import NAMES, CloudUnderTest, cloud_under_test
from tests.support.fake_cloud import Fault

OWNER = owner_of(Path("/somewhere/data"), "Box.example")
NAME = worker_name(OWNER, "extract")
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIclient"
SEEDS = 30
"""Random lives for each provider: 120 in all."""


@pytest.fixture(params=NAMES)
def cloud(request: pytest.FixtureRequest) -> Iterator[CloudUnderTest]:
    with cloud_under_test(request.param) as found:
        yield found


@pytest.fixture(scope="module")
def host_key() -> KeyPair:
    return new_key()


def cheapest(cloud: CloudUnderTest) -> Offer:
    return select_offers(cloud.provider.offers(), SIZES["extract"], (), 100)[0]


def hire_at(cloud: CloudUnderTest, folder: Path, **environ: str) -> Hire:
    workers = WorkerSettings.from_environ({**cloud.environ, **environ})
    return Hire(cloud.provider, workers, OWNER, Ledger(folder / "workers.jsonl"))


def kinds(cloud: CloudUnderTest) -> list[str]:
    return sorted(kind for kind, _ in cloud.fake.held)


def operations(cloud: CloudUnderTest, *verbs: str) -> list[str]:
    return [each for each in cloud.fake.OPERATIONS if each.split()[0] in verbs]


def test_offers_are_what_the_bill_will_say(cloud: CloudUnderTest) -> None:
    offered = {(each.type, each.location): each.eur_per_hour for each in cloud.provider.offers()}
    assert offered == {key: pytest.approx(eur, abs=1e-6) for key, eur in cloud.prices.items()}


def test_every_size_is_offered(cloud: CloudUnderTest) -> None:
    for size in SIZES.values():
        offer = select_offers(cloud.provider.offers(), size, (), 100)[0]
        assert offer.cores >= size.cores and offer.memory_gb >= size.memory_gb


def test_a_machine_is_created_listed_and_destroyed(cloud: CloudUnderTest) -> None:
    offer, order = cheapest(cloud), an_order()
    created = cloud.provider.create_instance(order, offer)
    assert (created.name, created.labels, created.provider) == (order.name, order.labels, cloud.name)
    assert (created.type, created.location, created.eur_per_hour) == (offer.type, offer.location, offer.eur_per_hour)
    assert created.ip is not None
    assert cloud.provider.list_instances() == (created,)
    assert {(each.name, each.labels) for each in cloud.provider.list_belongings()} == {(order.name, order.labels)}
    cloud.provider.destroy_instance(order.name)
    assert cloud.fake.held == []
    cloud.provider.destroy_instance(order.name)


def test_cloud_init_input_arrives_complete_and_only_ssh_is_allowed(cloud: CloudUnderTest) -> None:
    order = replace(an_order(), user_data='#cloud-config\n{"a": "ü\\n"}\n', ssh_port=2222, ssh_from=("203.0.113.7/32",))
    cloud.provider.create_instance(order, cheapest(cloud))
    if cloud.name == "hetzner":
        (rule,) = next(iter(cloud.fake.state.firewalls.values()))["rules"]
        assert (rule["port"], rule["source_ips"]) == ("2222", ["203.0.113.7/32"])
        return
    assert list(cloud.fake.user_data.values()) == [order.user_data]
    match cloud.name:
        case "ovh":
            (rule,) = next(iter(cloud.fake.firewalls.values()))["security_group_rules"]
            ports, source = (rule["port_range_min"], rule["port_range_max"]), rule["remote_ip_prefix"]
        case "scaleway":
            assert next(iter(cloud.fake.firewalls.values()))["inbound_default_policy"] == "drop"
            ((rule,),) = cloud.fake.rules.values()
            ports, source = (rule["dest_port_from"], rule["dest_port_from"]), rule["ip_range"]
        case _:
            ((rule,),) = cloud.fake.rules.values()
            port_range = rule["tcpOptions"]["destinationPortRange"]
            ports, source = (port_range["min"], port_range["max"]), rule["source"]
    assert (ports, source) == ((2222, 2222), "203.0.113.7/32")


def test_a_lost_answer_makes_no_second_one(cloud: CloudUnderTest) -> None:
    cloud.provider.create_instance(an_order(), cheapest(cloud))
    once = kinds(cloud)
    cloud.provider.destroy_instance(an_order().name)
    for operation in operations(cloud, "create", "rule", "start", "tag"):
        cloud.fake.misbehave(cloud.fake.fault(operation, cut="after"))
        cloud.provider.create_instance(an_order(), cheapest(cloud))
        assert kinds(cloud) == once, operation
        cloud.provider.destroy_instance(an_order().name)
        assert cloud.fake.held == []


def test_leftovers_of_an_earlier_worker_are_replaced(cloud: CloudUnderTest) -> None:
    old = cloud.provider.create_instance(an_order(host_key="old"), cheapest(cloud))
    once = kinds(cloud)
    new = cloud.provider.create_instance(an_order(host_key="new"), cheapest(cloud))
    assert new.id != old.id
    assert cloud.provider.list_instances() == (new,)
    assert {each.labels.host_key for each in cloud.provider.list_belongings()} == {"new"}
    assert kinds(cloud) == once


def test_a_deletion_that_fails_is_retried_for_as_long_as_is_promised(cloud: CloudUnderTest) -> None:
    cloud.provider.create_instance(an_order(), cheapest(cloud))
    # More failures than a single request is repeated.
    cloud.fake.misbehave(*[cloud.fake.fault("delete server", code="service_error")] * 12)
    cloud.fake.misbehave(*[cloud.fake.fault("list server", code="service_error")] * 12)
    cloud.provider.destroy_instance(an_order().name)
    assert cloud.fake.held == []
    cloud.provider.create_instance(an_order(), cheapest(cloud))
    cloud.fake.misbehave(*[cloud.fake.fault("delete server", code="service_error")] * 100_000)
    before = time.monotonic()
    with pytest.raises(WorkerError, match=f"did not delete the server {an_order().name}"):
        cloud.provider.destroy_instance(an_order().name, 0.2)
    assert time.monotonic() - before < 30
    assert any(kind.startswith("server") for kind, _ in cloud.fake.held)


@pytest.mark.parametrize("kind", ["servers", "firewalls"])
def test_machines_without_our_label_are_never_touched(cloud: CloudUnderTest, kind: str) -> None:
    cloud.fake.foreign(an_order().name, kind)
    there = cloud.fake.held
    with pytest.raises(ForeignError, match="not touched"):
        cloud.provider.create_instance(an_order(), cheapest(cloud))
    with pytest.raises(ForeignError):
        cloud.provider.destroy_instance(an_order().name)
    assert set(there) <= set(cloud.fake.held)
    assert cloud.provider.list_instances() == ()


def test_a_passing_trouble_is_waited_out_at_every_step(cloud: CloudUnderTest) -> None:
    offer = cheapest(cloud)
    for operation in operations(cloud, "list", "create", "rule", "start", "tag", "delete"):
        if operation in ("list types", "list prices"):
            continue
        faults = [{"code": "service_error"}, {"cut": "before"}, {"code": "unavailable"}]
        cloud.fake.misbehave(*(cloud.fake.fault(operation, **each) for each in faults))
        cloud.provider.create_instance(an_order(), offer)
        assert kinds(cloud).count("server") + kinds(cloud).count("servers") == 1
        cloud.provider.destroy_instance(an_order().name)
        assert cloud.fake.held == [], operation
        cloud.fake.behave()


def test_prices_that_cannot_be_had_are_no_free_machines(cloud: CloudUnderTest) -> None:
    operation = "list prices" if "list prices" in cloud.fake.OPERATIONS else "list types"
    cloud.fake.misbehave(*[cloud.fake.fault(operation, code="service_error")] * 4)
    with pytest.raises(WorkerError):
        cloud.provider.offers()


def test_no_capacity_has_an_error_of_its_own_and_leaves_no_machine(cloud: CloudUnderTest) -> None:
    offer = cheapest(cloud)
    cloud.fake.misbehave(cloud.fake.fault("create server", code="resource_unavailable"))
    with pytest.raises(NoCapacityError, match=offer.type):
        cloud.provider.create_instance(an_order(), offer)
    if hasattr(cloud.fake, "no_room"):
        # Most say only afterwards that there is no room for what they made.
        cloud.fake.no_room = 1
        with pytest.raises(NoCapacityError, match=offer.type):
            cloud.provider.create_instance(an_order(), offer)
        assert cloud.fake.creations == 1
    assert set(kinds(cloud)) <= {"firewall", "firewalls", "ssh_keys"}


def test_wrong_credentials_are_reported_by_name_without_a_retry(cloud: CloudUnderTest) -> None:
    settings = WorkerSettings.from_environ(cloud.wrong_environ)
    with pytest.raises(WorkerError) as refused:
        provider_of(cloud.name, settings).list_instances()
    changed = next(name for name in cloud.environ if cloud.environ[name] != cloud.wrong_environ[name])
    assert changed in str(refused.value)
    assert cloud.secret not in str(refused.value) + repr(refused.value.__cause__) + repr(settings)


def test_each_missing_credential_is_named(cloud: CloudUnderTest) -> None:
    for missing in needed_by(cloud.name):
        environ = {name: value for name, value in cloud.environ.items() if name != missing}
        with pytest.raises(SettingsError, match=rf"{cloud.name} needs {missing}, which is not set"):
            provider_of(cloud.name, WorkerSettings.from_environ(environ))


# Any text may be a token of Hetzner's or a password of OVH's.
@pytest.mark.parametrize("cloud", ["scaleway", "oracle"], indirect=True)
def test_credentials_that_are_no_such_thing_are_refused_without_being_quoted(cloud: CloudUnderTest) -> None:
    secret = {"scaleway": "SCW_SECRET_KEY", "oracle": "OCI_CLI_KEY_CONTENT"}[cloud.name]
    settings = WorkerSettings.from_environ({**cloud.environ, secret: "no-such-thing"})
    with pytest.raises(SettingsError, match=secret) as refused:
        provider_of(cloud.name, settings)
    assert "no-such-thing" not in f"{refused.value} {refused.value.__cause__}"


def test_without_its_client_the_extra_is_named(cloud: CloudUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    package = {"hetzner": "hcloud", "ovh": "openstack", "scaleway": "scaleway_core", "oracle": "oci"}[cloud.name]
    for module in [each for each in sys.modules if each.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SettingsError, match=rf"{package}.* is not installed; .*clouds"):
        provider_of(cloud.name, WorkerSettings.from_environ(cloud.environ))


@pytest.mark.parametrize("code", ["resource_unavailable", "unsupported_location", "invalid_server_type"])
def test_a_refusal_of_an_offer_leads_to_the_next_offer(
    cloud: CloudUnderTest, host_key: KeyPair, tmp_path: Path, code: str
) -> None:
    rungs = select_offers(cloud.provider.offers(), SIZES["extract"], (), 100)
    hire = hire_at(cloud, tmp_path)
    cloud.fake.misbehave(*[cloud.fake.fault("create server", code=code)] * 2)
    created = create(hire, NAME, SIZES["extract"], 1, PUBLIC_KEY, host_key)
    assert (created.type, created.location) == (rungs[2].type, rungs[2].location)
    # What never came to be costs nothing.
    assert hire.ledger.eur_within_a_day(datetime.now(UTC)) == pytest.approx(2 * rungs[2].eur_per_hour)
    cloud.provider.destroy_instance(NAME)
    assert cloud.fake.held == []


def test_a_wrong_input_ends_the_attempt_at_the_first_offer(
    cloud: CloudUnderTest, host_key: KeyPair, tmp_path: Path
) -> None:
    cloud.fake.misbehave(*[cloud.fake.fault("create server", code="invalid_input")] * 2)
    with pytest.raises(WorkerError, match="did not create") as refused:
        create(hire_at(cloud, tmp_path), NAME, SIZES["extract"], 1, PUBLIC_KEY, host_key)
    assert not isinstance(refused.value, NoCapacityError)
    method, path = cloud.fake.OPERATIONS["create server"]
    asked = [each for each in cloud.fake.requests if each[0] == method and re.fullmatch(path, each[1])]
    assert len(asked) == 1


# Where a firewall belongs to a place, its quota does as well.
@pytest.mark.parametrize("cloud", ["ovh", "scaleway"], indirect=True)
def test_a_quota_of_firewalls_in_one_place_leads_to_the_next_place(
    cloud: CloudUnderTest, host_key: KeyPair, tmp_path: Path
) -> None:
    cloud.fake.misbehave(cloud.fake.fault("create firewall", code="resource_unavailable"))
    first = select_offers(cloud.provider.offers(), SIZES["extract"], (), 100)[0]
    created = create(hire_at(cloud, tmp_path), NAME, SIZES["extract"], 1, PUBLIC_KEY, host_key)
    assert (created.type, created.location) != (first.type, first.location)


@pytest.mark.parametrize(
    "setting", ["MATERIA_WORKER_MAX_EUR_PER_RUN", "MATERIA_WORKER_MAX_EUR_PER_DAY", "MATERIA_WORKER_MAX_COUNT"]
)
def test_a_machine_that_would_exceed_a_cap_is_not_requested(
    cloud: CloudUnderTest, host_key: KeyPair, tmp_path: Path, setting: str
) -> None:
    hire = hire_at(cloud, tmp_path, **{setting: "0" if setting.endswith("COUNT") else "0.02"})
    with pytest.raises(WorkerError, match="MATERIA_WORKER_MAX"):
        create(hire, NAME, SIZES["extract"], 1, PUBLIC_KEY, host_key)
    assert cloud.fake.creations == 0 and cloud.fake.held == []


class Died(BaseException):
    """Stands for the end of the process without cleanup."""


CODES = ("rate_limit_exceeded", "service_error", "unavailable", "resource_unavailable", "uniqueness_error", None, None)


def faults(cloud: CloudUnderTest, chance: random.Random) -> Iterator[Fault]:
    for _ in range(chance.choice([0, 1, 2, 4, 8])):
        code = chance.choice(CODES)
        operation = chance.choice(list(cloud.fake.OPERATIONS))
        yield cloud.fake.fault(operation, code, None if code else chance.choice(["before", "after"]))


def live(hire: Hire, cloud: CloudUnderTest, chance: random.Random, run_id: int, host_key: KeyPair) -> None:
    """One life of a worker, ended somewhere, somehow."""
    end = chance.choice(["done", "done", "error", "interrupt", "death", "death"])
    public_key = f"{PUBLIC_KEY}{run_id}"
    cloud.fake.misbehave(*faults(cloud, chance))
    if end == "death":
        # A process that dies leaves as much as it had done, and its ledger as it was.
        cloud.fake.misbehave(cloud.fake.fault(chance.choice(operations(cloud, "create")), cut="after"))
        if chance.random() < 0.5:
            order = _order(hire, run_id, public_key, host_key)
            hire.provider.create_instance(order, chance.choice(hire.provider.offers()))
        else:
            create(hire, NAME, SIZES["extract"], run_id, public_key, host_key)
        raise Died
    with temporary_worker(hire, NAME, SIZES["extract"], run_id, KeyPair("", public_key), host_key) as make:
        make()
        cloud.fake.misbehave(*faults(cloud, chance))
        if end == "error":
            raise WorkerError("something went wrong")
        if end == "interrupt":
            raise KeyboardInterrupt


def _order(hire: Hire, run_id: int, public_key: str, host_key: KeyPair) -> Order:
    now = datetime.now(UTC).replace(microsecond=0)
    labels = Labels(hire.owner, run_id, now, hire.workers.ttl, host_key.short)
    return Order(NAME, labels, public_key, "#cloud-config\n{}\n", 22, ("0.0.0.0/0",))


def test_after_random_lives_nothing_is_left_and_nothing_foreign_is_missing(
    cloud: CloudUnderTest,
    host_key: KeyPair,
    journal: Journal,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # hcloud waits seconds for a rate limit; how long is its own affair.
    monkeypatch.setattr("hcloud._client.exponential_backoff_function", lambda **_: lambda retries: 0.001)
    hire = hire_at(cloud, tmp_path, MATERIA_WORKER_MAX_EUR_PER_DAY="1000", MATERIA_WORKER_MAX_COUNT="1")
    cloud.fake.foreign("database")
    cloud.fake.foreign("wall", "firewalls")
    foreign = cloud.fake.held
    outcomes: dict[str, int] = {}
    left_by_a_life = 0
    for seed in range(SEEDS):
        chance = random.Random(seed)
        run = journal.begin("extract")
        try:
            live(hire, cloud, chance, run.id, host_key)
            outcome, status = "done", RunStatus.DONE
        except (Died, KeyboardInterrupt, WorkerError) as error:
            outcome, status = type(error).__name__, RunStatus.FAILED
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        servers = [kind for kind, _ in cloud.fake.held if kind.startswith("server")]
        assert len(servers) <= 2, f"seed {seed}: more than one worker at once, beside the foreign one"
        journal.finish(run.id, status)
        left_by_a_life += len(cloud.fake.held) > len(foreign)
        cloud.fake.behave()
        # The next start, of a process that knows nothing of what was before.
        reap(hire, journal, datetime.now(UTC))
        assert cloud.fake.held == foreign, f"seed {seed} leaked"
        assert reap(hire, journal, datetime.now(UTC)) == ()
    assert min(outcomes.get(each, 0) for each in ("done", "Died", "KeyboardInterrupt", "WorkerError")) >= 2, outcomes
    assert left_by_a_life >= 5


def test_a_fault_at_any_request_of_a_life_leaves_nothing(
    cloud: CloudUnderTest, journal: Journal, tmp_path: Path
) -> None:
    """A request of a quiet life is lost, or answered and the answer lost, or answered with a failure.

    Each kind of request in turn, the first of it and the last.
    """
    hire, key = hire_at(cloud, tmp_path, MATERIA_WORKER_MAX_EUR_PER_DAY="1000"), new_key()

    def life() -> None:
        with temporary_worker(hire, NAME, SIZES["extract"], run.id, KeyPair("", PUBLIC_KEY), key) as make:
            make()

    run = journal.begin("extract")
    before = len(cloud.fake.requests)
    life()
    requests = cloud.fake.requests[before:]
    kinds_of_fault = ({"cut": "before"}, {"cut": "after"}, {"code": "service_error"}, {"code": "unauthorized"})
    shapes = [(method, re.sub(r"[0-9a-f-]{32,36}|\d+", "N", path)) for method, path in requests]
    firsts = {shapes.index(each) for each in shapes}
    lasts = {len(shapes) - 1 - shapes[::-1].index(each) for each in shapes}
    for number in sorted(firsts | lasts):
        cloud.fake.misbehave_at(number, **kinds_of_fault[number % len(kinds_of_fault)])
        try:
            life()
        except WorkerError:
            # Refused in the middle, it may have had to leave something; the next start has better luck.
            cloud.fake.behave()
            reap(hire, journal, datetime.now(UTC) + timedelta(days=1))
        cloud.fake.behave()
        assert cloud.fake.held == [], f"request {number}: {requests[number]}"
