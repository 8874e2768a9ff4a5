"""A stateful stand-in for Scaleway's Instance, Block Storage and Marketplace APIs on loopback.

Held against the dataclasses of the official SDK, which are generated from Scaleway's published description.
"""

import re
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from tests.support.described import as_dataclass
from tests.support.fake_cloud import Answer, Asked, FakeCloud

ACCESS_KEY = "SCW0123456789ABCDEFG"
SECRET_KEY = "5ec7e75e-0000-4000-8000-000000000001"
PROJECT_ID = "9205ec70-0000-4000-8000-000000000001"
ZONES = ("fr-par-1", "nl-ams-1")

TYPES = {
    # name: cores, GiB, EUR an hour without tax, zones
    "PLAY2-NANO": (2, 8, 0.027, ("fr-par-1", "nl-ams-1")),
    "PRO2-XS": (4, 16, 0.11, ("fr-par-1", "nl-ams-1")),
    "POP2-4C-16G": (4, 16, 0.147, ("fr-par-1",)),
}
_ZONE = r"/instance/v1/zones/[\w-]+"
_STATUS: Mapping[str, tuple[Any, ...]] = {
    "rate_limit_exceeded": (429, "too_many_requests"),
    "resource_unavailable": (503, "out_of_stock"),
    "uniqueness_error": (409, "conflict"),
    "service_error": (500, "api_error"),
    "unavailable": (503, "api_error"),
    "not_found": (404, "unknown_resource"),
    "resource_in_use": (409, "conflict"),
    "precondition_failed": (412, "precondition_failed"),
    "unauthorized": (401, "denied_authentication"),
    "invalid_input": (400, "invalid_arguments"),
    "unsupported_location": (400, "invalid_arguments", "commercial_type is not available in this zone"),
    "invalid_server_type": (403, "invalid_request_error", "Quota exceeded for this resource."),
}


class FakeScaleway(FakeCloud):
    """The project, its servers, security groups and volumes, in two zones."""

    OPERATIONS: Mapping[str, tuple[str, str]] = {
        "list server": ("GET", f"{_ZONE}/servers"),
        "create server": ("POST", f"{_ZONE}/servers"),
        "get server": ("GET", rf"{_ZONE}/servers/[\w-]+"),
        "delete server": ("POST", rf"{_ZONE}/servers/[\w-]+/action"),
        "start server": ("PATCH", rf"{_ZONE}/servers/[\w-]+/user_data/cloud-init"),
        "list firewall": ("GET", f"{_ZONE}/security_groups"),
        "create firewall": ("POST", f"{_ZONE}/security_groups"),
        "rule firewall": ("PUT", rf"{_ZONE}/security_groups/[\w-]+/rules"),
        "delete firewall": ("DELETE", rf"{_ZONE}/security_groups/[\w-]+"),
        "list disk": ("GET", r"/block/v1/zones/[\w-]+/volumes"),
        "tag disk": ("PATCH", r"/block/v1/zones/[\w-]+/volumes/[\w-]+"),
        "delete disk": ("DELETE", r"/block/v1/zones/[\w-]+/volumes/[\w-]+"),
        "list types": ("GET", f"{_ZONE}/products/servers"),
    }

    def __init__(self) -> None:
        super().__init__()
        self.servers: dict[str, dict[str, Any]] = {}
        self.firewalls: dict[str, dict[str, Any]] = {}
        self.disks: dict[str, dict[str, Any]] = {}
        self.rules: dict[str, list[dict[str, Any]]] = {}
        self.user_data: dict[str, str] = {}
        self.short_of: set[str] = set()
        """Types that the availability list says are out of stock."""
        self.no_room = 0
        """How many servers will find no room when they are powered on."""

    @property
    def held(self) -> list[tuple[str, str]]:
        kinds = {"server": self.servers, "firewall": self.firewalls, "disk": self.disks}
        return sorted((kind, number) for kind, things in kinds.items() for number in things)

    def foreign(self, name: str, kind: str = "servers") -> str:
        body = {"name": name, "tags": ["managed-by=somebody"], "project": PROJECT_ID}
        if kind == "servers":
            return str(self._make_server("fr-par-1", {**body, "commercial_type": "PLAY2-NANO", "volumes": {}})["id"])
        return str(self._make_group("fr-par-1", {**body, "description": "", "stateful": True})["id"])

    def is_known(self, asked: Asked) -> bool:
        return asked.headers.get("x-auth-token") == SECRET_KEY

    def error(self, code: str) -> Answer:
        status, kind, *text = _STATUS[code]
        return Answer(status, {"type": kind, "message": text[0] if text else code.replace("_", " ")})

    def answer(self, asked: Asked) -> Answer:
        match asked.method, asked.path.strip("/").split("/"):
            case "GET", ["marketplace", "v2", "local-images"]:
                return _listed("local_images", [_image(asked.query["zone"])], asked)
            case "GET", ["instance", "v1", "zones", zone, "products", "servers"]:
                return self._types(zone, asked)
            case "GET", ["instance", "v1", "zones", zone, "products", "servers", "availability"]:
                return self._availability(zone, asked)
            case _, ["instance", "v1", "zones", zone, "servers", *rest]:
                return self._on_servers(asked, zone, rest)
            case _, ["instance", "v1", "zones", zone, "security_groups", *rest]:
                return self._on_groups(asked, zone, rest)
            case _, ["block", "v1", "zones", zone, "volumes", *rest]:
                return self._on_disks(asked, zone, rest)
        return self.error("not_found")

    def _types(self, zone: str, asked: Asked) -> Answer:
        found = {name: _type(name) for name, (*_, zones) in TYPES.items() if zone in zones}
        return Answer(200, {"servers": found if asked.query.get("page", "1") == "1" else {}, "total_count": len(found)})

    def _availability(self, zone: str, asked: Asked) -> Answer:
        found = {
            name: {"availability": "shortage" if name in self.short_of else "available"}
            for name, (*_, zones) in TYPES.items()
            if zone in zones
        }
        return Answer(200, {"servers": found, "total_count": len(found)})

    def _on_servers(self, asked: Asked, zone: str, rest: list[str]) -> Answer:
        if not rest:
            if asked.method == "GET":
                found = [each for each in self.servers.values() if each["zone"] == zone]
                # The name is a prefix here, as the SDK says.
                name = asked.query.get("name", "")
                return _listed("servers", [each for each in found if each["name"].startswith(name)], asked)
            offered = TYPES.get(asked.body["commercial_type"])
            if offered is None or zone not in offered[3] or asked.body["security_group"] not in self.firewalls:
                return self.error("invalid_input")
            self.creations += 1
            return Answer(201, {"server": self._make_server(zone, asked.body)})
        server = self.servers.get(rest[0])
        if server is None or server["zone"] != zone:
            return self.error("not_found")
        match asked.method, rest[1:]:
            case "GET", []:
                if server["state"] == "stopping":
                    server["_looks_left"] -= 1
                    if server["_looks_left"] < 0:
                        self._remove(server)
                        return self.error("not_found")
                return Answer(200, {"server": server})
            case "DELETE", []:
                return self._remove(server) if server["state"] == "stopped" else self.error("resource_in_use")
            case "PATCH", ["user_data", "cloud-init"]:
                self.user_data[server["id"]] = asked.raw.decode()
                return Answer(204)
            case "POST", ["action"]:
                return self._act(server, asked.body["action"])
        return self.error("not_found")

    def _act(self, server: dict[str, Any], action: str) -> Answer:
        if action not in server["allowed_actions"]:
            return self.error("precondition_failed")
        if action == "poweron" and self.no_room:
            self.no_room -= 1
            return self.error("resource_unavailable")
        if action == "terminate":
            # It takes a while, and nothing may be asked of it meanwhile.
            server |= {"state": "stopping", "allowed_actions": [], "_looks_left": 2}
        else:
            number = len(self.servers)
            server |= {"state": "running", "allowed_actions": ["poweroff", "terminate", "reboot"]}
            server["public_ips"] = [_address(f"127.2.{number // 250}.{number % 250 + 1}")]
        task = {
            "id": str(uuid.uuid4()),
            "description": f"server_{action}",
            "progress": 0,
            "status": "pending",
            "href_from": f"/servers/{server['id']}/action",
            "href_result": f"/servers/{server['id']}",
            "zone": server["zone"],
            "started_at": _now(),
        }
        return Answer(202, {"task": task})

    def _remove(self, server: dict[str, Any]) -> Answer:
        del self.servers[server["id"]]
        for volume in server["volumes"].values():
            # The disk of a machine that is gone goes on costing money.
            self.disks[volume["id"]]["references"] = []
            self.disks[volume["id"]]["status"] = "available"
        return Answer(204)

    def _make_server(self, zone: str, body: Mapping[str, Any]) -> dict[str, Any]:
        number = str(uuid.uuid4())
        volumes = {}
        for place, volume in body["volumes"].items():
            disk = {
                "id": str(uuid.uuid4()),
                "name": volume.get("name") or "untitled",
                "type": "sbs_5k",
                "size": volume["size"],
                "project_id": PROJECT_ID,
                "references": [],
                "status": "in_use",
                "tags": [],
                "zone": zone,
                "created_at": _now(),
                "updated_at": _now(),
            }
            self.disks[disk["id"]] = disk
            volumes[place] = {"id": disk["id"], "volume_type": "sbs_volume", "boot": False, "zone": zone}
        server = {
            "id": number,
            "name": body["name"],
            "organization": PROJECT_ID,
            "project": PROJECT_ID,
            "allowed_actions": ["poweron", "backup"],
            "tags": body.get("tags", []),
            "commercial_type": body["commercial_type"],
            "dynamic_ip_required": body.get("dynamic_ip_required", True),
            "hostname": body["name"],
            "protected": False,
            "public_ips": [],
            "mac_address": "de:00:00:00:00:01",
            "state": "stopped",
            "boot_type": "local",
            "volumes": volumes,
            "maintenances": [],
            "state_detail": "",
            "arch": "x86_64",
            "private_nics": [],
            "zone": zone,
            "filesystems": [],
            "end_of_service": False,
            "creation_date": _now(),
            "modification_date": _now(),
            "security_group": {"id": body.get("security_group", number), "name": body["name"]},
        }
        self.servers[number] = server
        return server

    def _on_groups(self, asked: Asked, zone: str, rest: list[str]) -> Answer:
        if not rest:
            if asked.method == "GET":
                found = [each for each in self.firewalls.values() if each["zone"] == zone]
                name = asked.query.get("name", "")
                return _listed("security_groups", [each for each in found if each["name"].startswith(name)], asked)
            return Answer(201, {"security_group": self._make_group(zone, asked.body)})
        group = self.firewalls.get(rest[0])
        if group is None or group["zone"] != zone:
            return self.error("not_found")
        match asked.method, rest[1:]:
            case "GET", []:
                return Answer(200, {"security_group": group})
            case "DELETE", []:
                if any(each["security_group"]["id"] == group["id"] for each in self.servers.values()):
                    return self.error("resource_in_use")
                del self.firewalls[group["id"]]
                return Answer(204)
            case "PUT", ["rules"]:
                rules = [
                    {**rule, "id": str(uuid.uuid4()), "zone": zone, "editable": rule.get("editable", True)}
                    for rule in asked.body["rules"]
                ]
                self.rules[group["id"]] = rules
                return Answer(200, {"rules": rules})
        return self.error("not_found")

    def _make_group(self, zone: str, body: Mapping[str, Any]) -> dict[str, Any]:
        group = {
            "id": str(uuid.uuid4()),
            "name": body["name"],
            "description": body["description"],
            "enable_default_security": True,
            "inbound_default_policy": body.get("inbound_default_policy", "accept"),
            "outbound_default_policy": body.get("outbound_default_policy", "accept"),
            "organization": PROJECT_ID,
            "project": PROJECT_ID,
            "tags": body.get("tags", []),
            "project_default": False,
            "servers": [],
            "stateful": body["stateful"],
            "state": "available",
            "zone": zone,
            "creation_date": _now(),
        }
        self.firewalls[group["id"]] = group
        return group

    def _on_disks(self, asked: Asked, zone: str, rest: list[str]) -> Answer:
        if not rest:
            found = [each for each in self.disks.values() if each["zone"] == zone]
            name = asked.query.get("name", "")
            return _listed("volumes", [each for each in found if name in each["name"]], asked)
        disk = self.disks.get(rest[0])
        if disk is None or disk["zone"] != zone:
            return self.error("not_found")
        match asked.method:
            case "GET":
                return Answer(200, disk)
            case "PATCH":
                disk |= asked.body
                return Answer(200, disk)
            case "DELETE" if disk["status"] == "in_use":
                return self.error("precondition_failed")
            case "DELETE":
                del self.disks[disk["id"]]
                return Answer(204)
        return self.error("not_found")

    def faults_of(self, asked: Asked, answer: Answer | None) -> str | None:
        return "; ".join(_wrong(asked, answer)) or None


def _wrong(asked: Asked, answer: Answer | None) -> Iterator[str]:
    """What the SDK's dataclasses do not know, or miss."""
    import scaleway.block.v1.types as block
    import scaleway.instance.v1.types as instance
    import scaleway.marketplace.v2.types as marketplace

    path = re.sub(r"/zones/[\w-]+", "", re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", asked.path))
    described: dict[tuple[str, str], tuple[type | None, type | None]] = {
        ("GET", "/instance/v1/servers"): (None, instance.ListServersResponse),
        ("POST", "/instance/v1/servers"): (instance.CreateServerRequest, instance.CreateServerResponse),
        ("GET", "/instance/v1/servers/ID"): (None, instance.GetServerResponse),
        ("DELETE", "/instance/v1/servers/ID"): (None, None),
        ("PATCH", "/instance/v1/servers/ID/user_data/cloud-init"): (None, None),
        ("POST", "/instance/v1/servers/ID/action"): (instance.ServerActionRequest, instance.ServerActionResponse),
        ("GET", "/instance/v1/products/servers"): (None, instance.ListServersTypesResponse),
        ("GET", "/instance/v1/products/servers/availability"): (None, instance.GetServerTypesAvailabilityResponse),
        ("GET", "/instance/v1/security_groups"): (None, instance.ListSecurityGroupsResponse),
        ("POST", "/instance/v1/security_groups"): (
            instance.CreateSecurityGroupRequest,
            instance.CreateSecurityGroupResponse,
        ),
        ("GET", "/instance/v1/security_groups/ID"): (None, instance.GetSecurityGroupResponse),
        ("DELETE", "/instance/v1/security_groups/ID"): (None, None),
        ("PUT", "/instance/v1/security_groups/ID/rules"): (
            instance.SetSecurityGroupRulesRequest,
            instance.SetSecurityGroupRulesResponse,
        ),
        ("GET", "/block/v1/volumes"): (None, block.ListVolumesResponse),
        ("GET", "/block/v1/volumes/ID"): (None, block.Volume),
        ("PATCH", "/block/v1/volumes/ID"): (block.UpdateVolumeRequest, block.Volume),
        ("DELETE", "/block/v1/volumes/ID"): (None, None),
        ("GET", "/marketplace/v2/local-images"): (None, marketplace.ListLocalImagesResponse),
    }
    if (asked.method, path) not in described:
        yield "no such operation"
        return
    wanted, answered = described[asked.method, path]
    if wanted is not None and answer is None:
        yield from as_dataclass(wanted, asked.body, known=frozenset({"server_id", "security_group_id", "volume_id"}))
    if answered is not None and answer is not None and answer.status < 300:
        yield from as_dataclass(answered, answer.body)


def _listed(name: str, found: list[dict[str, Any]], asked: Asked) -> Answer:
    tags = set(filter(None, asked.query.get("tags", "").split(",")))
    found = [each for each in found if tags <= set(each.get("tags", []))]
    size = int(asked.query.get("per_page", asked.query.get("page_size", 50)))
    begin = (int(asked.query.get("page", 1)) - 1) * size
    return Answer(200, {name: found[begin : begin + size], "total_count": len(found)})


def _type(name: str) -> dict[str, Any]:
    cores, memory_gib, eur, _ = TYPES[name]
    return {
        "hourly_price": eur,
        "monthly_price": eur * 720,
        "alt_names": [],
        "ncpus": cores,
        "ram": memory_gib * 2**30,
        "arch": "x86_64",
        "gpu": 0,
        "volumes_constraint": {"min_size": 0, "max_size": 0},
        "capabilities": {"boot_types": ["local", "rescue"], "block_storage": True, "max_file_systems": 0},
        "scratch_storage_max_volumes_count": 0,
        "end_of_service": False,
    }


def _image(zone: str) -> dict[str, Any]:
    return {
        "id": "1aa6e000-0000-4000-8000-000000000001",
        "compatible_commercial_types": list(TYPES),
        "arch": "x86_64",
        "zone": zone,
        "label": "debian_bookworm",
        "type": "instance_sbs",
    }


def _address(address: str) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()),
        "address": address,
        "gateway": "127.2.0.254",
        "netmask": "32",
        "family": "inet",
        "dynamic": True,
        "provisioning_mode": "dhcp",
        "tags": [],
        "ipam_id": str(uuid.uuid4()),
        "state": "attached",
    }


def _now() -> str:
    return datetime.now(UTC).isoformat()
