"""OVHcloud Public Cloud, which is OpenStack, through openstacksdk. Regions are its locations; labels are metadata.

OpenStack has no prices: they come from OVH's public catalogue. A flavour without a price there is not offered.
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
    fetch_prices,
    provider_from,
    status_kind,
)
from ops.workers.refusals import is_about_the_offer

NAME = "ovh"
IMAGE = "Debian 12"
NETWORK = "Ext-Net"
"""OVH's public network: a machine on it has an IPv4 address that is in its price."""

_REQUEST_TIMEOUT_S = 30.0
_MIN_DISK_GB = 20
_PRICE_UNIT = 1e-8


def provider(values: Values, *, pause_s: float = 1.0) -> Provider:
    """OVH as an OpenStack user; `pause_s` is the first pause between two attempts."""
    regions = {region: _connection(values, region) for region in values["OS_REGION_NAME"]}
    tax = values["MATERIA_WORKER_TAX_PERCENT"] / 100
    prices = cache(lambda: fetch_prices("OVH's catalogue", values["OVH_PRICES_URL"], partial(_prices, tax)))
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
            instance=lambda resource: _instance(resource, prices()),
            error_kind=_error_kind,
            refresh=lambda resource: _resource(resource.place, regions[resource.place].compute.get_server(resource.id)),
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
    def list_matching() -> Iterator[Resource]:
        # OpenStack lets only administrators search by metadata.
        for region, openstack in regions.items():
            yield from (_resource(region, each) for each in openstack.compute.servers(details=True))

    return Kind(
        what="server",
        find_by_name=lambda name: list_matching(),
        list_ours=list_matching,
        delete=lambda resource: regions[resource.place].compute.delete_server(resource.id, ignore_missing=False),
        is_there=lambda resource: regions[resource.place].compute.get_server(resource.id).status not in _GONE,
    )


_GONE = ("DELETED", "SOFT_DELETED")


def _groups(regions: Mapping[str, Any]) -> Kind:
    def list_matching() -> Iterator[Resource]:
        for region, openstack in regions.items():
            yield from (_group(region, each) for each in openstack.network.security_groups())

    def delete(resource: Resource) -> None:
        regions[resource.place].network.delete_security_group(resource.id, ignore_missing=False)

    return Kind(
        what="firewall",
        find_by_name=lambda name: list_matching(),
        list_ours=list_matching,
        delete=delete,
        is_there=lambda resource: bool(regions[resource.place].network.get_security_group(resource.id)),
    )


def _resource(region: str, server: Any) -> Resource:
    is_leaving = server.status in _GONE or server.task_state == "deleting"
    return Resource(server.id, server.name, Labels.read(server.metadata or {}), server, region, is_leaving)


def _group(region: str, group: Any) -> Resource:
    """The description holds the labels; unlike tags it exists from creation on."""
    labels = dict(part.split("=", 1) for part in (group.description or "").split() if "=" in part)
    return Resource(group.id, group.name, Labels.read(labels), group, region)


def _prices(tax: float, catalogue: Any) -> Mapping[str, float]:
    """EUR per hour of each flavour, with tax; the highest if regions differ."""
    if (currency := catalogue["locale"]["currencyCode"]) != "EUR":
        raise WorkerError(
            f"OVH's catalogue is in {currency}, and the caps are in EUR; set OVH_PRICES_URL to a subsidiary with EUR"
        )
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
        # Windows flavours include a licence and have other prices.
        if flavour.name in prices and flavour.disk >= _MIN_DISK_GB and not flavour.name.startswith("win-"):
            yield Offer(
                type=flavour.name,
                location=region,
                cores=flavour.vcpus,
                # OVH counts a GB as 1000 MB for some flavours, and as 1024 for others.
                memory_gb=float(round(flavour.ram / 1000)),
                eur_per_hour=prices[flavour.name],
                # Whether it is out of stock shows only when it is created.
                available=not flavour.is_disabled,
            )


def _create(regions: Mapping[str, Any], order: Order, offer: Offer, supplies: Mapping[str, Resource]) -> Resource:
    import base64

    openstack = regions[offer.location]
    created = openstack.compute.create_server(
        name=order.name,
        flavor_id=_only(openstack.compute.flavors(details=False), offer.type, offer),
        image_id=_only(openstack.image.images(name=IMAGE, status="active"), IMAGE, offer),
        networks=[{"uuid": _only(openstack.network.networks(name=NETWORK), NETWORK, offer)}],
        security_groups=[{"name": supplies["firewall"].id}],
        user_data=base64.b64encode(order.user_data.encode()).decode(),
        metadata=order.labels.as_labels(),
    )
    # The answer to a create contains little more than the id.
    return _resource(offer.location, openstack.compute.get_server(created.id))


def _only(found: Iterable[Any], name: str, offer: Offer) -> str:
    ids = [each.id for each in found if each.name == name]
    if not ids:
        raise NoCapacityError(f"there is no {name!r} at {offer.location}")
    return str(ids[0])


def _make_group(regions: Mapping[str, Any], order: Order, offer: Offer) -> Resource:
    """Create a security group; it blocks all traffic until it has rules."""
    labels = " ".join(f"{name}={value}" for name, value in order.labels.as_labels().items())
    created = regions[offer.location].network.create_security_group(name=order.name, description=labels)
    return _group(offer.location, created)


def _complete_group(regions: Mapping[str, Any], resource: Resource, order: Order) -> None:
    network = regions[resource.place].network
    wanted = {(source, "IPv6" if ":" in source else "IPv4") for source in order.ssh_from}
    rules = network.security_group_rules(security_group_id=resource.id, direction="ingress")
    there = {(rule.remote_ip_prefix, rule.ether_type) for rule in rules}
    for source, version in sorted(wanted - there):
        network.create_security_group_rule(
            security_group_id=resource.id,
            direction="ingress",
            ether_type=version,
            protocol="tcp",
            port_range_min=order.ssh_port,
            port_range_max=order.ssh_port,
            remote_ip_prefix=source,
        )


def _failure(resource: Resource) -> str | None:
    """OpenStack reports missing capacity only after it has created the server."""
    if resource.raw.status != "ERROR":
        return None
    return str((resource.raw.fault or {}).get("message") or "it failed to build")


def _instance(resource: Resource, prices: Mapping[str, float]) -> Instance:
    from datetime import datetime

    assert resource.labels is not None
    server = resource.raw
    flavour = server.flavor.original_name or server.flavor.name or server.flavor.id
    addresses = [
        each["addr"] for network in (server.addresses or {}).values() for each in network if each.get("version") == 4
    ]
    is_ready = server.status == "ACTIVE"
    return Instance(
        id=resource.id,
        name=resource.name,
        provider=NAME,
        type=flavour,
        location=resource.place,
        ip=addresses[0] if addresses and is_ready else None,
        created_at=datetime.fromisoformat(server.created_at.replace("Z", "+00:00")),
        labels=resource.labels,
        # No longer in the catalogue: assume the highest price, so that the caps are never exceeded.
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
        return status_kind(status)
    passing = (
        keystone.ConnectFailure,
        keystone.ConnectTimeout,
        keystone.RetriableConnectionFailure,
        # Raised for a gateway's error page during version discovery.
        keystone.DiscoveryFailure,
        requests.ConnectionError,
        requests.Timeout,
    )
    if isinstance(error, passing):
        return ErrorKind.TRANSIENT
    return ErrorKind.GONE if isinstance(error, exceptions.NotFoundException) else ErrorKind.FINAL
