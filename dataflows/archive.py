"""USDA's archive: is a release posted, is it a zip, and its bytes, whatever the line does.

No public record of the archive's ETags exists, so any form and none are expected.
"""

import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx

from dataflows.errors import ArchiveError
from dataflows.files import disk_trouble, require_space, write_durably
from dataflows.line import Line, Patience, Transient
from dataflows.release import Release

MAX_ZIP_BYTES = 1 << 30
"""Sixty times the largest release known; an answer longer than that is not one."""

_NOT_POSTED = (404, 410)
_NO_HEAD = (405, 501)
_ZIP_START = b"PK\x03\x04"


@dataclass(frozen=True)
class Probe:
    """What the archive says of a release without sending it."""

    release: Release
    posted: bool
    reason: str
    """Why it counts as posted or not, for a person."""
    etag: str | None = None
    last_modified: str | None = None
    size_bytes: int | None = None


@dataclass(frozen=True)
class Download:
    """A finished download and what the archive said of it."""

    path: Path
    size_bytes: int
    etag: str | None
    last_modified: str | None


@dataclass(frozen=True)
class Validators:
    """What ties the bytes of a broken download to the file they came from."""

    url: str
    etag: str | None
    last_modified: str | None

    @property
    def if_range(self) -> str | None:
        """A value for `If-Range`: a strong ETag, else the date, else nothing (RFC 9110, 13.1.5)."""
        if self.etag is None:
            return self.last_modified
        return self.etag if self.etag.isascii() and not self.etag.startswith("W/") else None


@dataclass(frozen=True)
class _Extent:
    """Where in the file an answer starts, and how long the file is."""

    start_bytes: int
    total_bytes: int | None


@dataclass
class Archive:
    """A client of one archive. Safe for several threads; close it when done."""

    patience: Patience = field(default_factory=Patience)
    progress: Callable[[int, int | None], None] = lambda received_bytes, total_bytes: None
    """Called while a download runs, with the bytes so far and the whole size where it is known."""

    def __post_init__(self) -> None:
        self._line = Line(self.patience)

    def close(self) -> None:
        self._line.close()

    def stop(self) -> None:
        """Interrupt what other threads ask of this archive; there it raises `line.Stopped`."""
        self._line.stop()

    def probe(self, release: Release) -> Probe:
        """Ask for the headers only. Raises ArchiveError when the archive can't be asked."""
        return self._line.patiently(release.url, lambda: self._probe(release))

    def is_zip(self, release: Release) -> bool:
        """Look at the first bytes: an error page sent as 200 is not a release."""
        return self._line.patiently(release.url, lambda: self._starts_like_a_zip(release.url))

    def download(self, release: Release, path: Path) -> Download:
        """Fetch a release to `path`, going on from what a broken attempt, or a killed run, left there.

        Raises ArchiveError, and DiskSpaceError or LandingError for the disk; then what was received so far stays
        for the next try, unless it is known to be worthless.
        """
        deadline = time.monotonic() + self.patience.download_s
        return self._line.patiently(release.url, lambda: self._download(release.url, path, deadline))

    def _probe(self, release: Release) -> Probe:
        with self._line.answer("HEAD", release.url, {}, self.patience.question_s) as response:
            if response.status_code not in _NO_HEAD:
                return _judge(release, response)
        # A server that knows no HEAD: ask for the file, read the headers and hang up.
        with self._line.answer("GET", release.url, {}, self.patience.question_s) as response:
            return _judge(release, response)

    def _starts_like_a_zip(self, url: str) -> bool:
        headers = {"Range": f"bytes=0-{len(_ZIP_START) - 1}"}
        with self._line.answer("GET", url, headers, self.patience.question_s) as response:
            if response.status_code in (*_NOT_POSTED, 416):
                return False
            _require_body(url, response)
            return next(response.iter_raw(len(_ZIP_START)), b"") == _ZIP_START

    def _download(self, url: str, path: Path, deadline: float) -> Download:
        have_bytes, held = _resumable(path, url)
        headers = {"Range": f"bytes={have_bytes}-", "If-Range": held.if_range or ""} if held else {}
        with self._line.answer("GET", url, headers, deadline - time.monotonic()) as response:
            if held and _is_unfit(response, have_bytes, held):
                path.unlink()
                raise Transient("the archive's file is another than the one that was begun")
            _require_body(url, response)
            extent = _extent(response, have_bytes, url)
            _require_size(extent.total_bytes or 0, url)
            if extent.start_bytes == 0 or held is None:
                held = Validators(url, response.headers.get("ETag"), response.headers.get("Last-Modified"))
                _begin(path, held)
            rest_bytes = (extent.total_bytes or 0) - extent.start_bytes
            require_space(path.parent, rest_bytes + (64 << 20), f"downloading {url}")
            self._receive(response, path, extent)
        size_bytes = path.stat().st_size
        if extent.total_bytes not in (None, size_bytes):
            raise Transient(f"the connection ended after {size_bytes} of {extent.total_bytes} bytes")
        _validators_path(path).unlink(missing_ok=True)
        return Download(path, size_bytes, held.etag, held.last_modified)

    def _receive(self, response: httpx.Response, path: Path, extent: _Extent) -> None:
        received_bytes = extent.start_bytes
        with disk_trouble(path), path.open("ab") as target:
            # No chunk size: httpx would hold bytes back until it is reached, and a drip would look like silence.
            for chunk in response.iter_raw():
                target.write(chunk)
                received_bytes += len(chunk)
                self.progress(received_bytes, extent.total_bytes)
                if received_bytes > MAX_ZIP_BYTES:
                    path.unlink()
                    _validators_path(path).unlink()
                    _require_size(received_bytes, str(response.url))


def _judge(release: Release, response: httpx.Response) -> Probe:
    status = response.status_code
    if status in _NOT_POSTED:
        return Probe(release, posted=False, reason=f"not posted (HTTP {status})")
    if status != 200:
        raise ArchiveError(f"{release.url} answered HTTP {status}; check PSD_ARCHIVE_URL and PSD_DATASET")
    if response.headers.get("Content-Type", "").lower().startswith("text/"):
        return Probe(release, posted=False, reason="not posted (a web page in its place)")
    return Probe(
        release,
        posted=True,
        reason="posted",
        etag=response.headers.get("ETag"),
        last_modified=response.headers.get("Last-Modified"),
        size_bytes=_length(response),
    )


def _require_body(url: str, response: httpx.Response) -> None:
    """Raise ArchiveError unless the answer carries the file's own bytes."""
    if response.status_code not in (200, 206):
        raise ArchiveError(f"{url} answered HTTP {response.status_code}; check PSD_ARCHIVE_URL and PSD_DATASET")
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise ArchiveError(f"{url} was sent with Content-Encoding {encoding} although none was asked for")


def _require_size(size_bytes: int, url: str) -> None:
    if size_bytes > MAX_ZIP_BYTES:
        raise ArchiveError(f"{url} sends more than {MAX_ZIP_BYTES >> 20} MiB; that is no PSD release")


def _length(response: httpx.Response) -> int | None:
    # httpx has refused any Content-Length that is not a number.
    length = response.headers.get("Content-Length")
    return None if length is None else int(length)


def _validators_path(path: Path) -> Path:
    return path.with_name(path.name + ".validators")


def _begin(path: Path, validators: Validators) -> None:
    """Start a download afresh: first without old bytes, lest they pass for the new file's when this is killed."""
    with disk_trouble(path):
        path.unlink(missing_ok=True)
        write_durably(_validators_path(path), json.dumps(asdict(validators)))
        path.touch()


def _resumable(path: Path, url: str) -> tuple[int, Validators | None]:
    """How many bytes of `url` lie at `path`, and of which version of it; no version means: begin afresh."""
    try:
        held = Validators(**json.loads(_validators_path(path).read_text()))
        have_bytes = path.stat().st_size
    except (FileNotFoundError, ValueError, TypeError):
        return 0, None
    return (have_bytes, held) if have_bytes and held.url == url and held.if_range else (0, None)


def _is_unfit(response: httpx.Response, have_bytes: int, held: Validators) -> bool:
    """Whether the answer to a request for the rest neither continues what is held nor is the whole file."""
    if response.status_code != 206:
        return response.status_code == 416
    continues = response.headers.get("Content-Range", "").startswith(f"bytes {have_bytes}-")
    return not continues or response.headers.get("ETag", held.etag) != held.etag


def _extent(response: httpx.Response, have_bytes: int, url: str) -> _Extent:
    if response.status_code == 200:
        return _Extent(0, _length(response))
    content_range = response.headers.get("Content-Range", "")
    total = content_range.rpartition("/")[2]
    named = content_range.startswith(f"bytes {have_bytes}-") and re.fullmatch("[0-9]{1,19}", total)
    if not named:
        raise ArchiveError(f"{url} answered a request from byte {have_bytes} on with {content_range!r}")
    return _Extent(have_bytes, int(total))
