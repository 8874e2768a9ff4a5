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
from ops.workers.caps import LEDGER_NAME, Entry, Ledger, left_text
from ops.workers.errors import ForeignError, NoCapacityError, WorkerError, WorkerLeftError
from ops.workers.keys import KeyPair, cloud_init
from ops.workers.labels import Labels, owner_of
from ops.workers.provider import GONE_WITHIN_S, Instance, Order, Provider, Size, ladder
from ops.workers.providers.cloud import TRY_LATER
from ops.workers.settings import WorkerSettings, present, provider_of

log = logging.getLogger(__name__)

REAP_WITHIN_S = 30.0
"""How long the reaper retries one worker; it comes back every few minutes."""

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
    return Hire(provider, workers, owner, Ledger(settings.data_dir / LEDGER_NAME))


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


def destroy(hire: Hire, name: str, within_s: float = GONE_WITHIN_S) -> None:
    """Destroy a worker and its belongings, retrying for `within_s`.

    Raises WorkerLeftError when that cannot be confirmed, ForeignError for a machine without our label.
    """
    try:
        hire.provider.destroy_instance(name, within_s)
    except ForeignError:
        raise
    except WorkerError as error:
        raise _left(hire, name, error) from error
    hire.ledger.end(name, hire.provider.name, utc_now())
    log.info("worker destroyed", extra={"worker": name})


def _left(hire: Hire, name: str, error: WorkerError) -> WorkerLeftError:
    """Record that a worker may still be there, and say what it costs."""
    cause = str(error).removesuffix(TRY_LATER)
    eur_per_hour = hire.ledger.leave(name, hire.provider.name, utc_now(), cause)
    if eur_per_hour is None:
        # Not from this data directory.
        with suppress(WorkerError):
            known = (each.eur_per_hour for each in hire.provider.list_instances() if each.name == name)
            eur_per_hour = next(known, None)
    return WorkerLeftError(left_text(cause, name, eur_per_hour))


def destroy_after(hire: Hire, name: str, error: BaseException) -> None:
    """Destroy a worker because of an error, which stays the one that counts; a failure to destroy becomes its note."""
    with undisturbed():
        try:
            destroy(hire, name)
        except WorkerError as left:
            log.error("%s", left)
            error.add_note(str(left))


@contextmanager
def hired(
    hire: Hire, name: str, size: Size, run_id: int, client_key: KeyPair, host_key: KeyPair
) -> Iterator[Callable[[], Instance]]:
    """Inside, the function creates the worker; afterwards it is destroyed, whether it ever was created or not.

    Raises WorkerLeftError where all went well but the worker could not be destroyed.
    """
    try:
        yield lambda: create(hire, name, size, run_id, client_key.public, host_key)
    except BaseException as error:
        destroy_after(hire, name, error)
        raise
    with undisturbed():
        destroy(hire, name)


def leftovers(hire: Hire, journal: Journal, now: datetime) -> tuple[str, ...]:
    """The names of what must go: ours whose run is over, and anybody's whose time was up long ago."""
    return _left_over(hire, _there(hire), journal, now)


def _there(hire: Hire) -> dict[str, Labels]:
    """Everything that carries our label, by name."""
    found: dict[str, Labels] = {each.name: each.labels for each in hire.provider.list_belongings()}
    return found | {each.name: each.labels for each in hire.provider.list_instances()}


def _left_over(hire: Hire, found: Mapping[str, Labels], journal: Journal, now: datetime) -> tuple[str, ...]:
    return tuple(sorted(name for name, labels in found.items() if _is_left_over(labels, hire.owner, journal, now)))


def reap(hire: Hire, journal: Journal, now: datetime) -> tuple[str, ...]:
    """Destroy what is left over, and return the names; raises WorkerLeftError at the end for what is still there."""
    gone, errors = [], []
    there = _there(hire)
    hire.ledger.confirm_gone(hire.provider.name, there, now)
    for name in _left_over(hire, there, journal, now):
        log.warning("destroying a worker that was left over", extra={"worker": name})
        try:
            destroy(hire, name, REAP_WITHIN_S)
            gone.append(name)
        except WorkerError as error:
            errors.append(str(error))
    if errors:
        raise WorkerLeftError("; ".join(errors))
    return tuple(gone)


def reap_everywhere(workers: WorkerSettings, settings: Settings, journal: Journal, now: datetime) -> tuple[str, ...]:
    """Reap at every provider whose credentials are set; raises WorkerError at the end if any failed."""
    gone: list[str] = []
    errors: list[str] = []
    for name in present(workers):
        try:
            gone += reap(hire_of(provider_of(name, workers), workers, settings), journal, now)
        except (WorkerError, SettingsError) as error:
            errors.append(f"{name}: {error}")
    if errors:
        raise WorkerError("; ".join(errors))
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
