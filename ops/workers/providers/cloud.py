"""The logic that all providers share: find by name and label, create once, wait for an address, delete and verify.

A provider's module describes in a `Cloud` how its client does each of these.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from itertools import count
from typing import Any, TypeVar

from ops.workers.errors import ForeignError, NoCapacityError, RefusedError, WorkerError
from ops.workers.labels import Labels
from ops.workers.provider import DESTROY_TIMEOUT_S, Belonging, Instance, Offer, Order, Provider

log = logging.getLogger(__name__)

TRY_LATER = "; try again later"
_TRIES = 4
_SILENCE_S = 5.0
_ADDRESS_TIMEOUT_S = 300.0
_MAX_PAUSE_FACTOR = 8
_PRICES_TIMEOUT_S = 30.0

T = TypeVar("T")


class ErrorKind(Enum):
    """The kind of a provider error, which determines how to proceed."""

    TRANSIENT = auto()
    """A retry may help."""
    TAKEN = auto()
    """The name exists already: look it up, then retry."""
    BUSY = auto()
    """In use, or about to change: retry the deletion."""
    GONE = auto()
    NO_CAPACITY = auto()
    """The offer cannot be created: try the next one (`ops.workers.refusals` decides)."""
    REFUSED = auto()
    """The credentials are wrong or do not permit this."""
    FINAL = auto()


_OF_STATUS = {
    401: ErrorKind.REFUSED,
    403: ErrorKind.REFUSED,
    404: ErrorKind.GONE,
    408: ErrorKind.TRANSIENT,
    409: ErrorKind.BUSY,
    413: ErrorKind.TRANSIENT,
    429: ErrorKind.TRANSIENT,
}


@dataclass(frozen=True)
class Resource:
    """A resource at a provider; `labels` is None if it is not ours, `place` is a location or empty."""

    id: str
    name: str
    labels: Labels | None
    raw: Any
    place: str = ""
    is_leaving: bool = False


@dataclass(frozen=True)
class Kind:
    """One kind of resource: a server, a firewall."""

    what: str
    find_by_name: Callable[[str], Iterable[Resource]]
    """Lists all resources with that name, possibly with others."""
    list_ours: Callable[[], Iterable[Resource]]
    """Lists all resources with our label, possibly with others."""
    delete: Callable[[Resource], object]
    is_there: Callable[[Resource], bool]
    """Called after the deletion; an error of the kind GONE also means no."""

    def with_name(self, name: str) -> list[Resource]:
        """The resources with that name, of any owner."""
        return [each for each in self.find_by_name(name) if each.name == name]

    def list_labelled(self) -> list[tuple[Resource, Labels]]:
        """Resources with our label."""
        return [(each, each.labels) for each in self.list_ours() if each.labels is not None]


@dataclass(frozen=True)
class Supply:
    """A kind of resource that a server needs beside it; `make` is asked where `fits` finds none of this order's."""

    kind: Kind
    make: Callable[[Order, Offer], Resource]
    complete: Callable[[Resource, Order], object] = lambda resource, order: None
    """Completes its configuration; idempotent."""
    place: Callable[[Offer], str] = lambda offer: ""
    """The location that it must have for that offer; empty if one serves every location."""


def status_kind(status: int) -> ErrorKind:
    """The kind of an error by its HTTP status, if its body does not determine it."""
    if status >= 500:
        return ErrorKind.TRANSIENT
    return _OF_STATUS.get(status, ErrorKind.FINAL)


def fetch_prices(title: str, url: str, read: Callable[[Any], Mapping[str, float]]) -> Mapping[str, float]:
    """Prices (EUR) that `read` finds in the JSON of a public price list; raises WorkerError without them."""
    import httpx

    try:
        return read(httpx.get(url, timeout=_PRICES_TIMEOUT_S, follow_redirects=True).raise_for_status().json())
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise WorkerError(
            f"{title} has no readable prices ({type(error).__name__}: {error}), so no machine is created; "
            "try again later"
        ) from error


@dataclass(frozen=True)
class Cloud:
    """How one provider's client performs the operations of every provider."""

    name: str
    title: str
    credentials: str
    """The environment variables to check if the provider refuses them."""
    user: str
    servers: Kind
    supplies: tuple[Supply, ...]
    remnants: tuple[Kind, ...]
    """Resources that a server may leave behind, such as its disk; they are deleted after it."""
    offers: Callable[[], tuple[Offer, ...]]
    create: Callable[[Order, Offer, Mapping[str, Resource]], Resource]
    """Requests a server; the mapping holds the supplies by their `what`."""
    instance: Callable[[Resource], Instance]
    """Convert one of our servers."""
    error_kind: Callable[[Exception], ErrorKind]
    start: Callable[[Resource, Order], object] = lambda resource, order: None
    """Completes a created server; idempotent."""
    refresh: Callable[[Resource], Resource] = lambda resource: resource
    """Reads the server again."""
    error_text: Callable[[Exception], str] = str
    """The text of an error, for people."""
    failure: Callable[[Resource], str | None] = lambda resource: None
    """Why the server will never run, such as no capacity after all; None if it still may."""
    pause_s: float = 1.0


def provider_from(cloud: Cloud) -> Provider:
    """Wrap a `Cloud` as a `Provider`."""
    return Provider(
        name=cloud.name,
        user=cloud.user,
        offers=partial(call_with_retries, cloud, cloud.offers),
        create_instance=partial(_create, cloud),
        destroy_instance=partial(_destroy, cloud),
        list_instances=partial(_instances, cloud),
        list_belongings=partial(_belongings, cloud),
    )


def call_with_retries(
    cloud: Cloud,
    ask: Callable[[], T],
    *,
    retry: ErrorKind | None = None,
    reraise: tuple[ErrorKind, ...] = (),
    what: str = "answer",
    deadline: float | None = None,
) -> T:
    """Call `ask`; retry transient errors a few times, or until `deadline` (of `time.monotonic`).

    Errors of the kinds in `reraise` are raised unchanged. Raises WorkerError that says `what` the provider did not do.
    """
    for attempt in count():
        try:
            with _log_silence(cloud, attempt + 1, None if deadline else _TRIES):
                return ask()
        except WorkerError:
            raise
        except Exception as error:
            error_kind = cloud.error_kind(error)
            pause_s = cloud.pause_s * min(2 ** min(attempt, _TRIES), _MAX_PAUSE_FACTOR)
            is_last = attempt + 1 == _TRIES if deadline is None else time.monotonic() + pause_s > deadline
            if error_kind in reraise:
                raise
            if error_kind not in (ErrorKind.TRANSIENT, ErrorKind.NO_CAPACITY, retry) or is_last:
                raise _worker_error(cloud, error, what) from error
            if deadline is not None:
                log.warning("%s did not %s; retrying", cloud.title, what, extra={"error": cloud.error_text(error)})
            time.sleep(pause_s)
    raise AssertionError("unreachable")


@contextmanager
def _log_silence(cloud: Cloud, attempt: int, of: int | None) -> Iterator[None]:
    """Log that the provider does not answer; its client waits half a minute without logging."""
    text = f"{cloud.title} has not answered for {_SILENCE_S:.0f} s, try {attempt}{f' of {of}' if of else ''}"
    timer = threading.Timer(_SILENCE_S, log.warning, ("%s", text))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _create(cloud: Cloud, order: Order, offer: Offer) -> Instance:
    # A leftover of the same name is deleted: its keys are lost.
    if _find_created(cloud, order) is None:
        for kind in (cloud.servers, *cloud.remnants):
            _delete(cloud, kind, order.name)
    supplies = {supply.kind.what: _ensure_supply(cloud, supply, order, offer) for supply in cloud.supplies}
    last: Exception | None = None
    for attempt in range(_TRIES):
        # A request whose answer was lost may have created the machine: look for it before retrying.
        if (created := _find_created(cloud, order)) is not None:
            return _wait_for_address(cloud, created, order, offer)
        try:
            created = cloud.create(order, offer, supplies)
        except WorkerError:
            raise
        except Exception as error:
            error_kind = cloud.error_kind(error)
            if error_kind is ErrorKind.NO_CAPACITY:
                raise _no_capacity(offer, cloud.error_text(error)) from error
            if error_kind not in (ErrorKind.TAKEN, ErrorKind.TRANSIENT):
                raise _worker_error(cloud, error, f"create {order.name} ({offer.type} at {offer.location})") from error
            last = error
            time.sleep(cloud.pause_s * 2**attempt)
            continue
        if created.labels is None:
            raise WorkerError(f"{order.name} was created without its labels; remove it by hand")
        return _wait_for_address(cloud, created, order, offer)
    if (created := _find_created(cloud, order)) is not None:
        return _wait_for_address(cloud, created, order, offer)
    raise _worker_error(cloud, last, f"create {order.name}") from last


def _find_created(cloud: Cloud, order: Order) -> Resource | None:
    """The machine of that name if this order created it; raises ForeignError if none of that name is ours."""
    found = call_with_retries(cloud, partial(cloud.servers.with_name, order.name))
    _filter_ours(cloud.servers, found)
    return next((each for each in found if each.labels == order.labels and not each.is_leaving), None)


def _wait_for_address(cloud: Cloud, created: Resource, order: Order, offer: Offer) -> Instance:
    """Wait until the machine has an address; if it gets no capacity, destroy it and raise NoCapacityError."""
    deadline, pause_s = time.monotonic() + _ADDRESS_TIMEOUT_S, cloud.pause_s
    ask = partial(call_with_retries, cloud, reraise=(ErrorKind.GONE, ErrorKind.NO_CAPACITY))
    try:
        ask(partial(cloud.start, created, order))
        while (why := cloud.failure(created)) is None:
            instance = ask(partial(cloud.instance, created))
            if instance.ip is not None:
                return instance
            if time.monotonic() > deadline:
                raise WorkerError(f"timeout: {order.name} has no address after {_ADDRESS_TIMEOUT_S:.0f} s{TRY_LATER}")
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _MAX_PAUSE_FACTOR * cloud.pause_s)
            created = ask(partial(cloud.refresh, created))
    except WorkerError:
        raise
    except Exception as error:
        why = "it disappeared before it ran" if cloud.error_kind(error) is ErrorKind.GONE else cloud.error_text(error)
    for kind in (cloud.servers, *cloud.remnants):
        _delete(cloud, kind, order.name)
    raise _no_capacity(offer, why)


def _ensure_supply(cloud: Cloud, supply: Supply, order: Order, offer: Offer) -> Resource:
    """Return this order's key or firewall; one of an earlier order with the same name is replaced."""

    def have() -> Resource:
        found, place = supply.kind.with_name(order.name), supply.place(offer)
        mine = next((each for each in found if each.labels == order.labels and each.place == place), None)
        if mine is None:
            _delete(cloud, supply.kind, order.name, keep=order.labels)
            mine = supply.make(order, offer)
        supply.complete(mine, order)
        return mine

    try:
        return call_with_retries(
            cloud, have, retry=ErrorKind.TAKEN, reraise=(ErrorKind.NO_CAPACITY,) if supply.place(offer) else ()
        )
    except WorkerError:
        raise
    except Exception as error:
        # A quota of this location only.
        raise _no_capacity(offer, cloud.error_text(error)) from error


def _destroy(cloud: Cloud, name: str, within_s: float = DESTROY_TIMEOUT_S) -> None:
    """Destroy the machine first, because a firewall in use cannot be deleted."""
    deadline = time.monotonic() + within_s
    for kind in (cloud.servers, *_kinds_beside(cloud)):
        _delete(cloud, kind, name, deadline=deadline)


def _delete(cloud: Cloud, kind: Kind, name: str, keep: Labels | None = None, *, deadline: float | None = None) -> None:
    """Delete the resources with that name and our label, except those whose labels equal `keep`."""
    deadline = time.monotonic() + DESTROY_TIMEOUT_S if deadline is None else deadline
    what = f"list the {kind.what}s named {name}"
    for resource in _filter_ours(
        kind, call_with_retries(cloud, partial(kind.with_name, name), what=what, deadline=deadline)
    ):
        if keep is None or resource.labels != keep:
            _delete_one(cloud, kind, resource, deadline)


def _delete_one(cloud: Cloud, kind: Kind, resource: Resource, deadline: float) -> None:
    """Delete a resource until the provider no longer lists it; raises WorkerError at the deadline."""
    what = f"delete the {kind.what} {resource.name}"
    ask = partial(
        call_with_retries, cloud, retry=ErrorKind.BUSY, reraise=(ErrorKind.GONE,), what=what, deadline=deadline
    )
    pause_s = cloud.pause_s
    try:
        while True:
            ask(partial(kind.delete, resource))
            if not ask(partial(kind.is_there, resource)):
                return
            if time.monotonic() + pause_s > deadline:
                raise WorkerError(
                    f"{cloud.title} still has the {kind.what} {resource.name} (id {resource.id}) after its deletion"
                )
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _MAX_PAUSE_FACTOR * cloud.pause_s)
    except WorkerError:
        raise
    except Exception as error:
        if cloud.error_kind(error) is not ErrorKind.GONE:
            raise


def _instances(cloud: Cloud) -> tuple[Instance, ...]:
    return tuple(
        call_with_retries(cloud, partial(cloud.instance, each))
        for each, _ in call_with_retries(cloud, cloud.servers.list_labelled)
    )


def _belongings(cloud: Cloud) -> tuple[Belonging, ...]:
    return tuple(
        Belonging(kind.what, each.name, labels)
        for kind in _kinds_beside(cloud)
        for each, labels in call_with_retries(cloud, kind.list_labelled)
    )


def _kinds_beside(cloud: Cloud) -> tuple[Kind, ...]:
    return (*(supply.kind for supply in cloud.supplies), *cloud.remnants)


def _filter_ours(kind: Kind, found: list[Resource]) -> list[Resource]:
    """The resources with our label; raises ForeignError if there are only others."""
    ours = [each for each in found if each.labels is not None]
    if found and not ours:
        raise ForeignError(
            f"the {kind.what} {found[0].name} (id {found[0].id}) has a worker's name but not Materia's label; "
            "it is not touched: rename or remove it yourself"
        )
    return ours


def _no_capacity(offer: Offer, why: object) -> NoCapacityError:
    return NoCapacityError(f"{offer.type} at {offer.location} is not available: {why}")


def _worker_error(cloud: Cloud, error: Exception | None, what: str) -> WorkerError:
    reason = cloud.error_text(error) if error else "no answer"
    if error is not None and cloud.error_kind(error) is ErrorKind.REFUSED:
        return RefusedError(f"{cloud.title} did not {what}: {reason}; check {cloud.credentials}")
    return WorkerError(f"{cloud.title} did not {what}: {reason}{TRY_LATER}")
