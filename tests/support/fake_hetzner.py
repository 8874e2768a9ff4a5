"""A stateful stand-in for Hetzner's API on loopback, each request and answer held to `hetzner_contract`.

`FakeHetzner` keeps servers, keys, firewalls and prices as Hetzner does, and can be told to misbehave. What a server
*is* decides `boots`: by default nothing runs, tests with SSH start a real OpenSSH server.
"""

import hashlib
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ops.config.table import Values
from tests.support.fake_cloud import Answer, Asked, Boots, FakeCloud
from tests.support.hetzner_contract import ERRORS, answer_faults, request_faults

TOKEN = "fake-token-3f9d1c7e"

TYPES = {
    # name: cores, GB, EUR an hour, locations
    "cx23": (2, 4.0, 0.0060, ("fsn1", "nbg1")),
    "cpx22": (2, 8.0, 0.0120, ("fsn1", "nbg1", "hel1")),
    "ccx13": (2, 8.0, 0.0250, ("fsn1", "nbg1")),
    "cpx32": (4, 16.0, 0.0260, ("fsn1", "nbg1", "hel1")),
    "ccx23": (4, 16.0, 0.0500, ("fsn1", "nbg1", "hel1")),
}
ADDRESS_EUR = 0.0010
"""What a primary IPv4 address costs an hour, at every location."""
LOCATIONS = {"fsn1": (1, "Falkenstein"), "nbg1": (2, "Nuremberg"), "hel1": (3, "Helsinki")}


@dataclass
class State:
    """What the project holds."""

    servers: dict[int, dict[str, Any]] = field(default_factory=dict)
    ssh_keys: dict[int, dict[str, Any]] = field(default_factory=dict)
    firewalls: dict[int, dict[str, Any]] = field(default_factory=dict)
    next_id: int = 1
    unavailable: set[tuple[str, str]] = field(default_factory=set)
    """Types and locations that are out of stock and whose list says so."""

    def new_id(self) -> int:
        self.next_id += 1
        return self.next_id

    @property
    def everything(self) -> list[dict[str, Any]]:
        return [*self.servers.values(), *self.ssh_keys.values(), *self.firewalls.values()]


class FakeHetzner(FakeCloud):
    """The server; `with FakeHetzner() as hetzner` starts it on a free port."""

    PREFIX = "/v1"
    OPERATIONS: Mapping[str, tuple[str, str]] = {
        **{
            f"{verb} {kind}": (method, f"/{path}{end}")
            for kind, path in (("server", "servers"), ("firewall", "firewalls"), ("key", "ssh_keys"))
            for verb, method, end in (
                ("list", "GET", ""),
                ("create", "POST", ""),
                ("get", "GET", r"/\d+"),
                ("delete", "DELETE", r"/\d+"),
            )
        },
        "list types": ("GET", "/server_types"),
        "list prices": ("GET", "/pricing"),
    }

    def __init__(self, boots: Boots | None = None, ends: Callable[[int], None] | None = None) -> None:
        super().__init__()
        self.state = State()
        self.deletion_s = 0.0
        """How long a deleted server is still shown, as `deleting`."""
        self.currency = "EUR"
        self._boots, self._ends = boots, ends

    def values(self, token: str = TOKEN) -> Values:
        """The settings with which a provider asks this server."""
        return Values({"HETZNER_TOKEN": token, "HETZNER_API_URL": self.url})

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        for server_id in list(self.state.servers):
            if self._ends:
                self._ends(server_id)

    @property
    def held(self) -> list[tuple[str, str]]:
        kinds = ("servers", "ssh_keys", "firewalls")
        return sorted((kind, str(number)) for kind in kinds for number in getattr(self.state, kind))

    def is_known(self, asked: Asked) -> bool:
        return asked.headers.get("Authorization") == f"Bearer {TOKEN}"

    def error(self, code: str) -> Answer:
        return Answer(*_error(code))

    def faults_of(self, asked: Asked, answer: Answer | None) -> str | None:
        return request_faults(asked) if answer is None else answer_faults(asked, answer)

    def answer(self, asked: Asked) -> Answer:
        return Answer(*self._answer(asked.method, asked.path, asked.query, asked.body))

    def foreign(self, name: str, kind: str = "servers", labels: Mapping[str, str] | None = None) -> int:
        """Put something there that another person made; returns its id."""
        with self.lock:
            created = self._make(kind, {"name": name, "labels": dict(labels or {}), **_FOREIGN[kind]})
        return created["id"]

    def _answer(self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any]) -> tuple[int, Any]:
        self._sweep()
        match method, path.strip("/").split("/"):
            case "GET", ["pricing"]:
                return 200, {"pricing": self.pricing()}
            case "GET", ["server_types"]:
                return 200, _page("server_types", [self.server_type(name) for name in TYPES], query)
            case "GET", [("servers" | "ssh_keys" | "firewalls") as kind]:
                return 200, _page(kind, _selected(getattr(self.state, kind).values(), query), query)
            case "GET", [("servers" | "ssh_keys" | "firewalls") as kind, number]:
                found = getattr(self.state, kind).get(int(number))
                return (200, {kind[:-1]: found}) if found else _error("not_found")
            case "POST", [("servers" | "ssh_keys" | "firewalls") as kind]:
                return self._create(kind, body)
            case "DELETE", [("servers" | "ssh_keys" | "firewalls") as kind, number]:
                return self._delete(kind, int(number))
            case _:
                return _error("not_found")

    def _create(self, kind: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        existing = getattr(self.state, kind).values()
        if any(each["name"] == body["name"] for each in existing):
            return _error("uniqueness_error")
        if kind == "ssh_keys" and any(each["public_key"] == body["public_key"] for each in existing):
            return _error("uniqueness_error")
        if kind == "servers":
            offer = TYPES.get(body["server_type"])
            if offer is None or body["location"] not in offer[3]:
                return _error("invalid_input")
            if (body["server_type"], body["location"]) in self.state.unavailable:
                return _error("resource_unavailable")
        created = self._make(kind, body)
        if kind == "servers":
            self.creations += 1
            return 201, {
                "server": created,
                "action": _action(created["id"], "create_server"),
                "next_actions": [_action(created["id"], "start_server")],
                "root_password": None,
            }
        return 201, {kind[:-1]: created, **({"actions": []} if kind == "firewalls" else {})}

    def _make(self, kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
        number = self.state.new_id()
        common = {"id": number, "name": body["name"], "labels": body.get("labels", {}), "created": _now()}
        if kind == "servers":
            created = common | self._server_body(number, body)
        elif kind == "ssh_keys":
            digest = hashlib.md5(body["public_key"].encode()).hexdigest()
            fingerprint = ":".join(digest[at : at + 2] for at in range(0, 32, 2))
            created = common | {"public_key": body["public_key"], "fingerprint": fingerprint}
        else:
            rules = [
                {"port": None, "description": None, "source_ips": [], "destination_ips": [], **rule}
                for rule in body.get("rules", [])
            ]
            created = common | {"rules": rules, "applied_to": []}
        getattr(self.state, kind)[number] = created
        return created

    def _server_body(self, number: int, body: Mapping[str, Any]) -> dict[str, Any]:
        wanted = body.get("ssh_keys", [])
        keys = [
            key["public_key"] for key in self.state.ssh_keys.values() if {key["name"], str(key["id"])} & set(wanted)
        ]
        address = self._boots(number, body, keys) if self._boots else f"127.1.{number // 250 % 250}.{number % 250 + 1}"
        location = _location(body["location"])
        return {
            "status": "running",
            "backup_window": None,
            "datacenter": {
                "id": 1,
                "name": f"{location['name']}-dc1",
                "description": "",
                "location": location,
                "server_types": {"available": [], "available_for_migration": [], "supported": []},
            },
            "location": location,
            "image": None,
            "included_traffic": None,
            "ingoing_traffic": None,
            "outgoing_traffic": None,
            "iso": None,
            "locked": False,
            "primary_disk_size": 80,
            "private_net": [],
            "protection": {"delete": False, "rebuild": False},
            "public_net": {
                "ipv4": {"id": number, "ip": address, "blocked": False, "dns_ptr": f"{number}.example"},
                "ipv6": None,
                "floating_ips": [],
                "firewalls": [{"id": each["firewall"], "status": "applied"} for each in body.get("firewalls", [])],
            },
            "rescue_enabled": False,
            "server_type": self.server_type(body["server_type"]),
            "volumes": [],
        }

    def _delete(self, kind: str, number: int) -> tuple[int, Any]:
        found = getattr(self.state, kind).get(number)
        if found is None:
            return _error("not_found")
        if kind == "firewalls" and any(
            number == used["id"] for server in self.state.servers.values() for used in server["public_net"]["firewalls"]
        ):
            return _error("resource_in_use")
        if kind != "servers":
            del getattr(self.state, kind)[number]
            return 204, None
        found["status"] = "deleting"
        found.setdefault("_gone_at", time.monotonic() + self.deletion_s)
        self._sweep()
        return 200, {"action": _action(number, "delete_server")}

    def _sweep(self) -> None:
        for number, server in list(self.state.servers.items()):
            if server.get("_gone_at", float("inf")) <= time.monotonic():
                del self.state.servers[number]
                if self._ends:
                    self._ends(number)

    def pricing(self) -> dict[str, Any]:
        return {
            "currency": self.currency,
            "vat_rate": "19.000000",
            "image": {"price_per_gb_month": _price(0.01)},
            "volume": {"price_per_gb_month": _price(0.05)},
            "floating_ip": {"price_monthly": _price(3.0)},
            "floating_ips": [],
            "primary_ips": [
                {
                    "type": kind,
                    "prices": [
                        {"location": place, "price_hourly": _price(eur), "price_monthly": _price(eur * 730)}
                        for place in LOCATIONS
                    ],
                }
                for kind, eur in (("ipv4", ADDRESS_EUR), ("ipv6", 0.0))
            ],
            "server_backup": {"percentage": "20.00"},
            "server_types": [],
            "load_balancer_types": [],
        }

    def server_type(self, name: str) -> dict[str, Any]:
        cores, memory_gb, eur, locations = TYPES[name]
        price = _price(eur)
        return {
            "id": list(TYPES).index(name) + 100,
            "name": name,
            "description": name.upper(),
            "architecture": "x86",
            "category": "Shared vCPU",
            "cores": cores,
            "memory": memory_gb,
            "disk": 80,
            "cpu_type": "shared",
            "storage_type": "local",
            "deprecated": False,
            "deprecation": None,
            # `available` and `recommended` are newer than the description, and the client expects them.
            "locations": [
                {
                    "id": LOCATIONS[place][0],
                    "name": place,
                    "deprecation": None,
                    "available": (name, place) not in self.state.unavailable,
                    "recommended": True,
                }
                for place in locations
            ],
            "prices": [
                {
                    "location": place,
                    "price_hourly": price,
                    "price_monthly": price,
                    "price_per_tb_traffic": price,
                    "included_traffic": 21_990_232_555_520,
                }
                for place in locations
            ],
        }


def _page(kind: str, entries: list[Any], query: Mapping[str, str]) -> dict[str, Any]:
    size, page = int(query.get("per_page", 25)), int(query.get("page", 1))
    last = max(1, -(-len(entries) // size))
    pagination = {
        "page": page,
        "per_page": size,
        "previous_page": page - 1 if page > 1 else None,
        "next_page": page + 1 if page < last else None,
        "last_page": last,
        "total_entries": len(entries),
    }
    return {kind: entries[(page - 1) * size : page * size], "meta": {"pagination": pagination}}


def _selected(entries: Any, query: Mapping[str, str]) -> list[Any]:
    wanted = (
        dict(part.split("=", 1) for part in query["label_selector"].split(",")) if "label_selector" in query else {}
    )
    return [
        each
        for each in entries
        if query.get("name", each["name"]) == each["name"]
        and all(each["labels"].get(name) == value for name, value in wanted.items())
    ]


def _error(code: str) -> tuple[int, Any]:
    text = code.replace("_", " ")
    if code == "unsupported_location":
        # The API has no code of its own for this.
        code, text = "invalid_input", "unsupported location for server type"
    return ERRORS[code], {"error": {"code": code, "message": text, "details": None}}


def _action(number: int, command: str) -> dict[str, Any]:
    return {
        "id": random.randrange(1, 1 << 40),
        "command": command,
        "status": "success",
        "progress": 100,
        "started": _now(),
        "finished": _now(),
        "resources": [{"id": number, "type": "server"}],
        "error": None,
    }


def _location(name: str) -> dict[str, Any]:
    number, city = LOCATIONS[name]
    return {
        "id": number,
        "name": name,
        "description": f"{city} DC Park 1",
        "country": "DE",
        "city": city,
        "latitude": 50.0,
        "longitude": 12.0,
        "network_zone": "eu-central",
    }


def _price(eur: float) -> dict[str, str]:
    return {"net": f"{eur / 1.19:.10f}", "gross": f"{eur:.10f}"}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


_FOREIGN: dict[str, dict[str, Any]] = {
    "servers": {"server_type": "cx23", "location": "fsn1"},
    "ssh_keys": {"public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPfQ somebody"},
    "firewalls": {},
}
