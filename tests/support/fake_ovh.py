"""A stateful stand-in for OVHcloud Public Cloud on loopback: OpenStack in two regions, and OVH's price catalogue.

Held against schemas written down from OpenStack's published API references (`openstack_schemas`).
"""

import base64
import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

from tests.support.fake_cloud import Answer, Asked, FakeCloud
from tests.support.openstack_schemas import DESCRIBED

USERNAME, PASSWORD, PROJECT_ID = "user-fake", "openstack-pass-3f9d1c", "0123456789abcdef0123456789abcdef"
REGIONS = ("GRA11", "SBG5")
TYPES = {
    # name: vCPU, MB, GB of disk, EUR an hour without tax
    "b3-8": (2, 8000, 50, 0.0508),
    "b3-16": (4, 16000, 100, 0.1016),
    "c3-8": (4, 8000, 50, 0.0908),
    "win-b3-8": (2, 8000, 50, 0.0900),
    "d2-2": (1, 2000, 25, 0.0110),
}
_SERVERS, _GROUPS = r"/\w+/compute/v2.1/servers", r"/\w+/network/v2.0/security-groups"
_STATUS = {
    "rate_limit_exceeded": 429,
    "resource_unavailable": 403,
    "uniqueness_error": 409,
    "service_error": 500,
    "unavailable": 503,
    "not_found": 404,
    "resource_in_use": 409,
    "unauthorized": 401,
    "invalid_input": 400,
    "unsupported_location": 400,
    "invalid_server_type": 404,
}
_TEXT = {
    "resource_unavailable": "Quota exceeded for instances: Requested 1, but already used 20 of 20 instances",
    "uniqueness_error": "Security group rule already exists",
    "resource_in_use": "Security Group in use.",
    "unsupported_location": "Invalid flavorRef provided.",
    "invalid_server_type": "Flavor b3-8 could not be found.",
}


class FakeOvh(FakeCloud):
    """The project. A region is a part of the path, as each has endpoints of its own in the service catalogue."""

    OPERATIONS: Mapping[str, tuple[str, str]] = {
        "log in": ("POST", "/v3/auth/tokens"),
        "list server": ("GET", rf"{_SERVERS}/detail"),
        "create server": ("POST", _SERVERS),
        "get server": ("GET", rf"{_SERVERS}/[0-9a-f-]{{36}}"),
        "delete server": ("DELETE", rf"{_SERVERS}/[0-9a-f-]{{36}}"),
        "list firewall": ("GET", _GROUPS),
        "create firewall": ("POST", _GROUPS),
        "rule firewall": ("POST", r"/\w+/network/v2.0/security-group-rules"),
        "delete firewall": ("DELETE", rf"{_GROUPS}/[0-9a-f-]{{36}}"),
        "list types": ("GET", r"/\w+/compute/v2.1/flavors/detail"),
        "list prices": ("GET", "/catalogue"),
    }

    def __init__(self) -> None:
        super().__init__()
        self.servers: dict[str, dict[str, Any]] = {}
        self.firewalls: dict[str, dict[str, Any]] = {}
        self.user_data: dict[str, str] = {}
        self.no_room = 0
        """How many servers will be made, and then find no host with room."""
        self.currency = "EUR"

    @property
    def held(self) -> list[tuple[str, str]]:
        kinds = {"server": self.servers, "firewall": self.firewalls}
        return sorted((kind, number) for kind, things in kinds.items() for number in things)

    def foreign(self, name: str, kind: str = "servers") -> str:
        if kind == "servers":
            body = {"name": name, "flavorRef": _id("b3-8"), "metadata": {"managed-by": "somebody"}}
            return str(self._make_server("GRA11", body)["id"])
        return str(self._make_group("GRA11", {"name": name, "description": "somebody's"})["id"])

    def is_known(self, asked: Asked) -> bool:
        if asked.path == "/v3/auth/tokens":
            user = asked.body["auth"]["identity"]["password"]["user"]
            return (user["name"], user["password"]) == (USERNAME, PASSWORD)
        is_open = asked.path == "/catalogue" or asked.path.count("/") == 2 or asked.path.endswith("/compute/v2.1")
        return is_open or asked.headers.get("X-Auth-Token") == "fake-openstack-token"

    def error(self, code: str) -> Answer:
        status = _STATUS[code]
        return Answer(status, {"error": {"code": status, "message": _TEXT.get(code, code.replace("_", " "))}})

    def answer(self, asked: Asked) -> Answer:
        if asked.path == "/catalogue":
            return Answer(200, self._catalogue())
        if asked.path == "/v3/auth/tokens":
            return Answer(201, self._token(asked), {"X-Subject-Token": "fake-openstack-token"})
        region, _, rest = asked.path.removeprefix("/").partition("/")
        match asked.method, rest.strip("/").split("/"):
            case "GET", ["compute", "v2.1"]:
                version = {"id": "v2.1", "status": "CURRENT", "version": "2.79", "min_version": "2.1", "links": []}
                return Answer(200, {"version": version})
            case "GET", [("image" | "network") as service]:
                return Answer(200, self._versions(region, service))
            case "GET", ["compute", "v2.1", "flavors", *_]:
                return Answer(200, {"flavors": [_flavor(name) for name in TYPES]})
            case "GET", ["image", "v2", "images"]:
                image = {"id": _id("Debian 12"), "name": "Debian 12", "status": "active"}
                return Answer(200, {"images": [image]})
            case "GET", ["network", "v2.0", "networks"]:
                return Answer(200, {"networks": [{"id": _id("Ext-Net"), "name": "Ext-Net", "status": "ACTIVE"}]})
            case _, ["compute", "v2.1", "servers", *rest_of]:
                return self._on_servers(asked, region, rest_of)
            case _, ["network", "v2.0", "security-groups", *rest_of]:
                return self._on_groups(asked, region, rest_of)
            case _, ["network", "v2.0", "security-group-rules"]:
                return self._on_rules(asked)
        return self.error("not_found")

    def _token(self, asked: Asked) -> dict[str, Any]:
        def service(kind: str, path: str) -> dict[str, Any]:
            endpoints = [
                {
                    "id": _id(kind + region),
                    "interface": "public",
                    "region": region,
                    "region_id": region,
                    "url": f"{self.url}/{region}{path}",
                }
                for region in REGIONS
            ]
            return {"id": _id(kind), "type": kind, "name": kind, "endpoints": endpoints}

        domain = {"id": "default", "name": "Default"}
        token = {
            "methods": ["password"],
            "issued_at": _now(),
            "expires_at": "2099-01-01T00:00:00.000000Z",
            "audit_ids": ["a"],
            "user": {"id": "u", "name": USERNAME, "domain": domain, "password_expires_at": None},
            "project": {"id": PROJECT_ID, "name": "fake", "domain": domain},
            "roles": [{"id": "r", "name": "administrator"}],
            "catalog": [
                service("compute", "/compute/v2.1"),
                service("network", "/network"),
                service("image", "/image"),
            ],
        }
        return {"token": token}

    def _versions(self, region: str, service: str) -> dict[str, Any]:
        version, path = {"image": ("v2.9", "v2"), "network": ("v2.0", "v2.0")}[service]
        link = {"rel": "self", "href": f"{self.url}/{region}/{service}/{path}/"}
        return {"versions": [{"id": version, "status": "CURRENT", "links": [link]}]}

    def _catalogue(self) -> dict[str, Any]:
        def pricing(eur: float, unit: str, capacity: str) -> dict[str, Any]:
            price = round(eur * 1e8)
            return {"price": price, "tax": 0, "capacities": [capacity], "interval": 1, "intervalUnit": unit}

        addons = [
            {
                "planCode": f"{name}.consumption",
                "product": f"publiccloud-instance-{name}",
                "pricings": [pricing(eur, "hour", "consumption"), pricing(500 * eur, "month", "renew")],
            }
            for name, (*_, eur) in TYPES.items()
        ]
        addons.append({"planCode": "volume.classic", "product": "volume", "pricings": [pricing(0.1, "month", "renew")]})
        locale = {"currencyCode": self.currency, "subsidiary": "FR", "taxRate": 20}
        return {"catalogId": 1, "locale": locale, "addons": addons, "plans": [], "products": []}

    def _on_servers(self, asked: Asked, region: str, rest: list[str]) -> Answer:
        match asked.method, rest:
            case "GET", ["detail"]:
                return Answer(200, {"servers": [each for each in self.servers.values() if each["_region"] == region]})
            case "POST", []:
                wanted = asked.body["server"]
                groups = [each["name"] for each in wanted["security_groups"]]
                known = {_id(name) for name in TYPES}
                if wanted["flavorRef"] not in known or any(group not in self.firewalls for group in groups):
                    return self.error("invalid_input")
                self.creations += 1
                created = self._make_server(region, wanted)
                return Answer(202, {"server": {"id": created["id"], "links": [], "adminPass": "x"}})
        server = self.servers.get(rest[0]) if rest else None
        if server is None or server["_region"] != region:
            return self.error("not_found")
        if asked.method == "DELETE":
            del self.servers[server["id"]]
            return Answer(204)
        self._get_on(server)
        return Answer(200, {"server": server})

    def _make_server(self, region: str, body: Mapping[str, Any]) -> dict[str, Any]:
        number = str(uuid.uuid4())
        name = next(each for each in TYPES if _id(each) == body["flavorRef"])
        cores, memory_mb, disk_gb, _ = TYPES[name]
        self.user_data[number] = base64.b64decode(body.get("user_data", "")).decode()
        self.servers[number] = {
            "_region": region,
            "_groups": [each["name"] for each in body.get("security_groups", [])],
            "id": number,
            "name": body["name"],
            "status": "BUILD",
            "tenant_id": PROJECT_ID,
            "user_id": "u",
            "metadata": body.get("metadata", {}),
            "hostId": "",
            "image": {"id": _id("Debian 12"), "links": []},
            "flavor": {
                "original_name": name,
                "vcpus": cores,
                "ram": memory_mb,
                "disk": disk_gb,
                "ephemeral": 0,
                "swap": 0,
                "extra_specs": {},
            },
            "created": _now(),
            "updated": _now(),
            "addresses": {},
            "accessIPv4": "",
            "accessIPv6": "",
            "links": [],
            "key_name": None,
            "config_drive": "",
            "progress": 0,
            "OS-DCF:diskConfig": "MANUAL",
            "OS-EXT-AZ:availability_zone": "nova",
            "OS-EXT-STS:power_state": 0,
            "OS-EXT-STS:task_state": "spawning",
            "OS-EXT-STS:vm_state": "building",
            "description": None,
            "locked": False,
            "tags": [],
        }
        return self.servers[number]

    def _get_on(self, server: dict[str, Any]) -> None:
        """What was being built is there, or failed, when it is looked at."""
        if server["status"] != "BUILD":
            return
        if self.no_room:
            self.no_room -= 1
            message = "No valid host was found. There are not enough hosts available."
            server |= {"status": "ERROR", "fault": {"code": 500, "created": _now(), "message": message}}
        else:
            number = len(self.servers)
            address = {"addr": f"127.3.{number // 250}.{number % 250 + 1}", "version": 4}
            server |= {"status": "ACTIVE", "addresses": {"Ext-Net": [address]}}
        server |= {"OS-EXT-STS:task_state": None}

    def _on_groups(self, asked: Asked, region: str, rest: list[str]) -> Answer:
        match asked.method, rest:
            case "GET", []:
                found = [each for each in self.firewalls.values() if each["_region"] == region]
                return Answer(200, {"security_groups": found})
            case "POST", []:
                return Answer(201, {"security_group": self._make_group(region, asked.body["security_group"])})
        group = self.firewalls.get(rest[0])
        if group is None or group["_region"] != region:
            return self.error("not_found")
        if asked.method == "GET":
            return Answer(200, {"security_group": group})
        if any(group["id"] in each["_groups"] for each in self.servers.values()):
            return self.error("resource_in_use")
        del self.firewalls[group["id"]]
        return Answer(204)

    def _make_group(self, region: str, body: Mapping[str, Any]) -> dict[str, Any]:
        group = {
            "_region": region,
            "id": str(uuid.uuid4()),
            "name": body["name"],
            "description": body.get("description", ""),
            "tenant_id": PROJECT_ID,
            "project_id": PROJECT_ID,
            "security_group_rules": [],
            "tags": [],
            "created_at": _now(),
            "updated_at": _now(),
            "revision_number": 1,
        }
        self.firewalls[str(group["id"])] = group
        return group

    def _on_rules(self, asked: Asked) -> Answer:
        if asked.method == "GET":
            group = self.firewalls.get(asked.query["security_group_id"])
            return Answer(200, {"security_group_rules": group["security_group_rules"] if group else []})
        wanted = asked.body["security_group_rule"]
        group = self.firewalls.get(wanted["security_group_id"])
        if group is None:
            return self.error("not_found")
        if any(wanted.items() <= rule.items() for rule in group["security_group_rules"]):
            return self.error("uniqueness_error")
        empty = dict.fromkeys(("protocol", "port_range_min", "port_range_max", "remote_ip_prefix", "remote_group_id"))
        rule = {**empty, **wanted, "id": str(uuid.uuid4()), "tenant_id": PROJECT_ID}
        group["security_group_rules"].append(rule)
        return Answer(201, {"security_group_rule": rule})

    def faults_of(self, asked: Asked, answer: Answer | None) -> str | None:
        path = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", asked.path).rstrip("/")
        path = re.sub(rf"^/({'|'.join(REGIONS)})/", "/", path)
        if (asked.method, path) not in DESCRIBED:
            return "no such operation"
        wanted, answered = DESCRIBED[asked.method, path]
        if answer is None and wanted is not None:
            return _differs(asked.method, path, 0, asked.body)
        if answer is not None and answered is not None and answer.status < 300:
            return _differs(asked.method, path, 1, answer.body)
        return None


def _differs(method: str, path: str, which: int, body: Any) -> str | None:
    wrong = [f"{each.json_path}: {each.message}" for each in _validator(method, path, which).iter_errors(body)]
    return "; ".join(wrong) or None


@cache
def _validator(method: str, path: str, which: int) -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(DESCRIBED[method, path][which])


def _flavor(name: str) -> dict[str, Any]:
    cores, memory_mb, disk_gb, _ = TYPES[name]
    return {
        "id": _id(name),
        "name": name,
        "vcpus": cores,
        "ram": memory_mb,
        "disk": disk_gb,
        "swap": 0,
        "OS-FLV-EXT-DATA:ephemeral": 0,
        "OS-FLV-DISABLED:disabled": False,
        "os-flavor-access:is_public": True,
        "rxtx_factor": 1.0,
        "links": [],
        "description": None,
        "extra_specs": {},
    }


def _id(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, name))


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
