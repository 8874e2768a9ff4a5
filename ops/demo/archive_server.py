"""An archive server on loopback that answers like USDA's: the source of the demo, the tests and the benchmarks."""

import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from dataflows.source.release import Month
from ops.demo.archive_answers import Answer, PostedFile, answer_to

IDLE_TIMEOUT_S = 30
"""Idle timeout of a keep-alive connection."""
SETTLE_TIMEOUT_S = 5


@dataclass(frozen=True)
class Request:
    """An answered request; `body_bytes` counts the sent bytes without headers."""

    method: str
    path: str
    headers: Mapping[str, str]
    status: int
    body_bytes: int


def _etag_of(content: bytes | Path) -> str:
    whole = content.read_bytes() if isinstance(content, Path) else content
    return f'"{hashlib.sha256(whole).hexdigest()[:20]}:0"'


class ArchiveHandler(BaseHTTPRequestHandler):
    """One connection; subclasses may change `answer` and `body`."""

    protocol_version = "HTTP/1.1"
    server_version = "Microsoft-IIS/10.0"
    sys_version = ""
    timeout = IDLE_TIMEOUT_S
    disable_nagle_algorithm = True  # headers and body are two writes; Nagle's algorithm would delay the second by 40 ms
    server: "_Listener"

    def do_GET(self) -> None:
        self._respond()

    def do_HEAD(self) -> None:
        self._respond()

    def answer(self) -> Answer:
        return answer_to(self.server.archive.find(self.path), self.command, self.headers)

    def body(self, answer: Answer) -> Iterator[bytes]:
        return answer.chunks()

    def _respond(self) -> None:
        archive = self.server.archive
        status, sent = 0, 0
        with archive.in_flight():
            try:
                answer = self.answer()
                status = int(answer.status)
                self.send_response(status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                for chunk in self.body(answer) if self.command == "GET" else ():
                    self.wfile.write(chunk)
                    sent += len(chunk)
            except (ConnectionError, TimeoutError):
                self.close_connection = True  # the client went away, as clients may
            finally:
                archive.record(Request(self.command, self.path, dict(self.headers), status, sent))

    def log_message(self, format: str, *args: object) -> None:
        """Requests are recorded, not printed."""


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    archive: "ArchiveServer"


class ArchiveServer(AbstractContextManager):
    """The archive of one dataset, empty at first, on a free port of 127.0.0.1 while the context lasts."""

    handler: type[ArchiveHandler] = ArchiveHandler

    def __init__(self, dataset: str = "psd_alldata") -> None:
        self.dataset = dataset
        self._files: dict[str, PostedFile] = {}
        self._requests: list[Request] = []
        self._in_flight = 0
        self._settled = threading.Condition()
        self.closing = threading.Event()
        self._listener = _Listener(("127.0.0.1", 0), self.handler)
        self._listener.archive = self
        self._thread = threading.Thread(
            target=self._listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )

    @property
    def url(self) -> str:
        """The value for PSD_ARCHIVE_URL."""
        return f"http://127.0.0.1:{self._listener.server_port}"

    @property
    def live_url(self) -> str:
        """The value for PSD_LIVE_URL."""
        return f"{self.url}/{{dataset}}_csv.zip"

    def path(self, month: Month | None, dataset: str | None = None) -> str:
        """The path of a month's file; None means the current file."""
        folder = f"/{month.year}/{month.month:02d}" if month else ""
        return f"{folder}/{dataset or self.dataset}_csv.zip"

    def post(
        self,
        month: Month | None,
        content: bytes | Path,
        last_modified: datetime,
        etag: str | None = None,
        dataset: str | None = None,
    ) -> str:
        """Add or replace a month's file, or the current file for None; returns its URL.

        Without an `etag` the content's digest is one.
        """
        size_bytes = content.stat().st_size if isinstance(content, Path) else len(content)
        moment = format_datetime(last_modified.astimezone(UTC), usegmt=True)
        path = self.path(month, dataset)
        self._files[path] = PostedFile(content, size_bytes, moment, etag or _etag_of(content))
        return self.url + path

    def remove(self, month: Month | None, dataset: str | None = None) -> None:
        """Remove a month's file; requests for it then get 404."""
        self._files.pop(self.path(month, dataset), None)

    def find(self, path: str) -> PostedFile | None:
        return self._files.get(path.partition("?")[0])

    @property
    def requests(self) -> tuple[Request, ...]:
        """All answered requests; waits, with a timeout, for those in progress."""
        with self._settled:
            self._settled.wait_for(lambda: self._in_flight == 0, timeout=SETTLE_TIMEOUT_S)
            return tuple(self._requests)

    def forget_requests(self) -> None:
        with self._settled:
            self._requests.clear()

    def record(self, request: Request) -> None:
        with self._settled:
            self._requests.append(request)

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        with self._settled:
            self._in_flight += 1
        try:
            yield
        finally:
            with self._settled:
                self._in_flight -= 1
                self._settled.notify_all()

    def close(self) -> None:
        self.closing.set()
        self._listener.shutdown()
        self._listener.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
