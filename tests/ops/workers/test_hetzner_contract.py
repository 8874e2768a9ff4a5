"""The stand-in for Hetzner is held to our contract, and that to `hcloud` and to the published description."""

from collections.abc import Mapping

import hcloud
import pytest
from hcloud.actions import Action as ClientAction
from hcloud.core.domain import BaseDomain
from hcloud.core.domain import Pagination as ClientPagination
from hcloud.firewalls import BoundFirewall, FirewallRule
from hcloud.firewalls import Firewall as ClientFirewall
from hcloud.locations import Location as ClientLocation
from hcloud.server_types import ServerType as ClientServerType
from hcloud.servers import BoundServer, PublicNetworkFirewall
from hcloud.servers import Server as ClientServer
from hcloud.servers.domain import IPv4Address
from hcloud.ssh_keys import BoundSSHKey, SSHKey

from ops.workers.errors import ForeignError, WorkerError
from ops.workers.provider import Provider
from ops.workers.providers import hetzner as module
from tests.ops.workers.conftest import AN_OFFER, PAUSE_S, an_order
from tests.support import hetzner_contract as contract
from tests.support.fake_hetzner import TOKEN, FakeHetzner
from tests.support.hetzner_description import contract_differences, exchange_faults
from tests.support.real_files import HETZNER_DESCRIPTION, required

READ_BY_CLIENT: Mapping[type[BaseDomain], type[contract.Table]] = {
    ClientServer: contract.Server,
    ClientServerType: contract.ServerType,
    ClientLocation: contract.Location,
    IPv4Address: contract.IPv4,
    SSHKey: contract.Key,
    ClientFirewall: contract.Firewall,
    FirewallRule: contract.Rule,
    ClientAction: contract.Action,
    ClientPagination: contract.Pagination,
}
NOT_SENT = {
    (ClientServer, "placement_group"): "sent only where a server has one",
    (ClientServerType, "included_traffic"): "withdrawn from the API in August 2024",
}


@pytest.mark.parametrize("read", READ_BY_CLIENT, ids=lambda read: read.__name__)
def test_every_field_that_the_client_reads_is_required_by_the_contract(read: type[BaseDomain]) -> None:
    fields = contract_fields(READ_BY_CLIENT[read])
    unfilled = {name for name in read.__api_properties__ if not fields.get(name)}
    assert unfilled == {name for kind, name in NOT_SENT if kind is read}


def test_the_client_reads_from_an_answer_what_the_stand_in_sent(fake: FakeHetzner, hetzner: Provider) -> None:
    hetzner.create_instance(an_order(), AN_OFFER)
    client = hcloud.Client(TOKEN, api_endpoint=fake.url)
    (server,), (key,), (firewall,) = client.servers.get_all(), client.ssh_keys.get_all(), client.firewalls.get_all()
    assert isinstance(server, BoundServer) and isinstance(key, BoundSSHKey) and isinstance(firewall, BoundFirewall)
    (sent,) = fake.state.servers.values()
    assert (server.id, server.name, server.status, server.labels) == tuple(
        sent[name] for name in ("id", "name", "status", "labels")
    )
    assert server.created.isoformat() == sent["created"]
    assert server.public_net.ipv4.ip == sent["public_net"]["ipv4"]["ip"]
    (applied,) = server.public_net.firewalls
    assert isinstance(applied, PublicNetworkFirewall)
    assert (applied.firewall.id, applied.status) == (firewall.id, "applied")
    assert (server.location.name, server.server_type.name) == (AN_OFFER.location, AN_OFFER.type)
    assert server.server_type.prices == sent["server_type"]["prices"]
    assert key.public_key == an_order().public_key
    assert [(rule.direction, rule.protocol, rule.port) for rule in firewall.rules] == [("in", "tcp", "22")]


@pytest.mark.parametrize("code", contract.ERRORS)
def test_the_client_reads_every_error_code(fake: FakeHetzner, code: str) -> None:
    client = hcloud.Client(TOKEN, api_endpoint=fake.url, poll_interval=PAUSE_S)
    client._client._retry_max_retries = 0
    fake.misbehave(fake.fault("list server", code=code))
    with pytest.raises(hcloud.APIException) as refused:
        client.servers.get_all()
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("resource", "field", "value"),
    [("server_type", "cores", "two"), ("server_type", "colour", "red"), ("server_type", "cpu_type", "borrowed")],
)
def test_an_answer_that_breaks_the_contract_is_noticed(resource: str, field: str, value: str) -> None:
    with FakeHetzner() as spoiled:
        original = getattr(spoiled, resource)
        setattr(spoiled, resource, lambda name: {**original(name), field: value})
        module.provider(spoiled.values(), pause_s=PAUSE_S).offers()
        assert [each.split(":")[0] for each in spoiled.violations] == ["GET /server_types -> 200"]
        assert field in spoiled.violations[0]


def test_a_request_that_breaks_the_contract_is_noticed() -> None:
    with FakeHetzner() as fake:
        client = hcloud.Client(TOKEN, api_endpoint=fake.url)
        client.ssh_keys.create("a", "ssh-ed25519 AAAA a", labels={"managed-by": "not a label value!"})
        client.request(method="GET", url="/servers", params={"colour": "red"})
        noticed = [each for each in fake.violations if "->" not in each]
        assert [each.split(":")[0] for each in noticed] == ["POST /ssh_keys", "GET /servers"]
        assert "labels.managed-by" in noticed[0] and "colour" in noticed[1]


def test_contract_and_traffic_are_as_published(fake: FakeHetzner, hetzner: Provider) -> None:
    required(HETZNER_DESCRIPTION)
    live_through_everything(fake, hetzner)
    answered = {
        (operation.method, operation.path)
        for operation in contract.OPERATIONS
        for asked, answer in fake.exchanges
        if answer.status == operation.status and operation.answers(asked.method, asked.path)
    }
    assert answered == {(operation.method, operation.path) for operation in contract.OPERATIONS}
    refused = {answer.body["error"]["code"] for _, answer in fake.exchanges if answer.status >= 400}
    assert refused == contract.ERRORS.keys()
    faults = [exchange_faults(asked, answer) for asked, answer in fake.exchanges]
    assert [fault for fault in faults if fault] == []
    assert contract_differences() == []


def live_through_everything(fake: FakeHetzner, hetzner: Provider) -> None:
    """Traffic that holds every operation and every error code of the contract."""
    hetzner.offers()
    hetzner.create_instance(an_order(), AN_OFFER)
    hetzner.list_belongings()
    client = hcloud.Client(TOKEN, api_endpoint=fake.url)
    for resources in (client.servers, client.ssh_keys, client.firewalls):
        resources.get_by_id(resources.get_all()[0].id)
    hetzner.destroy_instance(an_order().name)
    fake.foreign(an_order().name)
    with pytest.raises(ForeignError):
        hetzner.create_instance(an_order(), AN_OFFER)
    client._client._retry_max_retries = 0
    for code in contract.ERRORS:
        fake.misbehave(fake.fault("list server", code=code))
        with pytest.raises(hcloud.APIException):
            client.servers.get_all()
    with pytest.raises(WorkerError):
        module.provider(fake.values("wrong"), pause_s=PAUSE_S).list_instances()


def contract_fields(table: type[contract.Table]) -> dict[str, bool]:
    """The fields of a table, and whether each is required."""
    return {name: field.is_required() for name, field in table.model_fields.items()}
