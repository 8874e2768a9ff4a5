"""The interface of a cloud provider: functions over frozen values. Each provider's module creates a `Provider`."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ops.workers.errors import NoCapacityError, WorkerError
from ops.workers.labels import Labels

MAX_OFFERS = 8
"""Offers tried before giving up."""

DESTROY_TIMEOUT_S = 300.0
"""How long to retry destroying a machine before leaving it to the reaper."""


@dataclass(frozen=True)
class Offer:
    """A type of machine at a location, with its current price (EUR per hour, gross) and whether it is available."""

    type: str
    location: str
    cores: int
    memory_gb: float
    eur_per_hour: float
    available: bool


@dataclass(frozen=True)
class Instance:
    """A machine with our label; `created_at` is in UTC, `ip` is None until it has an address."""

    id: str
    name: str
    provider: str
    type: str
    location: str
    ip: str | None
    created_at: datetime
    labels: Labels
    eur_per_hour: float
    status: str


@dataclass(frozen=True)
class Belonging:
    """A resource of a machine, with the machine's name: an SSH key, a firewall, a disk."""

    kind: str
    name: str
    labels: Labels


@dataclass(frozen=True)
class Order:
    """The machine to create. `user_data` is the cloud-init input, which stays readable on the machine.

    `ssh_from` are the networks that may reach its SSH port; all other traffic is blocked.
    """

    name: str
    labels: Labels
    public_key: str
    user_data: str
    ssh_port: int
    ssh_from: tuple[str, ...]


class Destroy(Protocol):
    """Destroys a machine by name; transient errors are retried for `within_s` seconds."""

    def __call__(self, name: str, within_s: float = DESTROY_TIMEOUT_S, /) -> None: ...


@dataclass(frozen=True)
class Provider:
    """A provider with credentials. Every function raises WorkerError if it fails."""

    name: str
    user: str
    """The user name for SSH."""
    offers: Callable[[], tuple[Offer, ...]]
    create_instance: Callable[[Order, Offer], Instance]
    """Reuses an existing machine of the same order; raises NoCapacityError, ForeignError."""
    destroy_instance: Destroy
    """Destroys the machine of that name with our label, and its resources; returns when all of them are deleted."""
    list_instances: Callable[[], tuple[Instance, ...]]
    list_belongings: Callable[[], tuple[Belonging, ...]]


@dataclass(frozen=True)
class Size:
    """The minimum size of a machine for a pipeline."""

    cores: int
    memory_gb: float


SIZES = {
    "extract": Size(2, 8),
    "transform": Size(4, 16),
    "export_serving": Size(4, 16),
    "run-all": Size(4, 16),
}


def select_offers(
    offers: tuple[Offer, ...], size: Size, locations: tuple[str, ...], max_eur_per_hour: float
) -> tuple[Offer, ...]:
    """The offers to try, at most MAX_OFFERS, cheapest first; at equal price the preferred location first.

    Raises NoCapacityError if no offer of that size exists, WorkerError if all of them are too expensive.
    """
    fitting = [
        offer
        for offer in offers
        if offer.available
        and offer.cores >= size.cores
        and offer.memory_gb >= size.memory_gb
        and (not locations or offer.location in locations)
    ]
    if not fitting:
        where = f" at {', '.join(locations)}" if locations else ""
        raise NoCapacityError(
            f"no capacity: no machine with {size.cores} vCPU and {size.memory_gb:g} GB is available{where}; "
            "try again later, or set MATERIA_WORKER_LOCATIONS"
        )
    affordable = [offer for offer in fitting if offer.eur_per_hour <= max_eur_per_hour]
    if not affordable:
        cheapest = min(offer.eur_per_hour for offer in fitting)
        raise WorkerError(
            f"too expensive: the cheapest suitable machine costs {cheapest:.4f} EUR/h, and the caps allow "
            f"{max_eur_per_hour:.4f}; raise MATERIA_WORKER_MAX_EUR_PER_RUN or _PER_DAY, or shorten the TTL"
        )
    preference = {location: place for place, location in enumerate(locations)}
    ordered = sorted(affordable, key=lambda each: (each.eur_per_hour, preference.get(each.location, 0), each.type))
    return tuple(ordered[:MAX_OFFERS])
