"""What stand-ins for providers' APIs on loopback have in common: a server, faults, and what is held against a contract.

A subclass speaks one provider's dialect. Operations (`create server`) and error codes (Hetzner's words, such as
`resource_unavailable`) mean the same for all of them, so that one test can disturb each.
"""

import json
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Fault:
    """One misbehaviour of one request: an error `code` instead of an answer, or the connection dropped.

    `cut` drops it: `before` nothing was done, `after` what was asked for was done, and nobody is told.
    """

    method: str
    path: str
    """A regular expression that the path matches."""
    code: str | None = None
    cut: str | None = None


@dataclass(frozen=True)
class Asked:
    """A request; the query's values are the first of each name."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw or b"{}")


@dataclass(frozen=True)
class Answer:
    """An answer; without a body where that is None."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


class FakeCloud(ABC):
    """The server; `with` starts it on a free port."""

    OPERATIONS: Mapping[str, tuple[str, str]]
    """The method and path of each operation that a test disturbs."""
    CODES: Mapping[str, Any]
    PREFIX = ""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.exchanges: list[tuple[Asked, Answer]] = []
        self.violations: list[str] = []
        self.creations = 0
        self.lock = threading.RLock()
        self._faults: list[Fault] = []
        self._fault_at: tuple[int, str | None, str | None] | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.fake = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> "Any":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}{self.PREFIX}"

    def misbehave(self, *faults: Fault) -> None:
        with self.lock:
            self._faults.extend(faults)

    def misbehave_at(self, number: int, code: str | None = None, cut: str | None = None) -> None:
        """Misbehave once, at the request after `number` others from now."""
        with self.lock:
            self._fault_at = (len(self.requests) + number + 1, code, cut)

    def behave(self) -> None:
        with self.lock:
            self._faults.clear()
            self._fault_at = None

    def take_fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            if self._fault_at is not None and len(self.requests) == self._fault_at[0]:
                _, code, cut = self._fault_at
                self._fault_at = None
                return Fault(method, path, code, cut)
            for fault in self._faults:
                if fault.method == method and re.fullmatch(fault.path, path):
                    self._faults.remove(fault)
                    return fault
        return None

    def fault(self, operation: str, code: str | None = None, cut: str | None = None) -> Fault:
        """A misbehaviour of an operation, whatever this provider calls it."""
        return Fault(*self.OPERATIONS[operation], code=code, cut=cut)

    @property
    @abstractmethod
    def held(self) -> list[tuple[str, str]]:
        """Kind and id of everything that is there."""

    @abstractmethod
    def foreign(self, name: str, kind: str = "servers") -> Any:
        """Put something there that another person made."""

    @abstractmethod
    def is_known(self, asked: Asked) -> bool:
        """Whether the request has valid credentials."""

    @abstractmethod
    def answer(self, asked: Asked) -> Answer:
        """What the provider answers."""

    @abstractmethod
    def error(self, code: str) -> Answer:
        """How the provider says that something is wrong."""

    @abstractmethod
    def faults_of(self, asked: Asked, answer: Answer | None) -> str | None:
        """How a request, or its answer, differs from the contract."""

    def checked(self, asked: Asked, answer: Answer | None = None) -> None:
        if wrong := self.faults_of(asked, answer):
            arrow = f" -> {answer.status}" if answer else ""
            self.violations.append(f"{asked.method} {asked.path}{arrow}: {wrong}")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body in one packet; two would wait for each other (Nagle).
    wbufsize = 1 << 20

    def log_message(self, *_: object) -> None:
        """The tests' output is not for this."""

    def _serve(self) -> None:
        fake: FakeCloud = self.server.fake
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        asked = Asked(self.command, url.path.removeprefix(fake.PREFIX), query, dict(self.headers), raw)
        fake.requests.append((asked.method, asked.path))
        fake.checked(asked)
        fault = fake.take_fault(asked.method, asked.path)
        if fault is not None and fault.cut == "before":
            return self._cut()
        if not fake.is_known(asked):
            answer = fake.error("unauthorized")
        elif fault is not None and fault.code is not None:
            answer = fake.error(fault.code)
        else:
            with fake.lock:
                answer = fake.answer(asked)
        if fault is not None and fault.cut == "after":
            return self._cut()
        answer = Answer(answer.status, _public(answer.body), answer.headers)
        fake.exchanges.append((asked, answer))
        fake.checked(asked, answer)
        text = b"" if answer.body is None else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.body is not None:
            self.send_header("Content-Type", "application/json")
        if answer.status != 204:
            self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _cut(self) -> None:
        self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve


def _public(answer: Any) -> Any:
    """An answer without what only the fake needs."""
    if isinstance(answer, dict):
        return {name: _public(value) for name, value in answer.items() if not name.startswith("_")}
    return [_public(each) for each in answer] if isinstance(answer, list) else answer


Boots = Callable[[int, Mapping[str, Any], list[str]], str]
"""Starts a server (id, the request, its public keys) and returns its address."""
