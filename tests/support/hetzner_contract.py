"""The part of Hetzner's Cloud API that Materia uses: operations, fields, states and error codes.

Facts, written down by us from Hetzner's reference (https://docs.hetzner.cloud) and from what `hcloud` sends and reads.
The stand-in is held to this table in every test. `tests/ops/workers/test_hetzner_contract.py` holds the table to the
installed `hcloud`, and to the published OpenAPI description where that file is present.

A field without a default is required; a field that the table does not name is refused.
"""

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from tests.support.fake_cloud import Answer, Asked

AnyObject = dict[str, Any]
Amount = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)?$")]
"""Money, as text with decimals."""
LabelValue = Annotated[
    str, StringConstraints(pattern=r"^(()|[a-z0-9A-Z]|([a-z0-9A-Z][a-z0-9A-Z\._-]{0,61}[a-z0-9A-Z]))$")
]
Labels = dict[str, LabelValue]
Number = Annotated[str, StringConstraints(pattern=r"^\d+$")]
"""A number in a query."""
Time = Annotated[
    str,
    StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$"),
    Field(json_schema_extra={"format": "date-time"}),
]


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


# Requests


class NoQuery(Table):
    pass


class PageQuery(Table):
    name: str | None = None
    page: Number | None = None
    per_page: Number | None = None


class LabelQuery(PageQuery):
    label_selector: str | None = None


class UsedFirewall(Table):
    firewall: int


class CreateServer(Table):
    name: str
    server_type: str
    image: str
    location: str
    ssh_keys: list[str]
    firewalls: list[UsedFirewall]
    user_data: str
    labels: Labels
    start_after_create: bool = True


class CreateKey(Table):
    name: str
    public_key: str
    labels: Labels


Direction = Literal["in", "out"]
Protocol = Literal["tcp", "udp", "icmp", "esp", "gre"]


class OrderedRule(Table):
    direction: Direction
    protocol: Protocol
    port: str | None = None
    source_ips: list[str] = []
    destination_ips: list[str] = []
    description: str | None = None


class CreateFirewall(Table):
    name: str
    labels: Labels
    rules: list[OrderedRule]


# Resources


class Price(Table):
    net: Amount
    gross: Amount


class AddressPrice(Table):
    location: str
    price_hourly: Price
    price_monthly: Price


class ServerPrice(AddressPrice):
    included_traffic: int
    price_per_tb_traffic: Price


class Location(Table):
    id: int
    name: str
    description: str
    country: str
    city: str
    latitude: float
    longitude: float
    network_zone: str


class Deprecation(Table):
    announced: Time
    unavailable_after: Time


class TypeLocation(Table):
    id: int
    name: str
    deprecation: Deprecation | None
    available: bool
    recommended: bool


class ServerType(Table):
    id: int
    name: str
    description: str
    category: str
    architecture: Literal["x86", "arm"]
    cores: int
    memory: float
    disk: float
    cpu_type: Literal["shared", "dedicated"]
    storage_type: Literal["local", "network"]
    deprecated: bool | None
    deprecation: Deprecation | None
    locations: list[TypeLocation]
    prices: list[ServerPrice]


class TypesOfDatacenter(Table):
    supported: list[int]
    available: list[int]
    available_for_migration: list[int]


class Datacenter(Table):
    id: int
    name: str
    description: str
    location: Location
    server_types: TypesOfDatacenter


class IPv4(Table):
    id: int
    ip: str
    blocked: bool
    dns_ptr: str


class AppliedFirewall(Table):
    id: int
    status: Literal["applied", "pending"]


class PublicNet(Table):
    ipv4: IPv4 | None
    ipv6: AnyObject | None
    floating_ips: list[int]
    firewalls: list[AppliedFirewall]


class Protection(Table):
    delete: bool
    rebuild: bool


class Server(Table):
    id: int
    name: str
    status: Literal[
        "running",
        "initializing",
        "starting",
        "stopping",
        "off",
        "deleting",
        "migrating",
        "rebuilding",
        "unknown",
    ]
    created: Time
    labels: Labels
    location: Location
    datacenter: Datacenter
    server_type: ServerType
    public_net: PublicNet
    private_net: list[AnyObject]
    image: AnyObject | None
    iso: AnyObject | None
    placement_group: AnyObject | None = None
    protection: Protection
    volumes: list[int]
    primary_disk_size: int
    backup_window: str | None
    locked: bool
    rescue_enabled: bool
    included_traffic: int | None
    ingoing_traffic: int | None
    outgoing_traffic: int | None


class Key(Table):
    id: int
    name: str
    public_key: str
    fingerprint: str
    labels: Labels
    created: Time


class Rule(Table):
    direction: Direction
    protocol: Protocol
    port: str | None
    source_ips: list[str]
    destination_ips: list[str]
    description: str | None


class Firewall(Table):
    id: int
    name: str
    labels: Labels
    rules: list[Rule]
    applied_to: list[AnyObject]
    created: Time


class Resource(Table):
    id: int
    type: str


class ActionError(Table):
    code: str
    message: str


class Action(Table):
    id: int
    command: str
    status: Literal["running", "success", "error"]
    progress: int
    started: Time
    finished: Time | None
    resources: list[Resource]
    error: ActionError | None


# Responses


class Pagination(Table):
    page: int
    per_page: int
    previous_page: int | None
    next_page: int | None
    last_page: int | None
    total_entries: int | None


class Meta(Table):
    pagination: Pagination


class Servers(Table):
    servers: list[Server]
    meta: Meta


class OneServer(Table):
    server: Server


class CreatedServer(Table):
    server: Server
    action: Action
    next_actions: list[Action]
    root_password: str | None


class DeletedServer(Table):
    action: Action


class Keys(Table):
    ssh_keys: list[Key]
    meta: Meta


class OneKey(Table):
    ssh_key: Key


class Firewalls(Table):
    firewalls: list[Firewall]
    meta: Meta


class OneFirewall(Table):
    firewall: Firewall


class CreatedFirewall(Table):
    firewall: Firewall
    actions: list[Action]


class ServerTypes(Table):
    server_types: list[ServerType]
    meta: Meta


class AddressPrices(Table):
    type: Literal["ipv4", "ipv6"]
    prices: list[AddressPrice]


class PerGigabyte(Table):
    price_per_gb_month: Price


class PerMonth(Table):
    price_monthly: Price


class BackupShare(Table):
    percentage: Amount


class Pricing(Table):
    currency: str
    vat_rate: Amount
    primary_ips: list[AddressPrices]
    image: PerGigabyte
    volume: PerGigabyte
    floating_ip: PerMonth
    floating_ips: list[AnyObject]
    server_backup: BackupShare
    server_types: list[AnyObject]
    load_balancer_types: list[AnyObject]


class Prices(Table):
    pricing: Pricing


class Fault(Table):
    code: str
    message: str
    details: AnyObject | None = None


class Refusal(Table):
    error: Fault


@dataclass(frozen=True)
class Operation:
    """What may be asked at a method and path, and what answers it when nothing is wrong."""

    method: str
    path: str
    status: int
    response: type[Table] | None = None
    query: type[Table] = NoQuery
    request: type[Table] | None = None

    @cached_property
    def pattern(self) -> "re.Pattern[str]":
        return re.compile(self.path.replace("{id}", r"\d+"))

    def answers(self, method: str, path: str) -> bool:
        return method == self.method and self.pattern.fullmatch(path) is not None


OPERATIONS = (
    Operation("GET", "/servers", 200, Servers, query=LabelQuery),
    Operation("POST", "/servers", 201, CreatedServer, request=CreateServer),
    Operation("GET", "/servers/{id}", 200, OneServer),
    Operation("DELETE", "/servers/{id}", 200, DeletedServer),
    Operation("GET", "/ssh_keys", 200, Keys, query=LabelQuery),
    Operation("POST", "/ssh_keys", 201, OneKey, request=CreateKey),
    Operation("GET", "/ssh_keys/{id}", 200, OneKey),
    Operation("DELETE", "/ssh_keys/{id}", 204),
    Operation("GET", "/firewalls", 200, Firewalls, query=LabelQuery),
    Operation("POST", "/firewalls", 201, CreatedFirewall, request=CreateFirewall),
    Operation("GET", "/firewalls/{id}", 200, OneFirewall),
    Operation("DELETE", "/firewalls/{id}", 204),
    Operation("GET", "/server_types", 200, ServerTypes, query=PageQuery),
    Operation("GET", "/pricing", 200, Prices),
)

ERRORS = {
    # code: HTTP status
    "unauthorized": 401,
    "not_found": 404,
    "uniqueness_error": 409,
    "resource_unavailable": 412,
    "invalid_input": 422,
    "invalid_server_type": 422,
    "resource_in_use": 422,
    "rate_limit_exceeded": 429,
    "service_error": 500,
    "robot_unavailable": 503,
    "unavailable": 503,
}


def request_faults(asked: Asked) -> str | None:
    """How a request differs from the table; None where it does not."""
    operation = _operation(asked)
    if operation is None:
        return "no such operation"
    body = asked.raw or b"null"
    return _faults(operation.query, json.dumps(dict(asked.query)).encode()) or _faults(operation.request, body)


def answer_faults(asked: Asked, answer: Answer) -> str | None:
    """How an answer differs from the table; None where it does not."""
    body = json.dumps(answer.body).encode()
    if answer.status >= 400:
        code = (answer.body or {}).get("error", {}).get("code")
        if ERRORS.get(code) != answer.status:
            return f"{code} does not come with {answer.status}"
        return _faults(Refusal, body)
    operation = _operation(asked)
    if operation is None:
        return "no such operation"
    return _faults(operation.response, body) if answer.status == operation.status else "another status"


def _operation(asked: Asked) -> Operation | None:
    return next((each for each in OPERATIONS if each.answers(asked.method, asked.path)), None)


def _faults(table: type[Table] | None, body: bytes) -> str | None:
    if table is None:
        return None if body == b"null" else f"no body is expected: {body[:200]!r}"
    try:
        table.model_validate_json(body)
    except ValidationError as error:
        return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
    return None
