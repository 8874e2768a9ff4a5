"""The loopback archive, misbehaving on demand as an archive or a network between may."""

import gzip
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

from dataflows.source.release import Month
from ops.demo.archive_answers import Answer
from ops.demo.archive_server import ArchiveHandler, ArchiveServer

HTML_PAGE = b"<!DOCTYPE html><html><body>The service is unavailable.</body></html>"
ENDLESS_LIMIT_BYTES = 1 << 30
"""The size at which an endless body ends, so that a test that never stops reading does not fill the machine."""


@dataclass(frozen=True)
class Fault:
    """One misbehaviour; several fields may be set together.

    `method` limits it to requests of that method (`HEAD`, `GET`); others pass untouched and leave it queued.
    """

    status: int | None = None
    """Answer this status without a body: 500, 503, 429, 405."""
    retry_after: str | None = None
    html: bool = False
    """Answer 200 with an HTML page."""
    redirect_to: str | None = None
    truncate_after_bytes: int | None = None
    """Close the connection after this much of the body."""
    content_length: int | None = None
    """Claim this length; the body stays what it is, and the connection closes after it."""
    drip_bytes_per_s: int | None = None
    endless: bool = False
    """No length, and zeros without end after the body."""
    etag: str | None = None
    """Send this ETag; the empty text sends none."""
    gzip: bool = False
    """Send the body with `Content-Encoding: gzip`."""
    ignore_range: bool = False
    """Answer 200 with the whole file, whatever range was asked for."""
    last_modified: str | None = None
    """Send this Last-Modified; the empty text sends none."""
    content_encoding: str | None = None
    """Send this Content-Encoding; the body stays what it is."""
    refuse_range: int | None = None
    """Answer a request with Range with this status, as some firewalls do."""
    body: bytes | None = None
    """Send these bytes as the file's body, with the length they have."""
    method: str | None = None


class FaultyHandler(ArchiveHandler):
    fault: Fault | None = None

    def answer(self) -> Answer:
        self.fault = self.server.archive.take_fault(self.path, self.command)
        if self.fault is None:
            return super().answer()
        if self.fault.ignore_range and "Range" in self.headers:
            del self.headers["Range"]
        if self.fault.refuse_range is not None and "Range" in self.headers:
            return Answer(self.fault.refuse_range, {"Content-Length": "0"})
        return _spoiled(super().answer(), self.fault)

    def body(self, answer: Answer) -> Iterator[bytes]:
        chunks, fault = super().body(answer), self.fault
        if fault is None:
            return chunks
        if fault.content_length is not None or fault.truncate_after_bytes is not None or fault.endless:
            self.close_connection = True
        if fault.endless:
            chunks = _endless(chunks)
        if fault.truncate_after_bytes is not None:
            chunks = _cut(chunks, fault.truncate_after_bytes)
        if fault.drip_bytes_per_s is not None:
            chunks = _dripping(chunks, fault.drip_bytes_per_s, self.server.archive.closing)
        return chunks


class FaultyArchive(ArchiveServer):
    """An archive server with injectable faults per path, once or permanent."""

    handler = FaultyHandler

    def __init__(self, dataset: str = "psd_alldata") -> None:
        super().__init__(dataset)
        self._faults: dict[str, list[tuple[Fault, int | None]]] = defaultdict(list)
        self._faults_lock = threading.Lock()

    def misbehave(self, month: Month | None, fault: Fault, times: int | None = 1) -> None:
        """Queue a fault for the next `times` requests of a month's file; None is for good."""
        with self._faults_lock:
            self._faults[self.path(month)].append((fault, times))

    def behave(self) -> None:
        """Forget every fault that is still queued."""
        with self._faults_lock:
            self._faults.clear()

    def take_fault(self, path: str, method: str) -> Fault | None:
        with self._faults_lock:
            queue = self._faults[path]
            for place, (fault, times) in enumerate(queue):
                if fault.method in (None, method):
                    if times is not None:
                        queue[place : place + 1] = [(fault, times - 1)] if times > 1 else []
                    return fault
        return None


def _spoiled(answer: Answer, fault: Fault) -> Answer:
    headers = dict(answer.headers)
    if fault.redirect_to is not None:
        return Answer(302, {"Location": fault.redirect_to, "Content-Length": "0"})
    if fault.status is not None:
        retry = {"Retry-After": fault.retry_after} if fault.retry_after else {}
        return Answer(fault.status, {**retry, "Content-Length": "0"})
    sent = {"ETag": fault.etag, "Last-Modified": fault.last_modified, "Content-Encoding": fault.content_encoding}
    for name, value in sent.items():
        if value is not None:
            headers.pop(name, None)
            headers |= {name: value} if value or name == "Content-Encoding" else {}
    if fault.html:
        return Answer(200, {"Content-Type": "text/html", "Content-Length": str(len(HTML_PAGE))}, text=HTML_PAGE)
    if fault.body is not None:
        return Answer(200, headers | {"Content-Length": str(len(fault.body))}, text=fault.body)
    if fault.gzip:
        packed = gzip.compress(b"".join(answer.chunks()), mtime=0)
        described = {"Content-Encoding": "gzip", "Content-Length": str(len(packed))}
        return Answer(answer.status, headers | described, text=packed)
    if fault.content_length is not None:
        headers["Content-Length"] = str(fault.content_length)
    if fault.endless:
        headers.pop("Content-Length", None)
        headers["Connection"] = "close"
    return replace(answer, headers=headers)


def _cut(chunks: Iterator[bytes], left: int) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk[:left]
        left -= len(chunk)
        if left <= 0:
            return


def _endless(chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield from chunks
    zeros = bytes(64 * 1024)
    for _ in range(ENDLESS_LIMIT_BYTES // len(zeros)):
        yield zeros


def _dripping(chunks: Iterator[bytes], bytes_per_s: int, closing: threading.Event) -> Iterator[bytes]:
    step = max(bytes_per_s // 20, 1)
    for chunk in chunks:
        for start in range(0, len(chunk), step):
            if closing.is_set():
                return
            yield chunk[start : start + step]
            time.sleep(step / bytes_per_s)
