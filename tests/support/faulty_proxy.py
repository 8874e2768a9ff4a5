"""A proxy on loopback between a client and the object server: counts requests, and breaks them on demand."""

import http.client
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

_CHUNK_BYTES = 1 << 16
_TIMEOUT_S = 60
_HELD_TIMEOUT_S = 60


@dataclass(frozen=True)
class Seen:
    """A request that came by; `path` with its query."""

    method: str
    path: str
    body_bytes: int


@dataclass
class Fault:
    """One misbehaviour, for the next `times` requests that match; None is for good."""

    method: str | None = None
    path: str = ""
    """Only requests whose path, with the query, holds this."""
    times: int | None = 1
    skip: int = 0
    """So many matching requests pass unharmed first."""
    status: int | None = None
    """Answer this status with an S3 error of code `code`; the server does not get the request."""
    code: str = "SlowDown"
    page: bytes | None = None
    """Answer these bytes instead, with `status` (200 unless it is given) and `headers`."""
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "text/html"})
    cut_request_after_bytes: int | None = None
    """Hang up on both sides after this much of the request's body."""
    cut_answer_after_bytes: int | None = None
    """Hang up after this much of the answer's body."""
    lose_answer: bool = False
    """Let the server do it and hang up instead of answering."""
    hold: bool = False
    """Say `held`, and do nothing until released."""
    held: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)


class FaultyProxy:
    """Forwards to `target`; in a `with` statement."""

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target).netloc
        self.seen: list[Seen] = []
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._server = _Listener(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for fault in self._faults:
            fault.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def misbehave(self, fault: Fault) -> Fault:
        with self._lock:
            self._faults.append(fault)
        return fault

    def behave(self) -> None:
        """Clear all faults and release held requests."""
        with self._lock:
            for fault in self._faults:
                fault.released.set()
                fault.times = 0

    def requests(self, method: str, path: str = "") -> list[Seen]:
        return [seen for seen in self.seen if seen.method == method and path in seen.path]

    def take(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.times == 0 or fault.method not in (None, method) or fault.path not in path:
                    continue
                if fault.skip:
                    fault.skip -= 1
                    continue
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    proxy: FaultyProxy


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _TIMEOUT_S
    disable_nagle_algorithm = True
    server: _Listener

    def _forward(self) -> None:
        proxy = self.server.proxy
        size_bytes = int(self.headers.get("Content-Length", 0))
        fault = proxy.take(self.command, self.path)
        proxy.seen.append(Seen(self.command, self.path, size_bytes))
        try:
            if fault is not None and fault.hold:
                fault.held.set()
                fault.released.wait(_HELD_TIMEOUT_S)
            if fault is not None and (fault.status is not None or fault.page is not None):
                self._refuse(fault, size_bytes)
                return
            self._pass_on(fault, size_bytes)
        except (OSError, http.client.HTTPException):
            self.close_connection = True  # one of the two sides went away, as sides may

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _forward

    def _refuse(self, fault: Fault, size_bytes: int) -> None:
        self.rfile.read(size_bytes)
        error = f"<?xml version='1.0'?><Error><Code>{fault.code}</Code><Message>{fault.code}</Message></Error>"
        body = error.encode() if fault.page is None else fault.page
        self.send_response(fault.status or 200)
        for name, value in ({"Content-Type": "application/xml"} if fault.page is None else fault.headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _pass_on(self, fault: Fault | None, size_bytes: int) -> None:
        connection = http.client.HTTPConnection(self.server.proxy.target, timeout=_TIMEOUT_S)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("expect", "connection"):
                    connection.putheader(name, value)
            connection.endheaders()
            if self._body_is_cut(connection, fault, size_bytes):
                return
            self._answer(connection.getresponse(), fault)
        finally:
            connection.close()

    def _body_is_cut(self, connection: http.client.HTTPConnection, fault: Fault | None, size_bytes: int) -> bool:
        cut = fault.cut_request_after_bytes if fault is not None else None
        limit_bytes = size_bytes + 1 if cut is None else cut
        sent_bytes = 0
        while sent_bytes < size_bytes:
            chunk = self.rfile.read1(min(_CHUNK_BYTES, size_bytes - sent_bytes))
            if not chunk:
                raise ConnectionError("the client hung up")
            connection.send(chunk)
            sent_bytes += len(chunk)
            if sent_bytes >= limit_bytes:
                self.close_connection = True
                return True
        return False

    def _answer(self, answer: http.client.HTTPResponse, fault: Fault | None) -> None:
        if fault is not None and fault.lose_answer:
            answer.read()
            self.close_connection = True
            return
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        whole = answer.read() if answer.getheader("Content-Length") is None and self.command != "HEAD" else None
        if whole is not None:
            self.send_header("Content-Length", str(len(whole)))
        self.end_headers()
        left = fault.cut_answer_after_bytes if fault is not None else None
        for chunk in [whole] if whole is not None else iter(lambda: answer.read(_CHUNK_BYTES), b""):
            self.wfile.write(chunk if left is None else chunk[:left])
            if left is not None and (left := left - len(chunk)) <= 0:
                self.close_connection = True
                return

    def log_message(self, format: str, *args: object) -> None:
        """Requests are counted, not printed."""
