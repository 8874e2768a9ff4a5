"""Oracle Cloud Infrastructure through its own SDK. Availability domains are its locations; labels are free-form tags.

Its API has no prices: they come from Oracle's public price list, by the part numbers of each shape's processors and
memory. A shape whose parts are unknown here or missing in the list is not offered.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
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

NAME = "oracle"
IMAGE = ("Canonical Ubuntu", "24.04")

# Part numbers of an OCPU (two vCPU) and of a GB of memory, each an hour: https://www.oracle.com/cloud/price-list/
SHAPES = {
    "VM.Standard3.Flex": ("B94176", "B94177"),
    "VM.Standard.E4.Flex": ("B93113", "B93114"),
    "VM.Standard.E5.Flex": ("B97384", "B97385"),
    "VM.Standard.E6.Flex": ("B111129", "B111130"),
}
SIZES = ((1, 8), (2, 16), (4, 32))
"""The OCPUs and GB of memory that flexible shapes are offered with."""

DISK_GB = 50
DISK_PERFORMANCE_UNITS = 10
# A GB of disk, and a performance unit of it, each per month.
_DISK_PARTS = ("B91961", "B91962")
_HOURS_A_MONTH = 730

_REQUEST_TIMEOUT_S = (10.0, 30.0)
_MAX_PAGES = 50
_GONE = ("TERMINATED", "TERMINATING")
_OF_CODE = {
    "NotAuthenticated": ErrorKind.REFUSED,
    "NotAuthorized": ErrorKind.REFUSED,
    # Oracle does not distinguish a missing resource from one without permission.
    "NotAuthorizedOrNotFound": ErrorKind.GONE,
    "NotFound": ErrorKind.GONE,
    "IncorrectState": ErrorKind.BUSY,
    "Conflict": ErrorKind.BUSY,
    "PreconditionFailed": ErrorKind.BUSY,
    "TooManyRequests": ErrorKind.TRANSIENT,
    "InvalidatedRetryToken": ErrorKind.TAKEN,
}


@dataclass(frozen=True)
class _Apis:
    compute: Any
    network: Any
    identity: Any


def provider(values: Values, *, pause_s: float = 1.0) -> Provider:
    """Oracle with an API signing key; `pause_s` is the first pause between two attempts."""
    apis = _apis(values)
    tax = values["MATERIA_WORKER_TAX_PERCENT"] / 100
    prices = cache(lambda: fetch_prices("Oracle's price list", values["OCI_PRICES_URL"], partial(_prices, tax)))
    domains = cache(partial(_domains, apis, values))
    return provider_from(
        Cloud(
            name=NAME,
            title="Oracle",
            credentials="OCI_CLI_USER, OCI_CLI_TENANCY, OCI_CLI_FINGERPRINT and OCI_CLI_KEY_CONTENT",
            user="root",
            servers=_servers(apis, values),
            supplies=(
                Supply(
                    _groups(apis, values),
                    make=partial(_make_group, apis, values),
                    complete=partial(_complete_group, apis),
                ),
            ),
            remnants=(),
            offers=lambda: tuple(each for domain in domains() for each in _offers(apis, values, domain, prices())),
            create=partial(_create, apis, values),
            instance=lambda resource: _instance(apis, values, resource, prices()),
            error_kind=_error_kind,
            error_text=_error_text,
            refresh=lambda resource: _resource(apis.compute.get_instance(resource.id).data),
            failure=lambda resource: "it was terminated during its creation" if resource.is_leaving else None,
            pause_s=pause_s,
        )
    )


def _apis(values: Values) -> _Apis:
    from oci.circuit_breaker import NoCircuitBreakerStrategy
    from oci.core import ComputeClient, VirtualNetworkClient
    from oci.identity import IdentityClient
    from oci.retry import NoneRetryStrategy

    config = {
        "user": values["OCI_CLI_USER"],
        "tenancy": values["OCI_CLI_TENANCY"],
        "fingerprint": values["OCI_CLI_FINGERPRINT"],
        "region": values["OCI_CLI_REGION"],
        "key_content": values["OCI_CLI_KEY_CONTENT"],
    }
    given: dict[str, Any] = {
        "timeout": _REQUEST_TIMEOUT_S,
        # Retries are ours, and a machine must be destroyed even after many errors.
        "retry_strategy": NoneRetryStrategy(),
        "circuit_breaker_strategy": NoCircuitBreakerStrategy(),
    }
    if values["OCI_API_URL"]:
        given["service_endpoint"] = values["OCI_API_URL"]
    return _Apis(ComputeClient(config, **given), VirtualNetworkClient(config, **given), IdentityClient(config, **given))


def _list_all(ask: Callable[..., Any], *arguments: Any, **given: Any) -> list[Any]:
    """All pages. The SDK's own helper retries for minutes."""
    found: list[Any] = []
    for _ in range(_MAX_PAGES):
        answer = ask(*arguments, **given)
        found += answer.data
        if (page := answer.headers.get("opc-next-page")) is None:
            break
        given["page"] = page
    return found


def _servers(apis: _Apis, values: Values) -> Kind:
    def list_matching(**filters: Any) -> Iterator[Resource]:
        for each in _list_all(apis.compute.list_instances, values["OCI_COMPARTMENT_ID"], **filters):
            # Terminated instances are listed for hours.
            if each.lifecycle_state != "TERMINATED":
                yield _resource(each)

    return Kind(
        what="server",
        find_by_name=lambda name: list_matching(display_name=name),
        list_ours=list_matching,
        delete=partial(_terminate, apis),
        is_there=lambda resource: apis.compute.get_instance(resource.id).data.lifecycle_state != "TERMINATED",
    )


def _terminate(apis: _Apis, resource: Resource) -> None:
    # Termination takes minutes, and a second request meanwhile is an error.
    if not resource.is_leaving and apis.compute.get_instance(resource.id).data.lifecycle_state not in _GONE:
        apis.compute.terminate_instance(resource.id, preserve_boot_volume=False)


def _resource(instance: Any) -> Resource:
    is_leaving = instance.lifecycle_state in _GONE
    tags = instance.freeform_tags or {}
    return Resource(instance.id, instance.display_name, Labels.read(tags), instance, is_leaving=is_leaving)


def _groups(apis: _Apis, values: Values) -> Kind:
    def list_matching(**filters: Any) -> Iterator[Resource]:
        listed = _list_all(
            apis.network.list_network_security_groups, compartment_id=values["OCI_COMPARTMENT_ID"], **filters
        )
        for each in listed:
            if each.lifecycle_state != "TERMINATED":
                yield Resource(each.id, each.display_name, Labels.read(each.freeform_tags or {}), each)

    def is_there(resource: Resource) -> bool:
        return bool(apis.network.get_network_security_group(resource.id).data.lifecycle_state != "TERMINATED")

    return Kind(
        what="firewall",
        find_by_name=lambda name: list_matching(display_name=name),
        list_ours=list_matching,
        delete=lambda resource: apis.network.delete_network_security_group(resource.id),
        is_there=is_there,
    )


def _prices(tax: float, listed: Any) -> Mapping[str, float]:
    """EUR per unit of each part, pay as you go, with tax; raises WorkerError without the disk's prices."""
    found: dict[str, float] = {}
    for item in listed["items"]:
        values = [
            price["value"]
            for localised in item["currencyCodeLocalizations"]
            if localised["currencyCode"] == "EUR"
            for price in localised["prices"]
            if price["model"] == "PAY_AS_YOU_GO"
        ]
        if values:
            # The first of several prices is the free tier, which the caps ignore.
            found[item["partNumber"]] = max(values) * (1 + tax)
    if missing := [part for part in _DISK_PARTS if part not in found]:
        raise WorkerError(f"Oracle's price list lacks the disk parts {' and '.join(missing)}; no machine is created")
    return found


def _eur_per_hour(shape: str, ocpus: float, memory_gb: float, prices: Mapping[str, float]) -> float | None:
    """Price of processors, memory and disk; None if one of them has no price."""
    parts = SHAPES.get(shape)
    if parts is None or not all(part in prices for part in parts):
        return None
    of_disk = DISK_GB * (prices[_DISK_PARTS[0]] + DISK_PERFORMANCE_UNITS * prices[_DISK_PARTS[1]]) / _HOURS_A_MONTH
    return round(ocpus * prices[parts[0]] + memory_gb * prices[parts[1]] + of_disk, 6)


def _domains(apis: _Apis, values: Values) -> tuple[str, ...]:
    return tuple(each.name for each in _list_all(apis.identity.list_availability_domains, values["OCI_CLI_TENANCY"]))


def _offers(apis: _Apis, values: Values, domain: str, prices: Mapping[str, float]) -> Iterator[Offer]:
    shapes = _list_all(apis.compute.list_shapes, values["OCI_COMPARTMENT_ID"], availability_domain=domain)
    names = sorted({each.shape for each in shapes} & SHAPES.keys())
    out_of_stock = _out_of_stock(apis, values, domain, names)
    for name in names:
        for ocpus, memory_gb in SIZES:
            eur_per_hour = _eur_per_hour(name, ocpus, memory_gb, prices)
            if eur_per_hour is not None:
                yield Offer(
                    type=f"{name}:{ocpus}x{memory_gb}",
                    location=domain,
                    cores=2 * ocpus,
                    memory_gb=float(memory_gb),
                    eur_per_hour=eur_per_hour,
                    available=(name, ocpus) not in out_of_stock,
                )


def _out_of_stock(apis: _Apis, values: Values, domain: str, names: list[str]) -> set[tuple[str, float]]:
    """Shapes without capacity; empty if our key may not read the capacity report."""
    from oci.core import models

    wanted = [
        models.CreateCapacityReportShapeAvailabilityDetails(
            instance_shape=name,
            instance_shape_config=models.CapacityReportInstanceShapeConfig(ocpus=ocpus, memory_in_gbs=memory_gb),
        )
        for name in names
        for ocpus, memory_gb in SIZES
    ]
    if not wanted:
        return set()
    details = models.CreateComputeCapacityReportDetails(
        compartment_id=values["OCI_CLI_TENANCY"], availability_domain=domain, shape_availabilities=wanted
    )
    try:
        report = apis.compute.create_compute_capacity_report(details).data
    except Exception as error:
        if _error_kind(error) in (ErrorKind.GONE, ErrorKind.REFUSED):
            # Only keys for the whole tenancy may read this.
            return set()
        raise
    return {
        (each.instance_shape, each.instance_shape_config.ocpus)
        for each in report.shape_availabilities
        if each.availability_status != "AVAILABLE"
    }


def _create(apis: _Apis, values: Values, order: Order, offer: Offer, supplies: Mapping[str, Resource]) -> Resource:
    import base64
    import hashlib

    from oci.core import models
    from oci.exceptions import ServiceError

    shape, ocpus, memory_gb = _parts_of(offer.type)
    labels = order.labels.as_labels()
    details = models.LaunchInstanceDetails(
        availability_domain=offer.location,
        compartment_id=values["OCI_COMPARTMENT_ID"],
        display_name=order.name,
        shape=shape,
        shape_config=models.LaunchInstanceShapeConfigDetails(ocpus=ocpus, memory_in_gbs=memory_gb),
        source_details=models.InstanceSourceViaImageDetails(
            image_id=_image(apis, values, shape),
            boot_volume_size_in_gbs=DISK_GB,
            boot_volume_vpus_per_gb=DISK_PERFORMANCE_UNITS,
        ),
        create_vnic_details=models.CreateVnicDetails(
            subnet_id=values["OCI_SUBNET_ID"], assign_public_ip=True, nsg_ids=[supplies["firewall"].id]
        ),
        metadata={
            "ssh_authorized_keys": order.public_key,
            "user_data": base64.b64encode(order.user_data.encode()).decode(),
        },
        freeform_tags=labels,
    )
    # The same order requested twice within a day creates one machine.
    token = hashlib.sha256(f"{order.name} {sorted(labels.items())} {offer}".encode()).hexdigest()
    try:
        return _resource(apis.compute.launch_instance(details, opc_retry_token=token).data)
    except ServiceError as error:
        if error.code != "InvalidatedRetryToken":
            raise
        # The machine of the earlier request no longer exists.
        return _resource(apis.compute.launch_instance(details).data)


def _parts_of(offered: str) -> tuple[str, float, float]:
    shape, _, size = offered.partition(":")
    ocpus, _, memory_gb = size.partition("x")
    return shape, float(ocpus), float(memory_gb)


def _image(apis: _Apis, values: Values, shape: str) -> str:
    system, version = IMAGE
    found: Iterable[Any] = apis.compute.list_images(
        values["OCI_COMPARTMENT_ID"],
        operating_system=system,
        operating_system_version=version,
        shape=shape,
        lifecycle_state="AVAILABLE",
        sort_by="TIMECREATED",
        sort_order="DESC",
        limit=1,
    ).data
    for image in found:
        return str(image.id)
    raise NoCapacityError(f"there is no image of {system} {version} for {shape}")


def _make_group(apis: _Apis, values: Values, order: Order, offer: Offer) -> Resource:
    """Create a security group; it blocks all traffic until it has rules."""
    from oci.core import models

    details = models.CreateNetworkSecurityGroupDetails(
        compartment_id=values["OCI_COMPARTMENT_ID"],
        vcn_id=apis.network.get_subnet(values["OCI_SUBNET_ID"]).data.vcn_id,
        display_name=order.name,
        freeform_tags=order.labels.as_labels(),
    )
    created = apis.network.create_network_security_group(details).data
    return Resource(created.id, created.display_name, Labels.read(created.freeform_tags or {}), created)


def _complete_group(apis: _Apis, resource: Resource, order: Order) -> None:
    from oci.core import models

    there = {
        rule.source
        for rule in _list_all(apis.network.list_network_security_group_security_rules, resource.id, direction="INGRESS")
    }
    ports = models.TcpOptions(destination_port_range=models.PortRange(min=order.ssh_port, max=order.ssh_port))
    rules = [
        models.AddSecurityRuleDetails(
            direction="INGRESS", protocol="6", source=source, source_type="CIDR_BLOCK", tcp_options=ports
        )
        for source in order.ssh_from
        # The machine has no IPv6 address, and a network without IPv6 refuses such rules.
        if source not in there and ":" not in source
    ]
    if rules:
        details = models.AddNetworkSecurityGroupSecurityRulesDetails(security_rules=rules)
        apis.network.add_network_security_group_security_rules(resource.id, details)


def _instance(apis: _Apis, values: Values, resource: Resource, prices: Mapping[str, float]) -> Instance:
    assert resource.labels is not None
    found = resource.raw
    ocpus, memory_gb = found.shape_config.ocpus, found.shape_config.memory_in_gbs
    eur_per_hour = _eur_per_hour(found.shape, ocpus, memory_gb, prices)
    if eur_per_hour is None:
        # No longer in the list: assume the highest price, so that the caps are never exceeded.
        known = (_eur_per_hour(shape, ocpus, memory_gb, prices) for shape in SHAPES)
        eur_per_hour = max((each for each in known if each is not None), default=0.0)
    return Instance(
        id=resource.id,
        name=resource.name,
        provider=NAME,
        type=f"{found.shape}:{ocpus:g}x{memory_gb:g}",
        location=found.availability_domain,
        ip=_address(apis, values, resource) if found.lifecycle_state == "RUNNING" else None,
        created_at=found.time_created,
        labels=resource.labels,
        eur_per_hour=eur_per_hour,
        status=found.lifecycle_state.lower(),
    )


def _address(apis: _Apis, values: Values, resource: Resource) -> str | None:
    attached = apis.compute.list_vnic_attachments(values["OCI_COMPARTMENT_ID"], instance_id=resource.id).data
    for each in attached:
        if each.lifecycle_state == "ATTACHED":
            address = apis.network.get_vnic(each.vnic_id).data.public_ip
            return str(address) if address else None
    return None


def _error_kind(error: Exception) -> ErrorKind:
    import requests
    from oci.exceptions import ConnectTimeout, RequestException, ServiceError

    if isinstance(error, RequestException | ConnectTimeout | requests.ConnectionError | requests.Timeout):
        return ErrorKind.TRANSIENT
    if not isinstance(error, ServiceError):
        return ErrorKind.FINAL
    # No capacity is a 500, and an "InternalError" by its code.
    if is_about_the_offer(NAME, error.code, str(error.message)):
        return ErrorKind.NO_CAPACITY
    if error.code in _OF_CODE:
        return _OF_CODE[error.code]
    return status_kind(error.status)


def _error_text(error: Exception) -> str:
    """Code and message; the SDK's own text is a page long."""
    code, message = getattr(error, "code", None), getattr(error, "message", None)
    return f"{code}: {message}" if code and message else str(error)
