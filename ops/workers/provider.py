"""What a provider of machines does: plain functions over frozen values. Each provider's module makes a `Provider`."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ops.workers.errors import CapError, NoCapacityError
from ops.workers.labels import Labels

MAX_RUNGS = 8
"""Offers tried before giving up."""

GONE_WITHIN_S = 300.0
"""How long destroying a machine is retried before it is left to the reaper."""


@dataclass(frozen=True)
class Offer:
    """A type of machine at a location, with its price now (EUR an hour, gross) and whether it can be had."""

    type: str
    location: str
    cores: int
    memory_gb: float
    eur_per_hour: float
    available: bool


@dataclass(frozen=True)
class Instance:
    """A machine that carries our label; `created_at` in UTC, `ip` None until it has an address."""

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
    """Something of ours beside a machine, under the machine's name: an SSH key, a firewall."""

    kind: str
    name: str
    labels: Labels


@dataclass(frozen=True)
class Order:
    """The machine that is wanted. `user_data` is cloud-init's; the owner of the machine can read it.

    `ssh_from` are the networks that may reach its SSH port; nothing else is let in.
    """

    name: str
    labels: Labels
    public_key: str
    user_data: str
    ssh_port: int
    ssh_from: tuple[str, ...]


class Destroy(Protocol):
    """Destroys a machine by name; transient errors are retried for `within_s` seconds."""

    def __call__(self, name: str, within_s: float = GONE_WITHIN_S, /) -> None: ...


@dataclass(frozen=True)
class Provider:
    """A provider, ready to be asked. Every function raises WorkerError when it is of no use."""

    name: str
    user: str
    """Who logs in to its machines."""
    offers: Callable[[], tuple[Offer, ...]]
    create_instance: Callable[[Order, Offer], Instance]
    """Adopts the machine of that name if it is this very order's; raises NoCapacityError, ForeignError."""
    destroy_instance: Destroy
    """Destroys what has that name and our label, and its belongings; returns when the provider knows them no more."""
    list_instances: Callable[[], tuple[Instance, ...]]
    list_belongings: Callable[[], tuple[Belonging, ...]]


@dataclass(frozen=True)
class Size:
    """The least that a pipeline needs."""

    cores: int
    memory_gb: float


SIZES = {
    "extract": Size(2, 8),
    "transform": Size(4, 16),
    "export_serving": Size(4, 16),
    "run-all": Size(4, 16),
}


def ladder(
    offers: tuple[Offer, ...], size: Size, locations: tuple[str, ...], most_eur_per_hour: float
) -> tuple[Offer, ...]:
    """The offers worth trying, cheapest first, at most MAX_RUNGS; at one price the preferred location first.

    Raises NoCapacityError when nothing of that size is offered there, CapError when all of it is too dear.
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
            f"nothing with {size.cores} vCPU and {size.memory_gb:g} GB is available{where}; "
            "try later, or set MATERIA_WORKER_LOCATIONS"
        )
    affordable = [offer for offer in fitting if offer.eur_per_hour <= most_eur_per_hour]
    if not affordable:
        cheapest = min(offer.eur_per_hour for offer in fitting)
        raise CapError(
            f"the cheapest machine that fits costs {cheapest:.4f} EUR an hour, and the caps leave "
            f"{most_eur_per_hour:.4f}; raise MATERIA_WORKER_MAX_EUR_PER_RUN or _PER_DAY, or shorten the TTL"
        )
    preference = {location: place for place, location in enumerate(locations)}
    ordered = sorted(affordable, key=lambda each: (each.eur_per_hour, preference.get(each.location, 0), each.type))
    return tuple(ordered[:MAX_RUNGS])
