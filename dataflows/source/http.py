"""HTTP client with retries and a hard deadline per request.

Transient failures (connection errors, 408, 425, 429, 5xx) are retried with backoff and jitter, everything else is not.
httpx limits each wait for bytes, but not the whole request. So each request has a connection of its own, which is shut
down at the deadline or by `stop`.
"""

import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception, sleep_using_event, stop_after_attempt

from dataflows.errors import ArchiveError
from dataflows.source.release import USER_AGENT

_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
_MAX_REDIRECTS = 3
_MAX_CONNECTIONS = 8

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


class Stopped(KeyboardInterrupt):
    """Raised in every thread that uses the client after another thread called `stop`."""


class HttpClient:
    """HTTP client with retries and deadlines. Safe for several threads; close it when done."""

    def __init__(
        self, retry_policy: RetryPolicy, user_agent: str = USER_AGENT, setting: str = "PSD_ARCHIVE_URL"
    ) -> None:
        self.retry_policy = retry_policy
        self.setting = setting
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
        """Call `attempt` until it succeeds; raise ArchiveError for a permanent failure or after the last attempt."""
        attempts = self.retry_policy.attempts
        retrying = Retrying(
            retry=retry_if_exception(_may_pass),
            stop=stop_after_attempt(attempts),
            wait=self._pause_s,
            sleep=sleep_using_event(self._stopped),
            reraise=True,
        )
        try:
            return retrying(attempt)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason, next_step = str(error) or type(error).__name__, f"check {self.setting}"
            if _may_pass(error):
                reason = f"{reason}, {attempts} times in a row"
                next_step = f"try again later, or set {self.setting} if the archive moved"
            raise ArchiveError(f"{reason} ({url}); {next_step}") from error

    @contextmanager
    def open_response(
        self, method: str, url: str, headers: dict[str, str], within_s: float
    ) -> Iterator[httpx.Response]:
        """Yield one response, after redirects within the host; its body must be read within `within_s`.

        Raises httpx.HTTPError for a failure that may pass (see `retry`), else ArchiveError. The status of a HEAD is
        never an error: servers refuse HEAD with any status, and the GET that follows shows the real one.
        """
        with self._cut_at_deadline(url, within_s) as trace:
            request = self._client.build_request(method, url, headers=headers, extensions={"trace": trace})
            for _ in range(_MAX_REDIRECTS + 1):
                with closing(self._client.send(request, stream=True)) as response:
                    if response.status_code in _TRANSIENT and method != "HEAD":
                        raise httpx.HTTPStatusError(f"HTTP {response.status_code}", request=request, response=response)
                    if response.next_request is None:
                        yield response
                        return
                    _check_redirect(request.url, response.next_request.url, url, self.setting)
                    request = response.next_request
        raise ArchiveError(f"redirected more than {_MAX_REDIRECTS} times ({url}); check {self.setting}")

    @contextmanager
    def _cut_at_deadline(self, url: str, within_s: float) -> Iterator[Callable[[str, Any], None]]:
        """Cut the enclosed request at its deadline or when the client is stopped; yield httpx's trace callback."""
        connection, failure = _Connection(), None
        timer = threading.Timer(max(within_s, 0), connection.cut)
        timer.daemon = True
        self._connections.add(connection)
        timer.start()
        try:
            if not self._stopped.is_set():
                yield connection.note
        except httpx.HTTPError as error:
            failure = error
        finally:
            timer.cancel()
            self._connections.discard(connection)
            connection.close()
        if self._stopped.is_set():
            raise Stopped from failure
        # Also without a failure: a body without Content-Length looks complete when the connection was cut.
        if connection.was_cut:
            raise ArchiveError(f"took longer than {within_s:,.0f} s ({url}); try again later") from failure
        if failure is not None:
            raise failure

    def _pause_s(self, state: RetryCallState) -> float:
        failure = state.outcome and state.outcome.exception()
        retry_after_s = _retry_after_s(failure.response) if isinstance(failure, httpx.HTTPStatusError) else None
        return self.retry_policy.pause_s(state.attempt_number - 1, retry_after_s)


class _Connection:
    """The sockets of one request; other threads can cut them."""

    def __init__(self) -> None:
        self.was_cut = False
        self._sockets: list[socket.socket] = []

    def note(self, event: str, info: Any) -> None:
        """httpx calls this with each trace event; only the connect event matters."""
        if event == "connection.connect_tcp.complete":
            # A duplicate handle: TLS detaches the first one.
            self._sockets.append(info["return_value"].get_extra_info("socket").dup())
            if self.was_cut:
                self.cut()

    def cut(self) -> None:
        """Shut the sockets down; a pending read ends at once."""
        self.was_cut = True
        for each in self._sockets:
            with suppress(OSError):  # the connection has ended already
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for each in self._sockets:
            each.close()


def _may_pass(error: BaseException) -> bool:
    """Whether a failed request may succeed when it is sent again."""
    if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError) or "CERTIFICATE_VERIFY" in str(error):
        return False
    return isinstance(error, httpx.TransportError | httpx.HTTPStatusError)


def _check_redirect(source: httpx.URL, target: httpx.URL, url: str, setting: str) -> None:
    """Raise ArchiveError unless a redirect stays on its host and port, or goes to its https port."""
    safe = ((source.scheme, source.port), ("https", source.port), ("https", None))
    if target.host != source.host or (target.scheme, target.port) not in safe:
        raise ArchiveError(
            f"redirected to {target}, another host or port or a less safe scheme ({url}); "
            f"if the archive moved, set {setting}"
        )


def _retry_after_s(response: httpx.Response) -> float | None:
    """Seconds from the `Retry-After` header; None when it is absent or contains a date, which is rare."""
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() else None
