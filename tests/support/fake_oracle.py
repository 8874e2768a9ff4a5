"""A stateful stand-in for Oracle's compute, network and identity APIs on loopback, and its public price list.

Held against the models of Oracle's SDK, which are generated from its published description.
"""

import base64
import re
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

from tests.support.described import as_oracle_model
from tests.support.fake_cloud import Answer, Asked, FakeCloud

REGION = "eu-frankfurt-1"
DOMAINS = ("Fake:EU-FRANKFURT-1-AD-1", "Fake:EU-FRANKFURT-1-AD-2")
TENANCY, COMPARTMENT, SUBNET = (f"ocid1.{kind}.oc1..fake" for kind in ("tenancy", "compartment", "subnet"))
USER, FINGERPRINT = "ocid1.user.oc1..fake", "20:3b:97:13:55:1c:5b:0d:d3:37:d8:50:4e:c5:3a:34"
SHAPES = ("VM.Standard.E4.Flex", "VM.Standard.E5.Flex", "VM.Standard.A1.Flex")
PRICES = {
    # part: name, EUR for its unit, without tax
    "B93113": ("Compute - Standard - E4 - OCPU", 0.0236),
    "B93114": ("Compute - Standard - E4 - Memory", 0.00142),
    "B97384": ("Compute - Standard - E5 - OCPU", 0.0284),
    "B97385": ("Compute - Standard - E5 - Memory", 0.0019),
    "B91961": ("Storage - Block Volume - Storage", 0.0241),
    "B91962": ("Storage - Block Volume - Performance Units", 0.0016),
}
_API = "/20160918"
_ENDED = ("TERMINATING", "TERMINATED")
_STATUS = {
    "rate_limit_exceeded": (429, "TooManyRequests", "Too many requests for the user."),
    "resource_unavailable": (500, "InternalError", "Out of host capacity."),
    "uniqueness_error": (409, "InvalidatedRetryToken", "The retry token was used before."),
    "service_error": (500, "InternalError", "Internal server error."),
    "unavailable": (503, "ServiceUnavailable", "The service is unavailable."),
    "not_found": (404, "NotAuthorizedOrNotFound", "Authorization failed or requested resource not found."),
    "resource_in_use": (409, "IncorrectState", "The resource is in use."),
    "unauthorized": (401, "NotAuthenticated", "The required information to complete authentication is missing."),
    "invalid_input": (400, "InvalidParameter", "A parameter is wrong."),
    "unsupported_location": (404, "NotAuthorizedOrNotFound", "shape VM.Standard.E4.Flex not found"),
    "invalid_server_type": (400, "InvalidParameter", "Shape VM.Standard.E4.Flex is not valid for image ocid1.image."),
}


@cache
def signing_key() -> str:
    """A throw-away RSA key as Oracle's users have one (PEM)."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    ).decode()


class FakeOracle(FakeCloud):
    """The compartment, its instances and network security groups, in a region of two availability domains."""

    OPERATIONS: Mapping[str, tuple[str, str]] = {
        "list server": ("GET", f"{_API}/instances"),
        "create server": ("POST", f"{_API}/instances"),
        "get server": ("GET", rf"{_API}/instances/[\w.-]+"),
        "delete server": ("DELETE", rf"{_API}/instances/[\w.-]+"),
        "list firewall": ("GET", f"{_API}/networkSecurityGroups"),
        "create firewall": ("POST", f"{_API}/networkSecurityGroups"),
        "rule firewall": ("POST", rf"{_API}/networkSecurityGroups/[\w.-]+/actions/addSecurityRules"),
        "delete firewall": ("DELETE", rf"{_API}/networkSecurityGroups/[\w.-]+"),
        "list types": ("GET", f"{_API}/shapes"),
        "list prices": ("GET", "/prices"),
    }

    def __init__(self) -> None:
        super().__init__()
        self.servers: dict[str, dict[str, Any]] = {}
        self.firewalls: dict[str, dict[str, Any]] = {}
        self.rules: dict[str, list[dict[str, Any]]] = {}
        self.user_data: dict[str, str] = {}
        self.tokens: dict[str, str] = {}
        self.no_room = 0
        """How many servers will be made, and then be terminated because there is no room."""
        self.short_of: set[str] = set()
        """Shapes that the capacity report says are out of stock."""
        self.may_report = True

    @property
    def held(self) -> list[tuple[str, str]]:
        found = {"server": self.servers, "firewall": self.firewalls}
        return sorted(
            (kind, number)
            for kind, things in found.items()
            for number, each in things.items()
            if each["lifecycleState"] != "TERMINATED"
        )

    def foreign(self, name: str, kind: str = "servers") -> str:
        tags = {"managed-by": "somebody"}
        if kind == "servers":
            body = {"displayName": name, "shape": SHAPES[0], "availabilityDomain": DOMAINS[0], "freeformTags": tags}
            return str(self._make_server(body | {"shapeConfig": {"ocpus": 1.0, "memoryInGBs": 8.0}})["id"])
        return str(self._make_group({"displayName": name, "vcnId": "ocid1.vcn.oc1..fake", "freeformTags": tags})["id"])

    def is_known(self, asked: Asked) -> bool:
        key = f'keyId="{TENANCY}/{USER}/{FINGERPRINT}"'
        headers = {name.lower(): value for name, value in asked.headers.items()}
        return asked.path == "/prices" or key in headers.get("authorization", "")

    def error(self, code: str) -> Answer:
        status, kind, text = _STATUS[code]
        return Answer(status, {"code": kind, "message": text})

    def answer(self, asked: Asked) -> Answer:
        for server in self.servers.values():
            _go_on(server)
        match asked.method, asked.path.removeprefix(_API).strip("/").split("/"):
            case "GET", ["prices"]:
                return Answer(200, {"items": [_priced(part) for part in PRICES]})
            case "GET", ["availabilityDomains"]:
                return Answer(200, [{"name": each, "id": each, "compartmentId": TENANCY} for each in DOMAINS])
            case "GET", ["shapes"]:
                return Answer(200, [_shape(each) for each in SHAPES])
            case "POST", ["computeCapacityReports"]:
                return self._report(asked.body) if self.may_report else self.error("not_found")
            case "GET", ["images"]:
                return Answer(200, [_image()])
            case "GET", ["subnets", _]:
                return Answer(200, _subnet())
            case "GET", ["vnicAttachments"]:
                return Answer(200, [_attachment(self.servers[asked.query["instanceId"]])])
            case "GET", ["vnics", number]:
                return Answer(200, _vnic(number))
            case _, ["instances", *rest]:
                return self._on_servers(asked, rest)
            case _, ["networkSecurityGroups", *rest]:
                return self._on_groups(asked, rest)
        return self.error("not_found")

    def _report(self, body: Mapping[str, Any]) -> Answer:
        availabilities = [
            {
                "instanceShape": each["instanceShape"],
                "instanceShapeConfig": each["instanceShapeConfig"],
                "availabilityStatus": "OUT_OF_HOST_CAPACITY" if each["instanceShape"] in self.short_of else "AVAILABLE",
            }
            for each in body["shapeAvailabilities"]
        ]
        same = {name: body[name] for name in ("compartmentId", "availabilityDomain")}
        return Answer(200, {**same, "shapeAvailabilities": availabilities, "timeCreated": _now()})

    def _on_servers(self, asked: Asked, rest: list[str]) -> Answer:
        match asked.method, rest:
            case "GET", []:
                wanted = asked.query.get("displayName")
                found = [each for each in self.servers.values() if wanted in (None, each["displayName"])]
                return Answer(200, found)
            case "POST", []:
                token = asked.headers.get("opc-retry-token", "")
                if token in self.tokens:
                    created = self.servers[self.tokens[token]]
                    return (
                        self.error("uniqueness_error") if created["lifecycleState"] in _ENDED else Answer(200, created)
                    )
                if asked.body["shape"] not in SHAPES or asked.body["availabilityDomain"] not in DOMAINS:
                    return self.error("invalid_input")
                if any(each not in self.firewalls for each in asked.body["createVnicDetails"]["nsgIds"]):
                    return self.error("not_found")
                self.creations += 1
                created = self._make_server(asked.body)
                if token:
                    self.tokens[token] = created["id"]
                return Answer(200, created)
        server = self.servers.get(rest[0])
        if server is None:
            return self.error("not_found")
        if asked.method == "GET":
            return Answer(200, server)
        if server["lifecycleState"] in _ENDED:
            return self.error("resource_in_use")
        server["lifecycleState"] = "TERMINATING"
        return Answer(204)

    def _make_server(self, body: Mapping[str, Any]) -> dict[str, Any]:
        number = f"ocid1.instance.oc1..{uuid.uuid4()}"
        self.user_data[number] = base64.b64decode(body.get("metadata", {}).get("user_data", "")).decode()
        self.servers[number] = {
            "_fails": self.no_room > 0,
            "_groups": body.get("createVnicDetails", {}).get("nsgIds", []),
            "id": number,
            "displayName": body["displayName"],
            "availabilityDomain": body["availabilityDomain"],
            "compartmentId": COMPARTMENT,
            "lifecycleState": "PROVISIONING",
            "region": REGION,
            "shape": body["shape"],
            "shapeConfig": {**body["shapeConfig"], "vcpus": int(2 * body["shapeConfig"]["ocpus"])},
            "timeCreated": _now(),
            "freeformTags": body.get("freeformTags", {}),
            "metadata": body.get("metadata", {}),
        }
        self.no_room = max(0, self.no_room - 1)
        return self.servers[number]

    def _on_groups(self, asked: Asked, rest: list[str]) -> Answer:
        match asked.method, rest:
            case "GET", []:
                wanted = asked.query.get("displayName")
                return Answer(200, [each for each in self.firewalls.values() if wanted in (None, each["displayName"])])
            case "POST", []:
                return Answer(200, self._make_group(asked.body))
        group = self.firewalls.get(rest[0])
        if group is None:
            return self.error("not_found")
        match asked.method, rest[1:]:
            case "GET", []:
                return Answer(200, group)
            case "GET", ["securityRules"]:
                return Answer(200, self.rules[group["id"]])
            case "POST", ["actions", "addSecurityRules"]:
                rules = [{**rule, "id": uuid.uuid4().hex[:6].upper()} for rule in asked.body["securityRules"]]
                self.rules[group["id"]] += rules
                return Answer(200, {"securityRules": rules})
            case "DELETE", []:
                living = [each for each in self.servers.values() if each["lifecycleState"] != "TERMINATED"]
                if any(group["id"] in each["_groups"] for each in living):
                    return self.error("resource_in_use")
                del self.firewalls[group["id"]]
                return Answer(204)
        return self.error("not_found")

    def _make_group(self, body: Mapping[str, Any]) -> dict[str, Any]:
        group = {
            "id": f"ocid1.networksecuritygroup.oc1..{uuid.uuid4()}",
            "displayName": body["displayName"],
            "compartmentId": COMPARTMENT,
            "vcnId": body["vcnId"],
            "lifecycleState": "AVAILABLE",
            "timeCreated": _now(),
            "freeformTags": body.get("freeformTags", {}),
        }
        self.firewalls[group["id"]] = group
        self.rules[group["id"]] = []
        return group

    def faults_of(self, asked: Asked, answer: Answer | None) -> str | None:
        return "; ".join(_wrong(asked, answer)) or None


def _wrong(asked: Asked, answer: Answer | None) -> Iterator[str]:
    """What the SDK's models do not know, or miss."""
    import oci.core.models as core
    import oci.identity.models as identity

    path = re.sub(r"ocid1\.[\w.-]+", "ID", asked.path.removeprefix(_API))
    described: dict[tuple[str, str], tuple[type | None, type | None]] = {
        ("GET", "/availabilityDomains"): (None, identity.AvailabilityDomain),
        ("GET", "/shapes"): (None, core.Shape),
        ("POST", "/computeCapacityReports"): (core.CreateComputeCapacityReportDetails, core.ComputeCapacityReport),
        ("GET", "/images"): (None, core.Image),
        ("GET", "/subnets/ID"): (None, core.Subnet),
        ("GET", "/vnicAttachments"): (None, core.VnicAttachment),
        ("GET", "/vnics/ID"): (None, core.Vnic),
        ("GET", "/instances"): (None, core.Instance),
        ("POST", "/instances"): (core.LaunchInstanceDetails, core.Instance),
        ("GET", "/instances/ID"): (None, core.Instance),
        ("DELETE", "/instances/ID"): (None, None),
        ("GET", "/networkSecurityGroups"): (None, core.NetworkSecurityGroup),
        ("POST", "/networkSecurityGroups"): (core.CreateNetworkSecurityGroupDetails, core.NetworkSecurityGroup),
        ("GET", "/networkSecurityGroups/ID"): (None, core.NetworkSecurityGroup),
        ("DELETE", "/networkSecurityGroups/ID"): (None, None),
        ("GET", "/networkSecurityGroups/ID/securityRules"): (None, core.SecurityRule),
        ("POST", "/networkSecurityGroups/ID/actions/addSecurityRules"): (
            core.AddNetworkSecurityGroupSecurityRulesDetails,
            core.AddedNetworkSecurityGroupSecurityRules,
        ),
        ("GET", "/prices"): (None, None),
    }
    if (asked.method, path) not in described:
        yield "no such operation"
        return
    wanted, answered = described[asked.method, path]
    if wanted is not None and answer is None:
        yield from as_oracle_model(wanted, asked.body)
    if answered is not None and answer is not None and answer.status < 300:
        for each in answer.body if isinstance(answer.body, list) else [answer.body]:
            yield from as_oracle_model(answered, each)


def _go_on(server: dict[str, Any]) -> None:
    """What was under way a moment ago is done now."""
    match server["lifecycleState"]:
        case "PROVISIONING":
            server["lifecycleState"] = "TERMINATING" if server["_fails"] else "RUNNING"
        case "TERMINATING":
            server["lifecycleState"] = "TERMINATED"


def _priced(part: str) -> dict[str, Any]:
    name, eur = PRICES[part]
    prices = [{"model": "PAY_AS_YOU_GO", "value": 0.0, "rangeMax": 1}, {"model": "PAY_AS_YOU_GO", "value": eur}]
    localised = [{"currencyCode": "EUR", "prices": prices}]
    return {"partNumber": part, "displayName": name, "metricName": "", "currencyCodeLocalizations": localised}


def _shape(name: str) -> dict[str, Any]:
    return {
        "shape": name,
        "ocpus": 1.0,
        "memoryInGBs": 16.0,
        "isFlexible": True,
        "ocpuOptions": {"min": 1.0, "max": 64.0},
        "memoryOptions": {"minInGBs": 1.0, "maxInGBs": 1024.0},
    }


def _image() -> dict[str, Any]:
    return {
        "id": "ocid1.image.oc1..fake",
        "displayName": "Canonical-Ubuntu-24.04-2026.10.31-0",
        "compartmentId": COMPARTMENT,
        "createImageAllowed": True,
        "lifecycleState": "AVAILABLE",
        "operatingSystem": "Canonical Ubuntu",
        "operatingSystemVersion": "24.04",
        "timeCreated": _now(),
    }


def _subnet() -> dict[str, Any]:
    return {
        "id": SUBNET,
        "cidrBlock": "10.0.0.0/24",
        "compartmentId": COMPARTMENT,
        "lifecycleState": "AVAILABLE",
        "routeTableId": "ocid1.routetable.oc1..fake",
        "vcnId": "ocid1.vcn.oc1..fake",
        "virtualRouterIp": "10.0.0.1",
        "virtualRouterMac": "00:00:17:00:00:01",
    }


def _attachment(server: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": f"ocid1.vnicattachment.oc1..{server['id'].rpartition('.')[2]}",
        "availabilityDomain": server["availabilityDomain"],
        "compartmentId": COMPARTMENT,
        "instanceId": server["id"],
        "lifecycleState": "ATTACHED",
        "subnetId": SUBNET,
        "timeCreated": _now(),
        "vnicId": f"ocid1.vnic.oc1..{server['id'].rpartition('.')[2]}",
    }


def _vnic(number: str) -> dict[str, Any]:
    last = uuid.UUID(number.rpartition(".")[2]).int
    return {
        "id": number,
        "availabilityDomain": DOMAINS[0],
        "compartmentId": COMPARTMENT,
        "lifecycleState": "AVAILABLE",
        "subnetId": SUBNET,
        "timeCreated": _now(),
        "publicIp": f"127.4.{last % 250}.{last // 250 % 250 + 1}",
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
