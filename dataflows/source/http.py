"""HTTP client with retries and a hard deadline per request.

Transient failures (connection trouble, 408, 429, 5xx) are retried with backoff and jitter, everything else is not.
httpx bounds each wait for bytes but no request as a whole, so each request has a connection of its own, which a
timer, or `stop`, can cut.
"""

import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

import httpx

from dataflows.errors import ArchiveError
from dataflows.source.release import USER_AGENT

_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
_MAX_REDIRECTS = 3
_MAX_CONNECTIONS = 8
_PORTS = {"http": 80, "https": 443}

_T = TypeVar("_T")


@dataclass(frozen=True)
class Patience:
    """How long a caller puts up with a bad line."""

    attempts: int = 5
    first_pause_s: float = 0.5
    longest_pause_s: float = 30.0
    silence_s: float = 30.0
    """The longest wait for the next bytes."""
    question_s: float = 60.0
    """The longest that one question about a release may take."""
    download_s: float = 3600.0
    """The longest a whole download may take, so that a drip does not hold a run for ever."""

    def pause_s(self, attempt: int, retry_after_s: float | None) -> float:
        """How long to wait after failed attempt number `attempt` (from 0), jittered so that clients part."""
        backoff_s = self.first_pause_s * 2**attempt * random.uniform(0.5, 1.5)  # noqa: S311
        return min(max(backoff_s, retry_after_s or 0.0), self.longest_pause_s)


class Transient(Exception):
    """Worth another try."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Stopped(KeyboardInterrupt):
    """Another thread called `stop`: this one is interrupted with it, whatever it was waiting for."""


class Line:
    """An HTTP client with patience. Safe for several threads; close it when done."""

    def __init__(self, patience: Patience, user_agent: str = USER_AGENT) -> None:
        self.patience = patience
        self._client = httpx.Client(
            timeout=httpx.Timeout(patience.silence_s),
            headers={"Accept-Encoding": "identity", "User-Agent": user_agent},
            limits=httpx.Limits(max_connections=_MAX_CONNECTIONS, max_keepalive_connections=0),
        )
        self._cords: set[_Cord] = set()
        self._stopped = threading.Event()

    def close(self) -> None:
        self._client.close()

    def stop(self) -> None:
        """End every request and every pause at once; these, and all later ones, raise Stopped."""
        self._stopped.set()
        for cord in tuple(self._cords):
            cord.cut()

    def patiently(self, url: str, attempt: Callable[[], _T]) -> _T:
        """What `attempt` returns, tried again while that makes sense; raises ArchiveError when it no longer does."""
        for number in range(self.patience.attempts):
            try:
                return attempt()
            except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
                raise ArchiveError(f"{error} ({url}); check PSD_ARCHIVE_URL") from error
            except (Transient, httpx.TransportError) as error:
                failure = error
                if _is_mistrust(error):
                    raise ArchiveError(f"its certificate is not to be trusted: {error} ({url})") from error
                if number < self.patience.attempts - 1:
                    pause_s = self.patience.pause_s(number, getattr(error, "retry_after_s", None))
                    if self._stopped.wait(pause_s):
                        raise Stopped from error
        reason = str(failure) or type(failure).__name__
        raise ArchiveError(
            f"{reason}, {self.patience.attempts} times in a row ({url}); try again later, "
            "or set PSD_ARCHIVE_URL if the archive moved"
        ) from failure

    @contextmanager
    def answer(self, method: str, url: str, headers: dict[str, str], within_s: float) -> Iterator[httpx.Response]:
        """One answer, after redirects within the host; its body must be read within `within_s`.

        Raises Transient and httpx.TransportError for what may pass (see `patiently`), else ArchiveError. HEAD raises
        no Transient: servers refuse it with any status, and the GET that follows tells whether that was meant.
        """
        here, deadline = url, time.monotonic() + within_s
        for _ in range(_MAX_REDIRECTS + 1):
            with (
                self._cuttable(url, within_s, deadline) as trace,
                self._client.stream(method, here, headers=headers, extensions={"trace": trace}) as response,
            ):
                if response.status_code in _TRANSIENT and method != "HEAD":
                    raise Transient(f"HTTP {response.status_code}", _retry_after_s(response))
                if not response.has_redirect_location:
                    yield response
                    return
                here = _redirected(url, here, response.headers["Location"])
        raise ArchiveError(f"{url} redirects more than {_MAX_REDIRECTS} times")

    @contextmanager
    def _cuttable(self, url: str, within_s: float, deadline: float) -> Iterator[Callable[[str, Any], None]]:
        """Cut the request that runs inside at its deadline; yields what httpx is to call when it connects."""
        cord = _Cord()
        timer = threading.Timer(max(deadline - time.monotonic(), 0), cord.cut)
        timer.daemon = True
        self._cords.add(cord)
        timer.start()
        try:
            if self._stopped.is_set():
                raise Stopped
            try:
                yield cord.note
            except httpx.TransportError as error:
                self._explain_cut(cord, url, within_s, error)
                raise
            # A body that only the connection's end delimits looks whole when it was cut.
            self._explain_cut(cord, url, within_s)
        finally:
            timer.cancel()
            self._cords.discard(cord)
            cord.close()

    def _explain_cut(self, cord: "_Cord", url: str, within_s: float, error: Exception | None = None) -> None:
        if self._stopped.is_set():
            raise Stopped from error
        if cord.was_cut:
            raise ArchiveError(f"{url} took longer than {within_s:,.0f} s; try again later") from error


class _Cord:
    """The connection of one request, within reach of other threads."""

    def __init__(self) -> None:
        self.was_cut = False
        self._socket: socket.socket | None = None

    def note(self, event: str, info: Any) -> None:
        """Called by httpx with what it does (its `trace` extension); here the connecting counts."""
        if event == "connection.connect_tcp.complete":
            # A second handle of the same connection: TLS takes the first one away.
            self._socket = info["return_value"].get_extra_info("socket").dup()
            if self.was_cut:
                self.cut()

    def cut(self) -> None:
        """End the connection; whoever reads from it sees its end at once."""
        self.was_cut = True
        if self._socket is not None:
            with suppress(OSError):  # it has ended already
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()


def _redirected(url: str, here: str, location: str) -> str:
    try:
        there = urljoin(here, location)
        asked, target = urlsplit(url), urlsplit(there)
        same_host = target.hostname == asked.hostname
        port, asked_port = target.port or _PORTS.get(target.scheme), asked.port or _PORTS.get(asked.scheme)
    except ValueError as error:
        raise ArchiveError(f"{url} redirects to {location!r}, which is no address") from error
    if not same_host:
        raise ArchiveError(f"{url} redirects to another host, {there}; if the archive moved, set PSD_ARCHIVE_URL")
    if target.scheme not in (asked.scheme, "https"):
        raise ArchiveError(f"{url} redirects to {there}, which is less safe than {asked.scheme}")
    if port not in (asked_port, _PORTS["https"]):
        raise ArchiveError(f"{url} redirects to another port, {there}; if the archive moved, set PSD_ARCHIVE_URL")
    return there


def _retry_after_s(response: httpx.Response) -> float | None:
    """The pause that a server asks for in seconds; a date there, which is rare, counts as no wish."""
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() else None


def _is_mistrust(error: BaseException | None) -> bool:
    """Whether a bad certificate is behind an error; trying again makes it no better."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
