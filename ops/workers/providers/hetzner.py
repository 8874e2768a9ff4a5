"""Hetzner Cloud through its own client."""

from collections.abc import Iterable, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from ops.config.table import Values
from ops.workers.errors import WorkerError
from ops.workers.labels import SELECTOR, Labels
from ops.workers.provider import Instance, Offer, Order, Provider
from ops.workers.providers.cloud import Cloud, ErrorKind, Kind, Resource, Supply, provider_from
from ops.workers.refusals import is_about_the_offer

if TYPE_CHECKING:
    from hcloud import Client

NAME = "hetzner"
IMAGE = "debian-12"

_REQUEST_TIMEOUT_S = 30.0
_ERROR_KINDS: Mapping[str | int, ErrorKind] = {
    "not_found": ErrorKind.GONE,
    "uniqueness_error": ErrorKind.TAKEN,
    "resource_in_use": ErrorKind.BUSY,
    "unauthorized": ErrorKind.REFUSED,
    "forbidden": ErrorKind.REFUSED,
    401: ErrorKind.REFUSED,
    403: ErrorKind.REFUSED,
    **dict.fromkeys(
        ("unavailable", "service_error", "server_error", "maintenance", "internal_error", "locked"), ErrorKind.TRANSIENT
    ),
}


def provider(values: Values, *, pause_s: float = 1.0) -> Provider:
    """Hetzner with a token; `pause_s` is the first pause between two attempts."""
    from hcloud import Client

    client = Client(
        values["HETZNER_TOKEN"],
        api_endpoint=values["HETZNER_API_URL"],
        application_name="materia",
        poll_interval=pause_s,
        timeout=_REQUEST_TIMEOUT_S,
    )
    address_prices = cache(partial(_address_prices, client))
    keys, firewalls = _kind("SSH key", client.ssh_keys), _kind("firewall", client.firewalls)
    return provider_from(
        Cloud(
            name=NAME,
            title="Hetzner",
            credentials="HETZNER_TOKEN",
            user="root",
            servers=_kind("server", client.servers),
            supplies=(Supply(firewalls, partial(_firewall, client)), Supply(keys, partial(_key, client))),
            remnants=(),
            offers=lambda: _offers(client, address_prices()),
            create=partial(_create, client),
            instance=lambda resource: _instance(resource, address_prices()),
            error_kind=_error_kind,
            error_text=_error_text,
            refresh=lambda resource: _resource(client.servers.get_by_id(resource.raw.id)),
            pause_s=pause_s,
        )
    )


def _kind(what: str, resources: Any) -> Kind:
    def named(name: str) -> Iterable[Resource]:
        found = resources.get_by_name(name)
        return [] if found is None else [_resource(found)]

    return Kind(
        what=what,
        find_by_name=named,
        list_ours=lambda: [_resource(each) for each in resources.get_all(label_selector=SELECTOR)],
        delete=lambda resource: resources.delete(resource.raw),
        is_there=lambda resource: resources.get_by_id(resource.raw.id) is not None,
    )


def _resource(found: Any) -> Resource:
    is_leaving = getattr(found, "status", None) == "deleting"
    return Resource(str(found.id), found.name, Labels.read(found.labels), found, is_leaving=is_leaving)


def _address_prices(client: "Client") -> Mapping[str, float]:
    """The gross price of a primary IPv4 address by location, EUR per hour; raises WorkerError for another currency."""
    pricing = client.request(method="GET", url="/pricing")["pricing"]
    if pricing["currency"] != "EUR":
        raise WorkerError(
            f"Hetzner bills this project in {pricing['currency']}, and the caps are in EUR; use a project in EUR"
        )
    return {
        price["location"]: float(price["price_hourly"]["gross"])
        for kind in pricing["primary_ips"]
        if kind["type"] == "ipv4"
        for price in kind["prices"]
    }


def _offers(client: "Client", address_prices: Mapping[str, float]) -> tuple[Offer, ...]:
    """Every x86 type at every location that offers it, except types that are being withdrawn.

    The price includes the IPv4 address.
    """
    found = []
    for kind in client.server_types.get_all():
        if kind.architecture != "x86":
            continue
        # hcloud types them as optional for references that are not loaded; a list holds whole objects.
        assert kind.name and kind.cores and kind.memory
        prices = _prices(kind, address_prices)
        found += [
            Offer(
                type=kind.name,
                location=place.location.name,
                cores=kind.cores,
                memory_gb=kind.memory,
                eur_per_hour=prices[place.location.name],
                # None if the API does not report it; then creating it shows whether it is available.
                available=place.available is not False,
            )
            for place in kind.locations or ()
            if place.deprecation is None and place.location.name in prices
        ]
    return tuple(found)


def _prices(kind: Any, address_prices: Mapping[str, float]) -> dict[str, float]:
    """EUR per hour of a server type with its address, by location."""
    # If an address has no price, assume the highest, so that the caps are never exceeded.
    highest = max(address_prices.values(), default=0.0)
    return {
        price["location"]: round(
            float(price["price_hourly"]["gross"]) + address_prices.get(price["location"], highest), 6
        )
        for price in kind.prices
    }


def _create(client: "Client", order: Order, offer: Offer, supplies: Mapping[str, Resource]) -> Resource:
    from hcloud.images import Image
    from hcloud.locations import Location
    from hcloud.server_types import ServerType
    from hcloud.ssh_keys import SSHKey

    answer = client.servers.create(
        order.name,
        ServerType(name=offer.type),
        Image(name=IMAGE),
        ssh_keys=[SSHKey(name=order.name)],
        firewalls=[supplies["firewall"].raw],
        user_data=order.user_data,
        labels=order.labels.as_labels(),
        location=Location(name=offer.location),
    )
    return _resource(answer.server)


def _key(client: "Client", order: Order, offer: Offer) -> Resource:
    return _resource(client.ssh_keys.create(order.name, order.public_key, labels=order.labels.as_labels()))


def _firewall(client: "Client", order: Order, offer: Offer) -> Resource:
    from hcloud.firewalls import FirewallRule

    rule = FirewallRule(
        direction="in",
        protocol="tcp",
        port=str(order.ssh_port),
        source_ips=list(order.ssh_from),
        destination_ips=[],
        description="SSH",
    )
    # hcloud annotates a firewall's labels as text, and sends on the mapping that the API wants.
    labels: Any = order.labels.as_labels()
    return _resource(client.firewalls.create(order.name, rules=[rule], labels=labels).firewall)


def _instance(resource: Resource, address_prices: Mapping[str, float]) -> Instance:
    assert resource.labels is not None
    server = resource.raw
    location = server.location.name
    prices = _prices(server.server_type, address_prices)
    address = server.public_net.ipv4 if server.public_net else None
    return Instance(
        id=resource.id,
        name=resource.name,
        provider=NAME,
        type=server.server_type.name,
        location=location,
        ip=address.ip if address else None,
        created_at=server.created,
        labels=resource.labels,
        eur_per_hour=prices.get(location, max(prices.values(), default=0.0)),
        status=server.status,
    )


def _error_kind(error: Exception) -> ErrorKind:
    """hcloud has already retried rate limits and gateway errors before it raises."""
    import requests

    code = getattr(error, "code", "")
    if (isinstance(code, int) and code >= 500) or isinstance(error, requests.ConnectionError | requests.Timeout):
        return ErrorKind.TRANSIENT
    if is_about_the_offer(NAME, code, str(error)):
        return ErrorKind.NO_CAPACITY
    return _ERROR_KINDS.get(code, ErrorKind.FINAL)


def _error_text(error: Exception) -> str:
    """hcloud says nothing but the status of an answer that is no JSON."""
    code = getattr(error, "code", "")
    return f"HTTP {code} without an answer of its API" if isinstance(code, int) else str(error)
