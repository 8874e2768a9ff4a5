"""Having a worker: within the caps, on the cheapest rung that is to be had, and gone afterwards whatever happens."""

import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from dataflows.errors import SettingsError
from ops.journal import Journal
from ops.run import RunStatus, utc_now
from ops.settings import Settings
from ops.workers.caps import Entry, Ledger
from ops.workers.errors import NoCapacityError, WorkerError
from ops.workers.keys import KeyPair, cloud_init
from ops.workers.labels import Labels, owner_of
from ops.workers.provider import Instance, Order, Provider, Size, ladder
from ops.workers.settings import WorkerSettings, present, provider_of

log = logging.getLogger(__name__)

GRACE = timedelta(minutes=5)
"""So long after its time is up, a worker of somebody else is reaped: its owner had the chance to do it."""


@dataclass(frozen=True)
class Hire:
    """Who wants a worker, from whom, and by which rules."""

    provider: Provider
    workers: WorkerSettings
    owner: str
    ledger: Ledger


def hire_of(provider: Provider, workers: WorkerSettings, settings: Settings) -> Hire:
    """As the settings say."""
    owner = owner_of(settings.data_dir, socket.gethostname())
    return Hire(provider, workers, owner, Ledger(settings.data_dir / "workers.jsonl"))


def create(hire: Hire, name: str, size: Size, run_id: int | None, public_key: str, host_key: KeyPair) -> Instance:
    """A machine of at least that size; raises CapError before asking for one that would pass a cap.

    Raises NoCapacityError when none of the offers tried is available.
    """
    now, workers = utc_now(), hire.workers
    order = Order(
        name=name,
        labels=Labels(hire.owner, run_id, now.replace(microsecond=0), workers.ttl, host_key.short),
        public_key=public_key,
        user_data=cloud_init(host_key, public_key, workers.ssh_port),
        ssh_port=workers.ssh_port,
        ssh_from=workers.ssh_from,
    )
    left = hire.ledger.most_eur_per_hour(workers.caps, workers.ttl, now)
    rungs = ladder(hire.provider.offers(), size, workers.locations, left)
    refusals = []
    for offer in rungs:
        running = sum(1 for each in hire.provider.list_instances() if each.name != name)
        entry = Entry(name, offer.eur_per_hour, now, now + workers.ttl, provider=hire.provider.name)
        hire.ledger.begin(entry, workers.caps, running, now)
        try:
            made = hire.provider.create_instance(order, offer)
        except NoCapacityError as error:
            hire.ledger.void(name, hire.provider.name, now)
            log.info("no capacity, trying the next offer", extra={"type": offer.type, "location": offer.location})
            refusals.append(str(error))
            continue
        log.info("worker created", extra={"worker": name, "type": made.type, "location": made.location})
        return made
    raise NoCapacityError(f"no capacity: all {len(rungs)} offers failed (last: {refusals[-1]}); try again later")


def destroy(hire: Hire, name: str) -> None:
    """Be rid of a worker and its belongings for good; raises WorkerError when that cannot be confirmed."""
    hire.provider.destroy_instance(name)
    hire.ledger.end(name, hire.provider.name, utc_now())
    log.info("worker destroyed", extra={"worker": name})


@contextmanager
def hired(
    hire: Hire, name: str, size: Size, run_id: int, client_key: KeyPair, host_key: KeyPair
) -> Iterator[Callable[[], Instance]]:
    """Inside, the function creates the worker; afterwards there is none, whether it ever was created or not."""
    try:
        yield lambda: create(hire, name, size, run_id, client_key.public, host_key)
    except BaseException as error:
        with undisturbed():
            try:
                destroy(hire, name)
            except WorkerError as trouble:
                log.error("the worker may still be there, and cost money: %s", trouble)
                error.add_note(f"and the worker {name} may still be there: {trouble}")
        raise
    with undisturbed():
        destroy(hire, name)


def leftovers(hire: Hire, journal: Journal, now: datetime) -> tuple[str, ...]:
    """The names of what must go: ours whose run is over, and anybody's whose time was up long ago."""
    found: dict[str, Labels] = {each.name: each.labels for each in hire.provider.list_belongings()}
    found |= {each.name: each.labels for each in hire.provider.list_instances()}
    return tuple(sorted(name for name, labels in found.items() if _is_left_over(labels, hire.owner, journal, now)))


def reap(hire: Hire, journal: Journal, now: datetime) -> tuple[str, ...]:
    """Destroy what is left over, and return the names; raises WorkerError at the end if any of it would not go."""
    gone, troubles = [], []
    for name in leftovers(hire, journal, now):
        log.warning("destroying a worker that was left over", extra={"worker": name})
        try:
            destroy(hire, name)
            gone.append(name)
        except WorkerError as error:
            troubles.append(f"{name}: {error}")
    if troubles:
        raise WorkerError(f"{len(troubles)} left over could not be destroyed: {'; '.join(troubles)}")
    return tuple(gone)


def reap_everywhere(workers: WorkerSettings, settings: Settings, journal: Journal, now: datetime) -> tuple[str, ...]:
    """Reap at every provider whose credentials are set; raises WorkerError at the end if any was in trouble."""
    gone: list[str] = []
    troubles: list[str] = []
    for name in present(workers):
        try:
            gone += reap(hire_of(provider_of(name, workers), workers, settings), journal, now)
        except (WorkerError, SettingsError) as error:
            troubles.append(f"{name}: {error}")
    if troubles:
        raise WorkerError("; ".join(troubles))
    return tuple(gone)


def _is_left_over(labels: Labels, owner: str, journal: Journal, now: datetime) -> bool:
    if now > labels.expires_at + (timedelta(0) if labels.owner == owner else GRACE):
        return True
    if labels.owner != owner or labels.run_id is None:
        return False
    run = journal.run(labels.run_id)
    return run is None or run.status is not RunStatus.RUNNING


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let nothing from the keyboard, nor SIGTERM, cut short what is inside; it must be bounded itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
