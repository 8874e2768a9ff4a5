"""Scaleway Instances through its own SDK. Zones are its locations; labels are tags, `name=value` each.

Every machine has a disk of Scaleway's block storage, which outlives the machine and is billed apart: it is given our
tags before the machine first runs, and again before the machine is destroyed, so that it always has an owner.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

from ops.config.table import Values
from ops.workers.errors import NoCapacityError
from ops.workers.labels import SELECTOR, Labels
from ops.workers.provider import Instance, Offer, Order, Provider
from ops.workers.providers.cloud import Cloud, ErrorKind, Kind, Resource, Supply, provider_from, status_kind
from ops.workers.refusals import is_about_the_offer

NAME = "scaleway"
IMAGE = "debian_bookworm"

DISK_BYTES = 40_000_000_000
# Prices that the API lacks, from Scaleway's price list of November 2025, EUR without tax:
# https://www.scaleway.com/en/pricing/storage/ (Block Storage 5K) and .../pricing/network/ (flexible IPv4).
DISK_EUR_PER_GB_HOUR = 0.000118
ADDRESS_EUR_PER_HOUR = 0.004

_REQUEST_TIMEOUT_S = 30.0
_PAGE = 100
_MAX_PAGES = 50
_ERROR_KINDS = {
    "not_found": ErrorKind.GONE,
    "unknown_resource": ErrorKind.GONE,
    "transient_state": ErrorKind.BUSY,
    "precondition_failed": ErrorKind.BUSY,
    "conflict": ErrorKind.BUSY,
    "denied_authentication": ErrorKind.REFUSED,
    "invalid_auth": ErrorKind.REFUSED,
    "permissions_denied": ErrorKind.REFUSED,
}


@dataclass(frozen=True)
class _Apis:
    instances: Any
    blocks: Any
    images: Any


def provider(values: Values, *, pause_s: float = 1.0) -> Provider:
    """Scaleway with an API key; `pause_s` is the first pause between two attempts."""
    apis = _apis(values)
    types = cache(partial(_types, apis))
    firewalls = Kind(
        what="firewall",
        find_by_name=lambda name: _groups(apis, values, name=name),
        list_ours=lambda: _groups(apis, values, tags=[SELECTOR]),
        delete=lambda resource: apis.instances.delete_security_group(
            zone=resource.place, security_group_id=resource.id
        ),
        is_there=lambda resource: bool(
            apis.instances.get_security_group(zone=resource.place, security_group_id=resource.id).security_group
        ),
    )
    return provider_from(
        Cloud(
            name=NAME,
            title="Scaleway",
            credentials="SCW_ACCESS_KEY, SCW_SECRET_KEY and SCW_DEFAULT_PROJECT_ID",
            user="root",
            servers=_servers(apis, values),
            supplies=(
                Supply(
                    firewalls,
                    make=partial(_make_group, apis, values),
                    complete=partial(_set_rules, apis),
                    place=lambda offer: offer.location,
                ),
            ),
            remnants=(_disks(apis, values),),
            offers=lambda: tuple(
                each for zone in values["SCW_ZONES"] for each in _offers(apis, values, types(zone), zone)
            ),
            create=partial(_create, apis, values),
            instance=lambda resource: _instance(resource, values, types(resource.place)),
            error_kind=_error_kind,
            start=partial(_start, apis),
            refresh=lambda resource: _server(
                apis.instances.get_server(zone=resource.place, server_id=resource.id).server
            ),
            pause_s=pause_s,
        )
    )


def _apis(values: Values) -> _Apis:
    import requests
    import scaleway_core.api
    from scaleway import Client
    from scaleway.block.v1 import BlockV1API
    from scaleway.instance.v1.custom_api import InstanceUtilsV1API
    from scaleway.marketplace.v2 import MarketplaceV2API

    # The SDK has no timeout and no setting for one; a hung answer would keep a billed machine running.
    bounded = SimpleNamespace(request=partial(requests.request, timeout=_REQUEST_TIMEOUT_S))
    vars(scaleway_core.api)["requests"] = bounded
    client = Client(
        access_key=values["SCW_ACCESS_KEY"],
        secret_key=values["SCW_SECRET_KEY"],
        api_url=values["SCW_API_URL"].rstrip("/"),
        default_project_id=values["SCW_DEFAULT_PROJECT_ID"],
        user_agent="materia",
    )
    return _Apis(InstanceUtilsV1API(client), BlockV1API(client), MarketplaceV2API(client))


def _servers(apis: _Apis, values: Values) -> Kind:
    def list_matching(**filters: Any) -> Iterable[Resource]:
        for zone in values["SCW_ZONES"]:
            listed = partial(
                apis.instances.list_servers, zone=zone, project=values["SCW_DEFAULT_PROJECT_ID"], **filters
            )
            yield from map(_server, _all(lambda page, ask=listed: ask(page=page, per_page=_PAGE).servers))

    return Kind(
        what="server",
        find_by_name=lambda name: list_matching(name=name),
        list_ours=lambda: list_matching(tags=[SELECTOR]),
        delete=partial(_delete_server, apis),
        is_there=lambda resource: bool(apis.instances.get_server(zone=resource.place, server_id=resource.id).server),
    )


def _groups(apis: _Apis, values: Values, **filters: Any) -> Iterator[Resource]:
    for zone in values["SCW_ZONES"]:
        listed = partial(
            apis.instances.list_security_groups, zone=zone, project=values["SCW_DEFAULT_PROJECT_ID"], **filters
        )
        for each in _all(lambda page, ask=listed: ask(page=page, per_page=_PAGE).security_groups):
            yield Resource(each.id, each.name, _labels(each.tags), each, place=zone)


def _disks(apis: _Apis, values: Values) -> Kind:
    def list_matching(**filters: Any) -> Iterable[Resource]:
        for zone in values["SCW_ZONES"]:
            listed = partial(
                apis.blocks.list_volumes,
                include_deleted=False,
                zone=zone,
                project_id=values["SCW_DEFAULT_PROJECT_ID"],
                **filters,
            )
            for each in _all(lambda page, ask=listed: ask(page=page, page_size=_PAGE).volumes):
                yield Resource(each.id, each.name, _labels(each.tags), each, place=zone)

    return Kind(
        what="disk",
        # A disk without our tags belongs to a machine that has not tagged it yet.
        find_by_name=lambda name: (each for each in list_matching(name=name) if each.labels is not None),
        list_ours=lambda: list_matching(tags=[SELECTOR]),
        delete=lambda resource: apis.blocks.delete_volume(zone=resource.place, volume_id=resource.id),
        is_there=lambda resource: bool(apis.blocks.get_volume(zone=resource.place, volume_id=resource.id)),
    )


def _all(page_of: Any) -> Iterator[Any]:
    for page in range(1, _MAX_PAGES + 1):
        found = page_of(page)
        yield from found
        if len(found) < _PAGE:
            return


def _labels(tags: Sequence[str]) -> Labels | None:
    return Labels.read(dict(tag.split("=", 1) for tag in tags if "=" in tag))


def _tags(labels: Labels) -> list[str]:
    return [f"{name}={value}" for name, value in labels.as_labels().items()]


def _server(found: Any) -> Resource:
    is_leaving = str(found.state) == "stopping"
    return Resource(found.id, found.name, _labels(found.tags), found, str(found.zone), is_leaving)


def _types(apis: _Apis, zone: str) -> Mapping[str, Any]:
    listed = partial(apis.instances.list_servers_types, zone=zone, per_page=_PAGE)
    return dict(_all(lambda page: listed(page=page).servers.items()))


def _offers(apis: _Apis, values: Values, types: Mapping[str, Any], zone: str) -> Iterator[Offer]:
    """Every x86 type of the zone that supports block storage and is not being withdrawn."""
    from scaleway.instance.v1 import Arch, ServerTypesAvailability

    listed = partial(apis.instances.get_server_types_availability, zone=zone, per_page=_PAGE)
    available = dict(_all(lambda page: listed(page=page).servers.items()))
    for name, kind in types.items():
        has_disk = kind.capabilities is not None and kind.capabilities.block_storage
        if kind.arch == Arch.X86_64 and not kind.end_of_service and has_disk:
            stock = available.get(name)
            yield Offer(
                type=name,
                location=zone,
                cores=kind.ncpus,
                memory_gb=round(kind.ram / 2**30, 1),
                eur_per_hour=_eur_per_hour(kind, _tax(values)),
                available=stock is None or stock.availability != ServerTypesAvailability.SHORTAGE,
            )


def _tax(values: Values) -> float:
    return float(values["MATERIA_WORKER_TAX_PERCENT"]) / 100


def _eur_per_hour(kind: Any, tax: float) -> float:
    """Price of machine, disk and address, with tax."""
    disk = DISK_EUR_PER_GB_HOUR * DISK_BYTES / 1e9
    return round((kind.hourly_price + disk + ADDRESS_EUR_PER_HOUR) * (1 + tax), 6)


def _create(apis: _Apis, values: Values, order: Order, offer: Offer, supplies: Mapping[str, Resource]) -> Resource:
    from scaleway.instance.v1 import VolumeServerTemplate, VolumeVolumeType

    disk = VolumeServerTemplate(volume_type=VolumeVolumeType.SBS_VOLUME, boot=True, name=order.name, size=DISK_BYTES)
    created = apis.instances.create_server(
        zone=offer.location,
        name=order.name,
        commercial_type=offer.type,
        image=_image(apis, offer),
        volumes={"0": disk},
        # A dynamic address is deleted with its machine.
        dynamic_ip_required=True,
        security_group=supplies["firewall"].id,
        project=values["SCW_DEFAULT_PROJECT_ID"],
        tags=_tags(order.labels),
    )
    return _server(created.server)


def _image(apis: _Apis, offer: Offer) -> str:
    from scaleway.marketplace.v2 import LocalImageType

    found = apis.images.list_local_images(
        image_label=IMAGE, zone=offer.location, arch="x86_64", type_=LocalImageType.INSTANCE_SBS, page_size=_PAGE
    ).local_images
    fitting = [each.id for each in found if offer.type in each.compatible_commercial_types]
    if not fitting:
        raise NoCapacityError(f"there is no image {IMAGE} for {offer.type} at {offer.location}")
    return str(fitting[0])


def _start(apis: _Apis, resource: Resource, order: Order) -> None:
    from scaleway.instance.v1 import ServerAction, ServerState

    _tag_disks(apis, resource)
    if resource.raw.state == ServerState.STOPPED:
        user_data = order.user_data.encode()
        apis.instances.set_server_user_data(
            zone=resource.place, server_id=resource.id, key="cloud-init", content=user_data
        )
        apis.instances.server_action(zone=resource.place, server_id=resource.id, action=ServerAction.POWERON)


def _delete_server(apis: _Apis, resource: Resource) -> None:
    """Terminate a running server or delete a stopped one; in other states do nothing, because the caller retries."""
    from scaleway.instance.v1 import ServerAction, ServerState

    server = apis.instances.get_server(zone=resource.place, server_id=resource.id).server
    _tag_disks(apis, _server(server))
    if ServerAction.TERMINATE in server.allowed_actions:
        apis.instances.server_action(zone=resource.place, server_id=resource.id, action=ServerAction.TERMINATE)
    elif server.state == ServerState.STOPPED:
        apis.instances.delete_server(zone=resource.place, server_id=resource.id)


def _tag_disks(apis: _Apis, resource: Resource) -> None:
    """Give the disks the worker's name and tags, so that they are found after their machine is deleted."""
    from scaleway.instance.v1 import VolumeServerVolumeType

    assert resource.labels is not None
    for disk in resource.raw.volumes.values():
        if disk.volume_type == VolumeServerVolumeType.SBS_VOLUME:
            apis.blocks.update_volume(
                zone=resource.place, volume_id=disk.id, name=resource.name, tags=_tags(resource.labels)
            )


def _make_group(apis: _Apis, values: Values, order: Order, offer: Offer) -> Resource:
    """Create a security group; it blocks all traffic until it has rules."""
    from scaleway.instance.v1 import SecurityGroupPolicy

    created = apis.instances.create_security_group(
        zone=offer.location,
        name=order.name,
        description="SSH to one worker",
        project=values["SCW_DEFAULT_PROJECT_ID"],
        tags=_tags(order.labels),
        stateful=True,
        inbound_default_policy=SecurityGroupPolicy.DROP,
        outbound_default_policy=SecurityGroupPolicy.ACCEPT,
    ).security_group
    return Resource(created.id, created.name, _labels(created.tags), created, place=offer.location)


def _set_rules(apis: _Apis, resource: Resource, order: Order) -> None:
    from scaleway.instance.v1 import (
        SecurityGroupRuleAction,
        SecurityGroupRuleDirection,
        SecurityGroupRuleProtocol,
        SetSecurityGroupRulesRequestRule,
    )

    rules = [
        SetSecurityGroupRulesRequestRule(
            action=SecurityGroupRuleAction.ACCEPT,
            protocol=SecurityGroupRuleProtocol.TCP,
            direction=SecurityGroupRuleDirection.INBOUND,
            ip_range=network,
            position=position,
            dest_port_from=order.ssh_port,
            editable=True,
        )
        for position, network in enumerate(order.ssh_from, 1)
    ]
    apis.instances.set_security_group_rules(zone=resource.place, security_group_id=resource.id, rules=rules)


def _instance(resource: Resource, values: Values, types: Mapping[str, Any]) -> Instance:
    assert resource.labels is not None
    server = resource.raw
    kind = types.get(server.commercial_type)
    addresses = [each.address for each in server.public_ips if str(each.family) == "inet"]
    # A type that is no longer offered: assume the highest price, so that the caps are never exceeded.
    dearest = max((_eur_per_hour(each, _tax(values)) for each in types.values()), default=0.0)
    return Instance(
        id=resource.id,
        name=resource.name,
        provider=NAME,
        type=server.commercial_type,
        location=resource.place,
        ip=addresses[0] if addresses else None,
        created_at=server.creation_date,
        labels=resource.labels,
        eur_per_hour=_eur_per_hour(kind, _tax(values)) if kind else dearest,
        status=str(server.state),
    )


def _error_kind(error: Exception) -> ErrorKind:
    import requests
    from scaleway_core.api import ScalewayException

    if isinstance(error, requests.ConnectionError | requests.Timeout | requests.JSONDecodeError):
        # A gateway's error page is not JSON.
        return ErrorKind.TRANSIENT
    if not isinstance(error, ScalewayException):
        return ErrorKind.FINAL
    status = error.status_code or 500
    kind = error.response.json().get("type", "")
    if is_about_the_offer(NAME, kind, error.response.text):
        return ErrorKind.NO_CAPACITY
    if kind in _ERROR_KINDS:
        return _ERROR_KINDS[kind]
    return status_kind(status)
