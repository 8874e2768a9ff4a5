"""HTTP client with retries and a hard deadline per request.

Transient failures (connection errors, 408, 429, 5xx) are retried with backoff and jitter, everything else is not.
httpx limits each wait for bytes but not the whole request, so each request has its own connection, which a timer or
`stop` can cut.
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
class RetryPolicy:
    """Retries and timeouts of the archive client."""

    attempts: int = 5
    first_pause_s: float = 0.5
    longest_pause_s: float = 30.0
    idle_s: float = 30.0
    """Timeout for the next bytes."""
    probe_s: float = 60.0
    """Deadline of one probe request."""
    download_s: float = 3600.0
    """Deadline of a whole download, so that a very slow server cannot block a run."""

    def pause_s(self, attempt: int, retry_after_s: float | None) -> float:
        """Return the jittered pause in seconds after failed attempt number `attempt` (from 0)."""
        backoff_s = self.first_pause_s * 2**attempt * random.uniform(0.5, 1.5)  # noqa: S311
        return min(max(backoff_s, retry_after_s or 0.0), self.longest_pause_s)


class Transient(Exception):
    """A failure that may pass; the request is retried."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Stopped(KeyboardInterrupt):
    """Raised in every thread that uses the client after another thread called `stop`."""


class HttpClient:
    """HTTP client with retries and deadlines. Safe for several threads; close it when done."""

    def __init__(self, retry_policy: RetryPolicy, user_agent: str = USER_AGENT) -> None:
        self.retry_policy = retry_policy
        self._client = httpx.Client(
            timeout=httpx.Timeout(retry_policy.idle_s),
            headers={"Accept-Encoding": "identity", "User-Agent": user_agent},
            limits=httpx.Limits(max_connections=_MAX_CONNECTIONS, max_keepalive_connections=0),
        )
        self._connections: set[_Connection] = set()
        self._stopped = threading.Event()

    def close(self) -> None:
        self._client.close()

    def stop(self) -> None:
        """Cancel every request and pause at once; these and all later ones raise Stopped."""
        self._stopped.set()
        for connection in tuple(self._connections):
            connection.cut()

    def retry(self, url: str, attempt: Callable[[], _T]) -> _T:
        """Call `attempt` until it succeeds; raise ArchiveError when it fails for good or attempts run out."""
        for number in range(self.retry_policy.attempts):
            try:
                return attempt()
            except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
                raise ArchiveError(f"{error} ({url}); check PSD_ARCHIVE_URL") from error
            except (Transient, httpx.TransportError) as error:
                failure = error
                if _is_certificate_error(error):
                    raise ArchiveError(
                        f"certificate verification failed: {error} ({url}); check PSD_ARCHIVE_URL"
                    ) from error
                if number < self.retry_policy.attempts - 1:
                    pause_s = self.retry_policy.pause_s(number, getattr(error, "retry_after_s", None))
                    if self._stopped.wait(pause_s):
                        raise Stopped from error
        reason = str(failure) or type(failure).__name__
        raise ArchiveError(
            f"{reason}, {self.retry_policy.attempts} times in a row ({url}); try again later, "
            "or set PSD_ARCHIVE_URL if the archive moved"
        ) from failure

    @contextmanager
    def open_response(
        self, method: str, url: str, headers: dict[str, str], within_s: float
    ) -> Iterator[httpx.Response]:
        """Yield one response, after redirects within the host; its body must be read within `within_s`.

        Raises Transient and httpx.TransportError for what may pass (see `retry`), else ArchiveError. HEAD raises
        no Transient: servers refuse HEAD with any status, and the GET that follows shows the real one.
        """
        current_url, deadline = url, time.monotonic() + within_s
        for _ in range(_MAX_REDIRECTS + 1):
            with (
                self._cut_at_deadline(url, within_s, deadline) as trace,
                self._client.stream(method, current_url, headers=headers, extensions={"trace": trace}) as response,
            ):
                if response.status_code in _TRANSIENT and method != "HEAD":
                    raise Transient(f"HTTP {response.status_code}", _retry_after_s(response))
                if not response.has_redirect_location:
                    yield response
                    return
                current_url = _resolve_redirect(url, current_url, response.headers["Location"])
        raise ArchiveError(f"{url} redirects more than {_MAX_REDIRECTS} times")

    @contextmanager
    def _cut_at_deadline(self, url: str, within_s: float, deadline: float) -> Iterator[Callable[[str, Any], None]]:
        """Cut the enclosed request at its deadline; yield the trace callback for httpx."""
        connection = _Connection()
        timer = threading.Timer(max(deadline - time.monotonic(), 0), connection.cut)
        timer.daemon = True
        self._connections.add(connection)
        timer.start()
        try:
            if self._stopped.is_set():
                raise Stopped
            try:
                yield connection.note
            except httpx.TransportError as error:
                self._explain_cut(connection, url, within_s, error)
                raise
            # A body without Content-Length looks complete when the connection was cut.
            self._explain_cut(connection, url, within_s)
        finally:
            timer.cancel()
            self._connections.discard(connection)
            connection.close()

    def _explain_cut(
        self, connection: "_Connection", url: str, within_s: float, error: Exception | None = None
    ) -> None:
        if self._stopped.is_set():
            raise Stopped from error
        if connection.was_cut:
            raise ArchiveError(f"{url} took longer than {within_s:,.0f} s; try again later") from error


class _Connection:
    """The connection of one request; other threads can cut it."""

    def __init__(self) -> None:
        self.was_cut = False
        self._socket: socket.socket | None = None

    def note(self, event: str, info: Any) -> None:
        """httpx calls this with each trace event; only the connect event matters."""
        if event == "connection.connect_tcp.complete":
            # A duplicate handle: TLS detaches the first one.
            self._socket = info["return_value"].get_extra_info("socket").dup()
            if self.was_cut:
                self.cut()

    def cut(self) -> None:
        """Shut the connection down; a pending read ends at once."""
        self.was_cut = True
        if self._socket is not None:
            with suppress(OSError):  # it has ended already
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()


def _resolve_redirect(url: str, current_url: str, location: str) -> str:
    try:
        target_url = urljoin(current_url, location)
        asked, target = urlsplit(url), urlsplit(target_url)
        same_host = target.hostname == asked.hostname
        port, asked_port = target.port or _PORTS.get(target.scheme), asked.port or _PORTS.get(asked.scheme)
    except ValueError as error:
        raise ArchiveError(f"{url} redirects to {location!r}, which is no address") from error
    if not same_host:
        raise ArchiveError(f"{url} redirects to another host, {target_url}; if the archive moved, set PSD_ARCHIVE_URL")
    if target.scheme not in (asked.scheme, "https"):
        raise ArchiveError(f"{url} redirects to {target_url}, which is less safe than {asked.scheme}")
    if port not in (asked_port, _PORTS["https"]):
        raise ArchiveError(f"{url} redirects to another port, {target_url}; if the archive moved, set PSD_ARCHIVE_URL")
    return target_url


def _retry_after_s(response: httpx.Response) -> float | None:
    """Seconds from the `Retry-After` header; None when it is absent or holds a date, which is rare."""
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() else None


def _is_certificate_error(error: BaseException | None) -> bool:
    """Whether a failed certificate check caused an error; a retry does not help."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
