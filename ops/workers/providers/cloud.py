"""What is alike at every provider: find by name and label, make once, wait for an address, delete until it is gone.

A provider's module says in a `Cloud` how its own client does each of these; nothing here knows any of them.
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
from ops.workers.provider import GONE_WITHIN_S, Belonging, Instance, Offer, Order, Provider

log = logging.getLogger(__name__)

TRY_LATER = "; try again later"
_TRIES = 4
_SILENT_S = 5.0
_ADDRESS_WITHIN_S = 300.0
_SLOWEST_PAUSES = 8
_PRICES_WITHIN_S = 30.0

T = TypeVar("T")


class ErrorKind(Enum):
    """What an error of a provider's client means for what is to be done next."""

    PASSING = auto()
    """Asking again may help."""
    TAKEN = auto()
    """Something of that name is there: look for it, then ask again."""
    BUSY = auto()
    """In use, or about to change: deleting it may be asked again."""
    GONE = auto()
    NO_CAPACITY = auto()
    """The offer cannot be created: try the next one (`ops.workers.refusals` decides)."""
    REFUSED = auto()
    """The credentials are wrong, or are not allowed to do this."""
    FINAL = auto()


_OF_STATUS = {
    401: ErrorKind.REFUSED,
    403: ErrorKind.REFUSED,
    404: ErrorKind.GONE,
    408: ErrorKind.PASSING,
    409: ErrorKind.BUSY,
    413: ErrorKind.PASSING,
    429: ErrorKind.PASSING,
}


@dataclass(frozen=True)
class Resource:
    """Something that a provider holds; `labels` is None when it is not ours, `place` a location or empty."""

    id: str
    name: str
    labels: Labels | None
    raw: Any
    place: str = ""
    is_leaving: bool = False


@dataclass(frozen=True)
class Kind:
    """One kind of thing: a server, a firewall."""

    what: str
    named: Callable[[str], Iterable[Resource]]
    """All that have the name, and maybe others."""
    ours: Callable[[], Iterable[Resource]]
    """All that carry our label, and maybe others."""
    delete: Callable[[Resource], object]
    is_there: Callable[[Resource], bool]
    """Asked after it was deleted; an error that means GONE says no, too."""

    def with_name(self, name: str) -> list[Resource]:
        """Those that have the name, ours or not."""
        return [each for each in self.named(name) if each.name == name]

    def labelled(self) -> list[tuple[Resource, Labels]]:
        """Those that carry our label."""
        return [(each, each.labels) for each in self.ours() if each.labels is not None]


@dataclass(frozen=True)
class Supply:
    """A kind of thing that a server needs beside it; `make` is asked where `fits` finds none of this order's."""

    kind: Kind
    make: Callable[[Order, Offer], Resource]
    complete: Callable[[Resource, Order], object] = lambda thing, order: None
    """Brings it into the state that is wanted; may be repeated."""
    place: Callable[[Offer], str] = lambda offer: ""
    """Where the supply must be for that offer; empty where one serves every location."""


def kind_of_status(status: int) -> ErrorKind:
    """What an HTTP status of an error means, where its body does not say more."""
    if status >= 500:
        return ErrorKind.PASSING
    return _OF_STATUS.get(status, ErrorKind.FINAL)


def priced(title: str, url: str, read: Callable[[Any], Mapping[str, float]]) -> Mapping[str, float]:
    """Prices (EUR) that `read` finds in the JSON of a public price list; raises WorkerError without them."""
    import httpx

    try:
        return read(httpx.get(url, timeout=_PRICES_WITHIN_S, follow_redirects=True).raise_for_status().json())
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise WorkerError(
            f"{title} does not say what machines cost ({type(error).__name__}: {error}), so none is asked for; "
            "try again later"
        ) from error


@dataclass(frozen=True)
class Cloud:
    """How one provider's client does what every provider must."""

    name: str
    title: str
    credentials: str
    """What to check when it refuses us: names of environment variables."""
    user: str
    servers: Kind
    supplies: tuple[Supply, ...]
    remnants: tuple[Kind, ...]
    """What a server may leave behind, and is deleted after it: its disk."""
    offers: Callable[[], tuple[Offer, ...]]
    create: Callable[[Order, Offer, Mapping[str, Resource]], Resource]
    """Asks for a server; the mapping holds the supplies by their `what`."""
    instance: Callable[[Resource], Instance]
    """A server of ours as everybody knows it."""
    error_kind: Callable[[Exception], ErrorKind]
    start: Callable[[Resource, Order], object] = lambda thing, order: None
    """What must still be done to a server that was made; may be repeated."""
    again: Callable[[Resource], Resource] = lambda thing: thing
    """The same server as it is now."""
    said: Callable[[Exception], str] = str
    """What an error says, for people."""
    failure: Callable[[Resource], str | None] = lambda thing: None
    """Why it will never run: the provider found no room for it after all. None as long as it may."""
    pause_s: float = 1.0


def provider_from(cloud: Cloud) -> Provider:
    """The provider that the rest of Materia knows."""
    return Provider(
        name=cloud.name,
        user=cloud.user,
        offers=partial(asked, cloud, cloud.offers),
        create_instance=partial(_create, cloud),
        destroy_instance=partial(_destroy, cloud),
        list_instances=partial(_instances, cloud),
        list_belongings=partial(_belongings, cloud),
    )


def asked(
    cloud: Cloud,
    ask: Callable[[], T],
    *,
    also: ErrorKind | None = None,
    telling: tuple[ErrorKind, ...] = (),
    what: str = "answer",
    deadline: float | None = None,
) -> T:
    """Retry transient errors, a few times, or until `deadline` (of `time.monotonic`).

    Errors that are `telling` are raised as they came. Raises WorkerError, which says `what` the provider did not do.
    """
    for attempt in count():
        try:
            with _silence_told(cloud, attempt + 1, None if deadline else _TRIES):
                return ask()
        except WorkerError:
            raise
        except Exception as error:
            error_kind = cloud.error_kind(error)
            pause_s = cloud.pause_s * min(2 ** min(attempt, _TRIES), _SLOWEST_PAUSES)
            is_last = attempt + 1 == _TRIES if deadline is None else time.monotonic() + pause_s > deadline
            if error_kind in telling:
                raise
            if error_kind not in (ErrorKind.PASSING, ErrorKind.NO_CAPACITY, also) or is_last:
                raise _typed(cloud, error, what) from error
            if deadline is not None:
                log.warning("%s did not %s; retrying", cloud.title, what, extra={"error": cloud.said(error)})
            time.sleep(pause_s)
    raise AssertionError("unreachable")


@contextmanager
def _silence_told(cloud: Cloud, attempt: int, of: int | None) -> Iterator[None]:
    """Report that the provider does not answer: a client waits half a minute without saying so."""
    text = f"{cloud.title} has not answered for {_SILENT_S:.0f} s, try {attempt}{f' of {of}' if of else ''}"
    timer = threading.Timer(_SILENT_S, log.warning, ("%s", text))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _create(cloud: Cloud, order: Order, offer: Offer) -> Instance:
    # A leftover of the same name is in the way, and its keys are lost.
    if _made(cloud, order) is None:
        for kind in (cloud.servers, *cloud.remnants):
            _delete(cloud, kind, order.name)
    supplies = {supply.kind.what: _supplied(cloud, supply, order, offer) for supply in cloud.supplies}
    last: Exception | None = None
    for attempt in range(_TRIES):
        # An answer that got lost may have made the machine: it is looked for before it is asked for again.
        if (made := _made(cloud, order)) is not None:
            return _running(cloud, made, order, offer)
        try:
            made = cloud.create(order, offer, supplies)
        except WorkerError:
            raise
        except Exception as error:
            error_kind = cloud.error_kind(error)
            if error_kind is ErrorKind.NO_CAPACITY:
                raise _no_capacity(offer, cloud.said(error)) from error
            if error_kind not in (ErrorKind.TAKEN, ErrorKind.PASSING):
                raise _typed(cloud, error, f"create {order.name} ({offer.type} at {offer.location})") from error
            last = error
            time.sleep(cloud.pause_s * 2**attempt)
            continue
        if made.labels is None:
            raise WorkerError(f"{order.name} was created without the labels it was given; remove it by hand")
        return _running(cloud, made, order, offer)
    if (made := _made(cloud, order)) is not None:
        return _running(cloud, made, order, offer)
    raise _typed(cloud, last, f"create {order.name}") from last


def _made(cloud: Cloud, order: Order) -> Resource | None:
    """The machine of that name if it is this very order's; ForeignError when none of that name is ours."""
    found = asked(cloud, partial(cloud.servers.with_name, order.name))
    _ours(cloud.servers, found)
    return next((each for each in found if each.labels == order.labels and not each.is_leaving), None)


def _running(cloud: Cloud, made: Resource, order: Order, offer: Offer) -> Instance:
    """The machine as soon as it has an address; what finds no room after all is destroyed, and is NoCapacityError."""
    deadline, pause_s = time.monotonic() + _ADDRESS_WITHIN_S, cloud.pause_s
    ask = partial(asked, cloud, telling=(ErrorKind.GONE, ErrorKind.NO_CAPACITY))
    try:
        ask(partial(cloud.start, made, order))
        while (why := cloud.failure(made)) is None:
            instance = ask(partial(cloud.instance, made))
            if instance.ip is not None:
                return instance
            if time.monotonic() > deadline:
                raise WorkerError(f"{order.name} has no address after {_ADDRESS_WITHIN_S:.0f} s; it is given up")
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _SLOWEST_PAUSES * cloud.pause_s)
            made = ask(partial(cloud.again, made))
    except WorkerError:
        raise
    except Exception as error:
        why = "it vanished before it ran" if cloud.error_kind(error) is ErrorKind.GONE else cloud.said(error)
    for kind in (cloud.servers, *cloud.remnants):
        _delete(cloud, kind, order.name)
    raise _no_capacity(offer, why)


def _supplied(cloud: Cloud, supply: Supply, order: Order, offer: Offer) -> Resource:
    """This order's key or firewall; what an earlier life left under the name is replaced."""

    def have() -> Resource:
        found, place = supply.kind.with_name(order.name), supply.place(offer)
        mine = next((each for each in found if each.labels == order.labels and each.place == place), None)
        if mine is None:
            _delete(cloud, supply.kind, order.name, keep=order.labels)
            mine = supply.make(order, offer)
        supply.complete(mine, order)
        return mine

    try:
        return asked(cloud, have, also=ErrorKind.TAKEN, telling=(ErrorKind.NO_CAPACITY,) if supply.place(offer) else ())
    except WorkerError:
        raise
    except Exception as error:
        # A quota of this place alone.
        raise _no_capacity(offer, cloud.said(error)) from error


def _destroy(cloud: Cloud, name: str, within_s: float = GONE_WITHIN_S) -> None:
    """The machine first: a firewall in use cannot be deleted."""
    deadline = time.monotonic() + within_s
    for kind in (cloud.servers, *_kinds_beside(cloud)):
        _delete(cloud, kind, name, deadline=deadline)


def _delete(cloud: Cloud, kind: Kind, name: str, keep: Labels | None = None, *, deadline: float | None = None) -> None:
    """Delete what bears that name and our label, but for what carries just the labels to `keep`."""
    deadline = time.monotonic() + GONE_WITHIN_S if deadline is None else deadline
    what = f"list the {kind.what}s named {name}"
    for thing in _ours(kind, asked(cloud, partial(kind.with_name, name), what=what, deadline=deadline)):
        if keep is None or thing.labels != keep:
            _delete_one(cloud, kind, thing, deadline)


def _delete_one(cloud: Cloud, kind: Kind, thing: Resource, deadline: float) -> None:
    """Delete it until the provider does not know it any longer; raises WorkerError at the deadline."""
    what = f"delete the {kind.what} {thing.name}"
    ask = partial(asked, cloud, also=ErrorKind.BUSY, telling=(ErrorKind.GONE,), what=what, deadline=deadline)
    pause_s = cloud.pause_s
    try:
        while True:
            ask(partial(kind.delete, thing))
            if not ask(partial(kind.is_there, thing)):
                return
            if time.monotonic() + pause_s > deadline:
                raise WorkerError(
                    f"{cloud.title} still has the {kind.what} {thing.name} (id {thing.id}) after its deletion"
                )
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _SLOWEST_PAUSES * cloud.pause_s)
    except WorkerError:
        raise
    except Exception as error:
        if cloud.error_kind(error) is not ErrorKind.GONE:
            raise


def _instances(cloud: Cloud) -> tuple[Instance, ...]:
    return tuple(asked(cloud, partial(cloud.instance, each)) for each, _ in asked(cloud, cloud.servers.labelled))


def _belongings(cloud: Cloud) -> tuple[Belonging, ...]:
    return tuple(
        Belonging(kind.what, each.name, labels)
        for kind in _kinds_beside(cloud)
        for each, labels in asked(cloud, kind.labelled)
    )


def _kinds_beside(cloud: Cloud) -> tuple[Kind, ...]:
    return (*(supply.kind for supply in cloud.supplies), *cloud.remnants)


def _ours(kind: Kind, found: list[Resource]) -> list[Resource]:
    """Those of ours; ForeignError when there are only others."""
    ours = [each for each in found if each.labels is not None]
    if found and not ours:
        raise ForeignError(
            f"the {kind.what} {found[0].name} (id {found[0].id}) bears a worker's name and not our label, and is left "
            "alone; rename or remove it yourself"
        )
    return ours


def _no_capacity(offer: Offer, why: object) -> NoCapacityError:
    return NoCapacityError(f"{offer.type} at {offer.location} is not available: {why}")


def _typed(cloud: Cloud, error: Exception | None, what: str) -> WorkerError:
    said = cloud.said(error) if error else "no answer"
    if error is not None and cloud.error_kind(error) is ErrorKind.REFUSED:
        return RefusedError(f"{cloud.title} did not {what}: {said}; check {cloud.credentials}")
    return WorkerError(f"{cloud.title} did not {what}: {said}{TRY_LATER}")
