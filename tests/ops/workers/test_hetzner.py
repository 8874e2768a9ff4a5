"""Hetzner through its real client, against a server that is held to the published description."""

from dataclasses import replace

import pytest

from ops.workers.errors import ForeignError, NoCapacityError, WorkerError
from ops.workers.provider import Provider
from ops.workers.providers import hetzner as module
from tests.ops.workers.conftest import AN_OFFER, PAUSE_S, an_order
from tests.support.fake_cloud import Fault
from tests.support.fake_hetzner import ADDRESS_EUR, TOKEN, TYPES, FakeHetzner


def test_offers_are_every_type_at_every_location_with_its_price_now(hetzner: Provider):
    offers = hetzner.offers()
    assert len(offers) == sum(len(locations) for *_, locations in TYPES.values())
    assert AN_OFFER in offers


def test_the_price_holds_the_address_too(hetzner: Provider):
    prices = {(offer.type, offer.location): offer.eur_per_hour for offer in hetzner.offers()}
    assert prices == {
        (name, place): pytest.approx(eur + ADDRESS_EUR)
        for name, (_, _, eur, places) in TYPES.items()
        for place in places
    }


def test_a_project_that_is_billed_in_another_currency_is_refused(fake: FakeHetzner, hetzner: Provider):
    fake.currency = "USD"
    with pytest.raises(WorkerError, match="in USD"):
        hetzner.offers()


def test_an_offer_that_is_out_of_stock_is_marked_unavailable(fake: FakeHetzner, hetzner: Provider):
    fake.state.unavailable.add(("cpx22", "fsn1"))
    assert [offer for offer in hetzner.offers() if not offer.available] == [replace(AN_OFFER, available=False)]


def test_a_created_server_has_its_labels_key_and_firewall(fake: FakeHetzner, hetzner: Provider):
    order = an_order()
    created = hetzner.create_instance(order, AN_OFFER)
    assert hetzner.list_instances() == (created,)
    assert created.labels == order.labels
    assert (created.type, created.location, created.eur_per_hour) == ("cpx22", "fsn1", 0.013)
    assert {each.kind for each in hetzner.list_belongings()} == {"SSH key", "firewall"}
    (firewall,) = fake.state.firewalls.values()
    (rule,) = firewall["rules"]
    assert (rule["direction"], rule["protocol"], rule["port"]) == ("in", "tcp", "22")
    (server,) = fake.state.servers.values()
    assert [used["id"] for used in server["public_net"]["firewalls"]] == [firewall["id"]]


def test_destroying_leaves_nothing_and_waits_until_it_is_gone(fake: FakeHetzner, hetzner: Provider):
    fake.deletion_s = 0.05
    hetzner.create_instance(an_order(), AN_OFFER)
    hetzner.destroy_instance(an_order().name)
    assert fake.state.everything == []
    hetzner.destroy_instance(an_order().name)


@pytest.mark.parametrize("kind", ["servers", "ssh_keys", "firewalls"])
def test_machines_without_our_label_are_never_touched(fake: FakeHetzner, hetzner: Provider, kind: str):
    fake.foreign(an_order().name, kind, {"managed-by": "somebody"})
    with pytest.raises(ForeignError, match="not touched"):
        hetzner.create_instance(an_order(), AN_OFFER)
    with pytest.raises(ForeignError):
        hetzner.destroy_instance(an_order().name)
    assert [each["name"] for each in getattr(fake.state, kind).values()] == [an_order().name]
    assert hetzner.list_instances() == ()


@pytest.mark.parametrize("path", ["/servers", "/ssh_keys", "/firewalls"])
def test_a_lost_answer_makes_no_second_one(fake: FakeHetzner, hetzner: Provider, path: str):
    fake.misbehave(Fault("POST", path, cut="after"))
    hetzner.create_instance(an_order(), AN_OFFER)
    assert [len(each) for each in (fake.state.servers, fake.state.ssh_keys, fake.state.firewalls)] == [1, 1, 1]


def test_leftovers_of_an_earlier_worker_are_replaced(fake: FakeHetzner, hetzner: Provider):
    old = hetzner.create_instance(an_order(host_key="old"), AN_OFFER)
    new = hetzner.create_instance(an_order(host_key="new"), AN_OFFER)
    assert new.id != old.id
    assert hetzner.list_instances() == (new,)
    assert {each.labels.host_key for each in hetzner.list_belongings()} == {"new"}


@pytest.mark.parametrize("code", ["service_error", "unavailable"])
@pytest.mark.parametrize("method, path", [("GET", "/servers"), ("POST", "/servers"), ("POST", "/ssh_keys")])
def test_a_passing_trouble_is_waited_out(fake: FakeHetzner, hetzner: Provider, method: str, path: str, code: str):
    fake.misbehave(Fault(method, path, code=code), Fault(method, path, cut="before"))
    hetzner.create_instance(an_order(), AN_OFFER)
    assert len(fake.state.servers) == 1


def test_no_capacity_has_an_error_of_its_own(fake: FakeHetzner, hetzner: Provider):
    fake.misbehave(Fault("POST", "/servers", code="resource_unavailable"))
    with pytest.raises(NoCapacityError, match="cpx22 at fsn1"):
        hetzner.create_instance(an_order(), AN_OFFER)


def test_a_wrong_token_is_reported_without_a_retry(fake: FakeHetzner):
    with pytest.raises(WorkerError, match="HETZNER_TOKEN"):
        module.provider(fake.values("wrong"), pause_s=PAUSE_S).list_instances()
    assert len(fake.requests) == 1
    assert TOKEN not in str(fake.requests)


def test_a_rate_limit_is_waited_out(fake: FakeHetzner, hetzner: Provider):
    fake.misbehave(Fault("GET", "/servers", code="rate_limit_exceeded"))
    assert hetzner.list_instances() == ()


@pytest.mark.parametrize("path", [r"/servers/\d+", r"/firewalls/\d+", r"/ssh_keys/\d+"])
@pytest.mark.parametrize("fault", [{"cut": "before"}, {"cut": "after"}, {"code": "service_error"}])
def test_deleting_gets_there_through_trouble(fake: FakeHetzner, hetzner: Provider, path: str, fault: dict[str, str]):
    hetzner.create_instance(an_order(), AN_OFFER)
    fake.misbehave(Fault("DELETE", path, **fault))
    hetzner.destroy_instance(an_order().name)
    assert fake.state.everything == []
