"""OVHcloud Public Cloud, which is OpenStack, through openstacksdk. Regions are its locations; labels are metadata.

OpenStack knows no prices: those come from OVH's public catalogue. A flavour that is not priced there is not offered.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache, partial
from typing import Any

from ops.config.table import Values
from ops.workers.errors import NoCapacityError, WorkerError
from ops.workers.labels import Labels
from ops.workers.provider import Instance, Offer, Order, Provider
from ops.workers.providers.cloud import (
    Cloud,
    ErrorKind,
    Kind,
    Resource,
    Supply,
    kind_of_status,
    priced,
    provider_from,
)
from ops.workers.refusals import is_about_the_offer

NAME = "ovh"
IMAGE = "Debian 12"
NETWORK = "Ext-Net"
"""OVH's public network: a machine on it has an IPv4 address that is in its price."""

_REQUEST_TIMEOUT_S = 30.0
_LEAST_DISK_GB = 20
_PRICE_UNIT = 1e-8


def provider(values: Values, *, pause_s: float = 1.0) -> Provider:
    """OVH, asked as an OpenStack user; `pause_s` is the first pause between two tries."""
    regions = {region: _connection(values, region) for region in values["OS_REGION_NAME"]}
    tax = values["MATERIA_WORKER_TAX_PERCENT"] / 100
    prices = cache(lambda: priced("OVH's catalogue", values["OVH_PRICES_URL"], partial(_prices, tax)))
    return provider_from(
        Cloud(
            name=NAME,
            title="OVH",
            credentials="OS_USERNAME, OS_PASSWORD and OS_TENANT_ID",
            user="root",
            servers=_servers(regions),
            supplies=(
                Supply(
                    _groups(regions),
                    make=partial(_make_group, regions),
                    complete=partial(_complete_group, regions),
                    place=lambda offer: offer.location,
                ),
            ),
            remnants=(),
            offers=lambda: tuple(
                each for region, openstack in regions.items() for each in _offers(openstack, region, prices())
            ),
            create=partial(_create, regions),
            instance=lambda thing: _instance(thing, prices()),
            error_kind=_error_kind,
            again=lambda thing: _thing(thing.place, regions[thing.place].compute.get_server(thing.id)),
            failure=_failure,
            pause_s=pause_s,
        )
    )


def _connection(values: Values, region: str) -> Any:
    import openstack

    return openstack.connect(
        load_yaml_config=False,
        load_envvars=False,
        auth_type="v3password",
        auth={
            "auth_url": values["OS_AUTH_URL"],
            "username": values["OS_USERNAME"],
            "password": values["OS_PASSWORD"],
            "project_id": values["OS_TENANT_ID"],
            "user_domain_name": "Default",
        },
        region_name=region,
        app_name="materia",
        api_timeout=_REQUEST_TIMEOUT_S,
    )


def _servers(regions: Mapping[str, Any]) -> Kind:
    def found() -> Iterator[Resource]:
        # OpenStack lets only administrators search by metadata.
        for region, openstack in regions.items():
            yield from (_thing(region, each) for each in openstack.compute.servers(details=True))

    return Kind(
        what="server",
        named=lambda name: found(),
        ours=found,
        delete=lambda thing: regions[thing.place].compute.delete_server(thing.id, ignore_missing=False),
        is_there=lambda thing: regions[thing.place].compute.get_server(thing.id).status not in _GONE,
    )


_GONE = ("DELETED", "SOFT_DELETED")


def _groups(regions: Mapping[str, Any]) -> Kind:
    def found() -> Iterator[Resource]:
        for region, openstack in regions.items():
            yield from (_group(region, each) for each in openstack.network.security_groups())

    def delete(thing: Resource) -> None:
        regions[thing.place].network.delete_security_group(thing.id, ignore_missing=False)

    return Kind(
        what="firewall",
        named=lambda name: found(),
        ours=found,
        delete=delete,
        is_there=lambda thing: bool(regions[thing.place].network.get_security_group(thing.id)),
    )


def _thing(region: str, server: Any) -> Resource:
    is_leaving = server.status in _GONE or server.task_state == "deleting"
    return Resource(server.id, server.name, Labels.read(server.metadata or {}), server, region, is_leaving)


def _group(region: str, group: Any) -> Resource:
    """Its description holds the labels: unlike tags, it is there from the first moment."""
    labels = dict(part.split("=", 1) for part in (group.description or "").split() if "=" in part)
    return Resource(group.id, group.name, Labels.read(labels), group, region)


def _prices(tax: float, catalogue: Any) -> Mapping[str, float]:
    """EUR an hour of each flavour, with tax; where regions differ, the dearest."""
    if (currency := catalogue["locale"]["currencyCode"]) != "EUR":
        raise WorkerError(f"OVH's catalogue is in {currency}, and the caps are in EUR; ask a subsidiary with EUR")
    found: dict[str, float] = {}
    for addon in catalogue["addons"]:
        flavour, mark, _ = addon["planCode"].partition(".consumption")
        hourly = [
            price["price"] * _PRICE_UNIT * (1 + tax)
            for price in addon["pricings"]
            if "consumption" in price["capacities"]
        ]
        if mark and hourly:
            found[flavour] = round(max(found.get(flavour, 0.0), *hourly), 6)
    return found


def _offers(openstack: Any, region: str, prices: Mapping[str, float]) -> Iterator[Offer]:
    for flavour in openstack.compute.flavors(details=True):
        # Windows is a licence on top, and has prices of its own.
        if flavour.name in prices and flavour.disk >= _LEAST_DISK_GB and not flavour.name.startswith("win-"):
            yield Offer(
                type=flavour.name,
                location=region,
                cores=flavour.vcpus,
                # OVH counts a GB as 1000 MB for some flavours, and as 1024 for others.
                memory_gb=float(round(flavour.ram / 1000)),
                eur_per_hour=prices[flavour.name],
                # What is out of stock shows only by trying.
                available=not flavour.is_disabled,
            )


def _create(regions: Mapping[str, Any], order: Order, offer: Offer, supplies: Mapping[str, Resource]) -> Resource:
    import base64

    openstack = regions[offer.location]
    made = openstack.compute.create_server(
        name=order.name,
        flavor_id=_only(openstack.compute.flavors(details=False), offer.type, offer),
        image_id=_only(openstack.image.images(name=IMAGE, status="active"), IMAGE, offer),
        networks=[{"uuid": _only(openstack.network.networks(name=NETWORK), NETWORK, offer)}],
        security_groups=[{"name": supplies["firewall"].id}],
        user_data=base64.b64encode(order.user_data.encode()).decode(),
        metadata=order.labels.as_labels(),
    )
    # The answer to a create holds little more than the id.
    return _thing(offer.location, openstack.compute.get_server(made.id))


def _only(found: Iterable[Any], name: str, offer: Offer) -> str:
    ids = [each.id for each in found if each.name == name]
    if not ids:
        raise NoCapacityError(f"there is no {name!r} at {offer.location}")
    return str(ids[0])


def _make_group(regions: Mapping[str, Any], order: Order, offer: Offer) -> Resource:
    """Lets nothing in until it has its rules."""
    labels = " ".join(f"{name}={value}" for name, value in order.labels.as_labels().items())
    made = regions[offer.location].network.create_security_group(name=order.name, description=labels)
    return _group(offer.location, made)


def _complete_group(regions: Mapping[str, Any], thing: Resource, order: Order) -> None:
    network = regions[thing.place].network
    wanted = {(source, "IPv6" if ":" in source else "IPv4") for source in order.ssh_from}
    rules = network.security_group_rules(security_group_id=thing.id, direction="ingress")
    there = {(rule.remote_ip_prefix, rule.ether_type) for rule in rules}
    for source, version in sorted(wanted - there):
        network.create_security_group_rule(
            security_group_id=thing.id,
            direction="ingress",
            ether_type=version,
            protocol="tcp",
            port_range_min=order.ssh_port,
            port_range_max=order.ssh_port,
            remote_ip_prefix=source,
        )


def _failure(thing: Resource) -> str | None:
    """OpenStack says that a host has no room only after it has made the server."""
    if thing.raw.status != "ERROR":
        return None
    return str((thing.raw.fault or {}).get("message") or "it failed to build")


def _instance(thing: Resource, prices: Mapping[str, float]) -> Instance:
    from datetime import datetime

    assert thing.labels is not None
    server = thing.raw
    flavour = server.flavor.original_name or server.flavor.name or server.flavor.id
    addresses = [
        each["addr"] for network in (server.addresses or {}).values() for each in network if each.get("version") == 4
    ]
    is_ready = server.status == "ACTIVE"
    return Instance(
        id=thing.id,
        name=thing.name,
        provider=NAME,
        type=flavour,
        location=thing.place,
        ip=addresses[0] if addresses and is_ready else None,
        created_at=datetime.fromisoformat(server.created_at.replace("Z", "+00:00")),
        labels=thing.labels,
        # Not in the catalogue any more: the caps may be too careful, never too trusting.
        eur_per_hour=prices.get(flavour, max(prices.values(), default=0.0)),
        status=server.status.lower(),
    )


def _error_kind(error: Exception) -> ErrorKind:
    import requests
    from keystoneauth1 import exceptions as keystone
    from openstack import exceptions

    status = getattr(error, "status_code", None) or getattr(error, "http_status", None)
    if isinstance(status, int):
        if is_about_the_offer(NAME, None, str(error)):
            return ErrorKind.NO_CAPACITY
        if status == 409 and "exists" in str(error).lower():
            return ErrorKind.TAKEN
        return kind_of_status(status)
    passing = (
        keystone.ConnectFailure,
        keystone.ConnectTimeout,
        keystone.RetriableConnectionFailure,
        # What a gateway's error page makes of finding out which versions there are.
        keystone.DiscoveryFailure,
        requests.ConnectionError,
        requests.Timeout,
    )
    if isinstance(error, passing):
        return ErrorKind.PASSING
    return ErrorKind.GONE if isinstance(error, exceptions.NotFoundException) else ErrorKind.FINAL
