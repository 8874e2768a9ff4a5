"""Create a worker on the cheapest available offer within the spending caps, and always destroy it afterwards."""

import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from dataflows.errors import SettingsError
from ops.config.settings import Settings
from ops.journal.journal import Journal
from ops.journal.run import RunStatus, utc_now
from ops.workers.caps import LEDGER_NAME, Entry, Ledger, leftover_text
from ops.workers.errors import ForeignError, NoCapacityError, WorkerError, WorkerLeftError
from ops.workers.keys import KeyPair, cloud_init
from ops.workers.labels import Labels, owner_of
from ops.workers.provider import DESTROY_TIMEOUT_S, Instance, Order, Provider, Size, select_offers
from ops.workers.providers.cloud import TRY_LATER
from ops.workers.settings import WorkerSettings, configured_providers, provider_of

log = logging.getLogger(__name__)

REAP_WITHIN_S = 30.0
"""How long the reaper retries one worker; it runs every few minutes."""

GRACE = timedelta(minutes=5)
"""How long after its expiry a worker of another owner is reaped; the owner should do it first."""


@dataclass(frozen=True)
class Hire:
    """Everything needed to create a worker: provider, settings, owner and ledger."""

    provider: Provider
    workers: WorkerSettings
    owner: str
    ledger: Ledger


def hire_of(provider: Provider, workers: WorkerSettings, settings: Settings) -> Hire:
    """Create a hire from the settings."""
    owner = owner_of(settings.data_dir, socket.gethostname())
    return Hire(provider, workers, owner, Ledger(settings.data_dir / LEDGER_NAME))


def create(hire: Hire, name: str, size: Size, run_id: int | None, public_key: str, host_key: KeyPair) -> Instance:
    """Create a machine of at least that size; raises WorkerError before a request that would exceed a cap.

    Raises NoCapacityError if none of the tried offers is available.
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
    left = hire.ledger.max_eur_per_hour(workers.caps, workers.ttl, now)
    offers = select_offers(hire.provider.offers(), size, workers.locations, left)
    refusals = []
    for offer in offers:
        running = sum(1 for each in hire.provider.list_instances() if each.name != name)
        entry = Entry(name, offer.eur_per_hour, now, now + workers.ttl, provider=hire.provider.name)
        hire.ledger.begin(entry, workers.caps, running, now)
        try:
            instance = hire.provider.create_instance(order, offer)
        except NoCapacityError as error:
            hire.ledger.void(name, hire.provider.name, now)
            log.info("no capacity, trying the next offer", extra={"type": offer.type, "location": offer.location})
            refusals.append(str(error))
            continue
        log.info("worker created", extra={"worker": name, "type": instance.type, "location": instance.location})
        return instance
    raise NoCapacityError(f"no capacity: all {len(offers)} offers failed (last: {refusals[-1]}); try again later")


def destroy(hire: Hire, name: str, within_s: float = DESTROY_TIMEOUT_S) -> None:
    """Destroy a worker and its belongings, retrying for `within_s`.

    Raises WorkerLeftError if the destruction cannot be confirmed, ForeignError for a machine without our label.
    """
    try:
        hire.provider.destroy_instance(name, within_s)
    except ForeignError:
        raise
    except WorkerError as error:
        raise _record_leftover(hire, name, error) from error
    hire.ledger.end(name, hire.provider.name, utc_now())
    log.info("worker destroyed", extra={"worker": name})


def _record_leftover(hire: Hire, name: str, error: WorkerError) -> WorkerLeftError:
    """Record that a worker may still exist, and return the error that states its price."""
    cause = str(error).removesuffix(TRY_LATER)
    eur_per_hour = hire.ledger.leave(name, hire.provider.name, utc_now(), cause)
    if eur_per_hour is None:
        # Not from this data directory.
        with suppress(WorkerError):
            known = (each.eur_per_hour for each in hire.provider.list_instances() if each.name == name)
            eur_per_hour = next(known, None)
    return WorkerLeftError(leftover_text(cause, name, eur_per_hour))


def destroy_after(hire: Hire, name: str, error: BaseException) -> None:
    """Destroy a worker after an error; a failure to destroy it is added to that error as a note."""
    with ignore_signals():
        try:
            destroy(hire, name)
        except WorkerError as left:
            log.error("%s", left)
            error.add_note(str(left))


@contextmanager
def temporary_worker(
    hire: Hire, name: str, size: Size, run_id: int, client_key: KeyPair, host_key: KeyPair
) -> Iterator[Callable[[], Instance]]:
    """Yield a function that creates the worker; destroy the worker afterwards, in every case.

    Raises WorkerLeftError if the block succeeded but the worker could not be destroyed.
    """
    try:
        yield lambda: create(hire, name, size, run_id, client_key.public, host_key)
    except BaseException as error:
        destroy_after(hire, name, error)
        raise
    with ignore_signals():
        destroy(hire, name)


def _list_managed(hire: Hire) -> dict[str, Labels]:
    """All machines and resources with our label, by name."""
    found: dict[str, Labels] = {each.name: each.labels for each in hire.provider.list_belongings()}
    return found | {each.name: each.labels for each in hire.provider.list_instances()}


def _select_leftovers(hire: Hire, found: Mapping[str, Labels], journal: Journal, now: datetime) -> tuple[str, ...]:
    """The names of workers to destroy: our own whose run has ended, and those of any owner that expired long ago."""
    return tuple(sorted(name for name, labels in found.items() if _is_leftover(labels, hire.owner, journal, now)))


def reap(hire: Hire, journal: Journal, now: datetime) -> tuple[str, ...]:
    """Destroy leftover workers and return their names; raises WorkerLeftError at the end for those that remain."""
    destroyed, errors = [], []
    there = _list_managed(hire)
    hire.ledger.confirm_gone(hire.provider.name, there, now)
    for name in _select_leftovers(hire, there, journal, now):
        log.warning("destroying a leftover worker", extra={"worker": name})
        try:
            destroy(hire, name, REAP_WITHIN_S)
            destroyed.append(name)
        except WorkerError as error:
            errors.append(str(error))
    if errors:
        raise WorkerLeftError("; ".join(errors))
    return tuple(destroyed)


def reap_everywhere(workers: WorkerSettings, settings: Settings, journal: Journal, now: datetime) -> tuple[str, ...]:
    """Reap at every provider whose credentials are set; raises WorkerError at the end if any failed."""
    destroyed: list[str] = []
    errors: list[str] = []
    for name in configured_providers(workers):
        try:
            destroyed += reap(hire_of(provider_of(name, workers), workers, settings), journal, now)
        except (WorkerError, SettingsError) as error:
            errors.append(f"{name}: {error}")
    if errors:
        raise WorkerError("; ".join(errors))
    return tuple(destroyed)


def _is_leftover(labels: Labels, owner: str, journal: Journal, now: datetime) -> bool:
    if now > labels.expires_at + (timedelta(0) if labels.owner == owner else GRACE):
        return True
    if labels.owner != owner or labels.run_id is None:
        return False
    run = journal.run(labels.run_id)
    return run is None or run.status is not RunStatus.RUNNING


@contextmanager
def ignore_signals() -> Iterator[None]:
    """Ignore SIGINT and SIGTERM inside the block, whose duration must be bounded."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
