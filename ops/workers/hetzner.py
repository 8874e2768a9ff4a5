"""Hetzner Cloud through its own client. What lacks our label is never touched, whatever it is called."""

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ops.workers.errors import ForeignError, NoCapacityError, WorkerError
from ops.workers.labels import SELECTOR, Labels
from ops.workers.provider import Belonging, Instance, Offer, Order, Provider

if TYPE_CHECKING:
    from hcloud import Client

NAME = "hetzner"
API_URL = "https://api.hetzner.cloud/v1"
IMAGE = "debian-12"

_REQUEST_TIMEOUT_S = 30.0
_TRIES = 4
_GONE_WITHIN_S = 120.0
_NO_CAPACITY = frozenset({"resource_unavailable", "placement_error", "unsupported_location", "resource_limit_exceeded"})
_PASSING = frozenset({"unavailable", "service_error", "server_error", "maintenance", "internal_error", "locked"})

T = TypeVar("T")


def provider(token: str, api_url: str = API_URL, *, pause_s: float = 1.0) -> Provider:
    """Hetzner, asked with a token; `pause_s` is the first pause between two tries."""
    from hcloud import Client

    client = Client(
        token,
        api_endpoint=api_url,
        application_name="materia",
        poll_interval=pause_s,
        timeout=_REQUEST_TIMEOUT_S,
    )
    return Provider(
        name=NAME,
        user="root",
        offers=partial(_offers, client, pause_s),
        create_instance=partial(_create, client, pause_s),
        destroy_instance=partial(_destroy, client, pause_s),
        list_instances=partial(_instances, client, pause_s),
        list_belongings=partial(_belongings, client, pause_s),
    )


def _offers(client: "Client", pause_s: float) -> tuple[Offer, ...]:
    """Every x86 type at every location that still offers it; a type that is being withdrawn is left out."""
    found = []
    for kind in _asked(client.server_types.get_all, pause_s):
        if kind.architecture != "x86":
            continue
        prices = {price["location"]: float(price["price_hourly"]["gross"]) for price in kind.prices}
        found += [
            Offer(
                type=kind.name,
                location=place.location.name,
                cores=kind.cores,
                memory_gb=kind.memory,
                eur_per_hour=prices[place.location.name],
                # None: an API that does not say so is asked by trying.
                available=place.available is not False,
            )
            for place in kind.locations
            if place.deprecation is None and place.location.name in prices
        ]
    return tuple(found)


def _create(client: "Client", pause_s: float, order: Order, offer: Offer) -> Instance:
    from hcloud.images import Image
    from hcloud.locations import Location
    from hcloud.server_types import ServerType
    from hcloud.ssh_keys import SSHKey

    # What an earlier life left under this name stands in the way: nobody has its keys any longer.
    if _made(client, pause_s, order) is None:
        _delete(client.servers, "server", order.name, pause_s)
    _key(client, pause_s, order)
    firewall = _firewall(client, pause_s, order)
    last: Exception | None = None
    for attempt in range(_TRIES):
        # An answer that got lost may have made the machine: it is looked for before it is asked for again.
        if (made := _made(client, pause_s, order)) is not None:
            return made
        try:
            answer = client.servers.create(
                order.name,
                ServerType(name=offer.type),
                Image(name=IMAGE),
                ssh_keys=[SSHKey(name=order.name)],
                firewalls=[firewall],
                user_data=order.user_data,
                labels=order.labels.as_labels(),
                location=Location(name=offer.location),
            )
            return _instance(answer.server) or _never(order.name)
        except Exception as error:
            code = _code(error)
            if code in _NO_CAPACITY:
                raise NoCapacityError(f"{offer.type} at {offer.location} is not to be had now ({code})") from error
            if code != "uniqueness_error" and not _is_passing(error):
                raise _typed(error, f"create {order.name} ({offer.type} at {offer.location})") from error
            last = error
            time.sleep(pause_s * 2**attempt)
    if (made := _made(client, pause_s, order)) is not None:
        return made
    raise _typed(last, f"create {order.name}") from last


def _made(client: "Client", pause_s: float, order: Order) -> Instance | None:
    """The machine of that name if it is this very order's; ForeignError when it is not ours at all."""
    server = _asked(partial(client.servers.get_by_name, order.name), pause_s)
    if server is None:
        return None
    _ours(server, "server")
    found = _instance(server)
    return found if found and found.labels == order.labels and found.status != "deleting" else None


def _key(client: "Client", pause_s: float, order: Order) -> Any:
    create = partial(client.ssh_keys.create, order.name, order.public_key, labels=order.labels.as_labels())
    return _had(client.ssh_keys, "SSH key", order, pause_s, create)


def _firewall(client: "Client", pause_s: float, order: Order) -> Any:
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
    create = partial(client.firewalls.create, order.name, rules=[rule], labels=labels)
    return _had(client.firewalls, "firewall", order, pause_s, lambda: create().firewall)


def _had(resources: Any, kind: str, order: Order, pause_s: float, create: Callable[[], T]) -> T:
    """This order's key or firewall; what an earlier life left under the name is replaced."""

    def have() -> T:
        found = resources.get_by_name(order.name)
        if found is not None and Labels.read(found.labels) == order.labels:
            return found
        if found is not None:
            _delete(resources, kind, order.name, pause_s)
        return create()

    return _asked(have, pause_s, also="uniqueness_error")


def _destroy(client: "Client", pause_s: float, name: str) -> None:
    """The machine first: a firewall in use cannot be deleted."""
    for kind, resources in (
        ("server", client.servers),
        ("firewall", client.firewalls),
        ("SSH key", client.ssh_keys),
    ):
        _delete(resources, kind, name, pause_s)


def _delete(resources: Any, kind: str, name: str, pause_s: float) -> None:
    deadline = time.monotonic() + _GONE_WITHIN_S
    found = _asked(partial(resources.get_by_name, name), pause_s)
    if found is None:
        return
    _ours(found, kind)
    while True:
        try:
            _asked(partial(resources.delete, found), pause_s, also="resource_in_use")
            resources.get_by_id(found.id)
        except Exception as error:
            if _code(error) == "not_found":
                return
            if not _is_passing(error):
                raise _typed(error, f"delete the {kind} {name}") from error
        if time.monotonic() > deadline:
            raise WorkerError(
                f"the {kind} {name} (id {found.id}) is still there {_GONE_WITHIN_S:.0f} s after it was deleted, and "
                "may cost money; look into Hetzner's console, then `materia worker reap`"
            )
        time.sleep(pause_s)


def _instances(client: "Client", pause_s: float) -> tuple[Instance, ...]:
    servers = _asked(partial(client.servers.get_all, label_selector=SELECTOR), pause_s)
    return tuple(found for server in servers if (found := _instance(server)) is not None)


def _belongings(client: "Client", pause_s: float) -> tuple[Belonging, ...]:
    found = []
    for kind, resources in (("SSH key", client.ssh_keys), ("firewall", client.firewalls)):
        for each in _asked(partial(resources.get_all, label_selector=SELECTOR), pause_s):
            if (labels := Labels.read(each.labels)) is not None:
                found.append(Belonging(kind, each.name, labels))
    return tuple(found)


def _instance(server: Any) -> Instance | None:
    if (labels := Labels.read(server.labels)) is None:
        return None
    location = server.location.name
    prices = {price["location"]: float(price["price_hourly"]["gross"]) for price in server.server_type.prices}
    address = server.public_net.ipv4 if server.public_net else None
    return Instance(
        id=str(server.id),
        name=server.name,
        provider=NAME,
        type=server.server_type.name,
        location=location,
        ip=address.ip if address else None,
        created_at=server.created,
        labels=labels,
        eur_per_hour=prices.get(location, max(prices.values(), default=0.0)),
        status=server.status,
    )


def _ours(found: Any, kind: str) -> Any:
    if Labels.read(found.labels) is None:
        raise ForeignError(
            f"the {kind} {found.name} (id {found.id}) bears a worker's name and not our label, and is left alone; "
            "rename or remove it yourself"
        )
    return found


def _never(name: str) -> Instance:
    raise WorkerError(f"the server {name} was created without the labels it was given; remove it by hand")


def _asked(ask: Callable[[], T], pause_s: float, *, also: str = "") -> T:
    """Ask again, a few times, when what went wrong will pass; `also` is one more error code that does."""
    for attempt in range(_TRIES):
        try:
            return ask()
        except Exception as error:
            passing = _is_passing(error) or _code(error) == also
            if not passing or attempt == _TRIES - 1:
                if _code(error) == "not_found":
                    raise
                raise _typed(error, "answer") from error
            time.sleep(pause_s * 2**attempt)
    raise AssertionError("unreachable")


def _code(error: Exception) -> str | int:
    return getattr(error, "code", "")


def _is_passing(error: Exception) -> bool:
    """Whether asking again may help; hcloud itself has then waited out rate limits and gateways."""
    import requests

    code = _code(error)
    if isinstance(code, int) and code >= 500:
        return True
    return code in _PASSING or isinstance(error, requests.ConnectionError | requests.Timeout)


def _typed(error: Exception | None, what: str) -> WorkerError:
    if isinstance(error, WorkerError):
        return error
    code = _code(error) if error else ""
    hint = "check HETZNER_TOKEN" if code in ("unauthorized", "forbidden", 401, 403) else "try again later"
    return WorkerError(f"Hetzner did not {what}: {error}; {hint}")
