"""The archive's answers to requests, like those of USDA's server (RFC 9110)."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

CHUNK_BYTES = 256 * 1024
CONTENT_TYPE = "application/x-zip-compressed"
NOT_POSTED = b"<html><body><h1>404 - File or directory not found.</h1></body></html>"


@dataclass(frozen=True)
class PostedFile:
    """One file of the archive."""

    content: bytes | Path = field(repr=False)
    size_bytes: int
    last_modified: str
    etag: str

    def open(self) -> BinaryIO:
        return self.content.open("rb") if isinstance(self.content, Path) else io.BytesIO(self.content)


@dataclass(frozen=True)
class Answer:
    """The body of an answer: bytes `start` to `stop` of `file`, or `text`."""

    status: int
    headers: Mapping[str, str]
    file: PostedFile | None = None
    start: int = 0
    stop: int = 0
    text: bytes = b""

    def chunks(self) -> Iterator[bytes]:
        if self.file is None:
            yield self.text
            return
        with self.file.open() as content:
            content.seek(self.start)
            left = self.stop - self.start
            while left > 0 and (chunk := content.read(min(CHUNK_BYTES, left))):
                left -= len(chunk)
                yield chunk


def answer_to(file: PostedFile | None, method: str, headers: Message) -> Answer:
    """The correct answer: 200, 206, 304, 404 or 416 (RFC 9110; single ranges, for GET only)."""
    if file is None:
        described = {"Content-Type": "text/html", "Content-Length": str(len(NOT_POSTED))}
        return Answer(HTTPStatus.NOT_FOUND, described, text=NOT_POSTED)
    described = {
        "Content-Type": CONTENT_TYPE,
        "Last-Modified": file.last_modified,
        "ETag": file.etag,
        "Accept-Ranges": "bytes",
    }
    if _is_known(file.etag, headers.get("If-None-Match")):
        return Answer(HTTPStatus.NOT_MODIFIED, described)
    span = _span(headers.get("Range"), file.size_bytes) if method == "GET" else None
    if span is None or not _range_applies(file, headers.get("If-Range")):
        described["Content-Length"] = str(file.size_bytes)
        return Answer(HTTPStatus.OK, described, file, 0, file.size_bytes)
    start, stop = span
    if start >= stop:
        described |= {"Content-Range": f"bytes */{file.size_bytes}", "Content-Length": "0"}
        return Answer(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, described)
    described["Content-Range"] = f"bytes {start}-{stop - 1}/{file.size_bytes}"
    described["Content-Length"] = str(stop - start)
    return Answer(HTTPStatus.PARTIAL_CONTENT, described, file, start, stop)


def _is_known(etag: str, if_none_match: str | None) -> bool:
    known = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    return "*" in known or etag.removeprefix("W/") in known


def _range_applies(file: PostedFile, if_range: str | None) -> bool:
    """Whether a range may be answered; never for a weak tag, because weakly equal files may differ in bytes."""
    if if_range is None:
        return True
    return if_range == file.last_modified or (if_range == file.etag and not if_range.startswith("W/"))


def _span(header: str | None, size: int) -> tuple[int, int] | None:
    """The half-open span of a single `bytes=` range, empty if it is outside the file; None for anything else."""
    first, dash, last = (header or "").removeprefix("bytes=").strip().partition("-")
    well_formed = (header or "").startswith("bytes=") and dash
    if not (well_formed and (first + last).isdigit() and (first + last).isascii()):
        return None
    if not first:
        return max(size - int(last), 0), size
    stop = min(int(last) + 1, size) if last else size
    return None if last and int(last) < int(first) else (int(first), stop)
