"""Archive client: probe a release, read a part of it, download it.

No public record of the archive's ETags exists, so any form and none are expected. Servers and proxies that refuse
HEAD or Range, or send odd headers, are handled here.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

import httpx

from dataflows.errors import ArchiveError
from dataflows.files import disk_errors, require_space, write_durably
from dataflows.source.http import HttpClient, RetryPolicy
from dataflows.source.release import USER_AGENT, Release

MAX_ZIP_BYTES = 1 << 30
"""Sixty times the largest known release; a longer answer is no release."""

_NOT_POSTED = (404, 410)
_REFUSED = (401, 403)
_NO_RANGE = (400, 401, 403, 405, 406, 416, 501)
"""Answers by which firewalls and servers refuse a Range; the request is repeated without one."""
_NO_ENCODING = ("", "identity", "none", "binary", "utf-8", "utf8")
"""Values of Content-Encoding that servers send for bytes that are not encoded."""
_ZIP_START = b"PK\x03\x04"


class Verdict(StrEnum):
    """The result of a probe."""

    POSTED = "posted"
    NOT_POSTED = "not posted"
    REFUSED = "refused"
    """401 or 403: some servers answer so for a file that is not posted, others block a client."""
    UNKNOWN = "could not be asked"


@dataclass(frozen=True)
class Identity:
    """The headers that may identify a file's version."""

    etag: str | None = None
    last_modified: str | None = None
    size_bytes: int | None = None

    @property
    def if_range(self) -> str | None:
        """A value for `If-Range`: a strong ETag, else the date, else nothing (RFC 9110, 13.1.5)."""
        if self.etag is None:
            return self.last_modified
        return self.etag if self.etag.isascii() and not self.etag.startswith("W/") else None

    def agrees_with(self, other: "Identity") -> bool:
        """Whether two answers of one server are surely about one version: same size, and same date or ETag.

        ETags are compared weakly, without the suffix by which proxies mark what they compressed.
        """
        if None not in (self.size_bytes, other.size_bytes) and self.size_bytes != other.size_bytes:
            return False
        same_date = self.last_modified is not None and self.last_modified == other.last_modified
        return same_date or (self.etag is not None and _weak(self.etag) == _weak(other.etag or ""))


@dataclass(frozen=True)
class Probe:
    """The result of asking for a release without downloading it."""

    release: Release
    verdict: Verdict
    reason: str
    """The reason, as text for the operator."""
    method: str = "HEAD"
    identity: Identity = Identity()
    is_zip: bool | None = None
    """Whether the file starts like a zip; None when its first bytes were not read."""

    @property
    def posted(self) -> bool:
        return self.verdict is Verdict.POSTED


@dataclass(frozen=True)
class Piece:
    """Some bytes of a posted file."""

    start_bytes: int
    data: bytes
    identity: Identity


@dataclass(frozen=True)
class Download:
    """A finished download and the archive's headers for it."""

    path: Path
    size_bytes: int
    etag: str | None
    last_modified: str | None

    @property
    def identity(self) -> Identity:
        return Identity(self.etag, self.last_modified, self.size_bytes)


@dataclass
class Archive:
    """A client of one archive. Safe for several threads; close it when done."""

    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)
    user_agent: str = USER_AGENT
    progress: Callable[[int, int | None], None] = lambda received_bytes, total_bytes: None
    """Called while a download runs, with the bytes so far and the whole size where it is known."""
    setting: str = "PSD_ARCHIVE_URL"
    """The setting that has the address, for the next step of an error."""

    def __post_init__(self) -> None:
        self._http = HttpClient(self.retry_policy, self.user_agent, self.setting)

    def close(self) -> None:
        self._http.close()

    def stop(self) -> None:
        """Cancel the requests of other threads; they raise `http.Stopped`."""
        self._http.stop()

    def probe(self, release: Release, *, by_get: bool = False) -> Probe:
        """Ask whether a release is posted, by HEAD and, where that is refused, by a GET of its first bytes.

        `by_get` skips HEAD. Raises ArchiveError when the archive gives no usable answer.
        """
        return self._http.retry(release.url, lambda: self._probe(release, by_get))

    def sniffed(self, probe: Probe) -> Probe:
        """The same probe after reading the first bytes: an error page with status 200 is not a release."""
        if not probe.posted or probe.is_zip is not None:
            return probe
        piece = self.piece(probe.release, 0, len(_ZIP_START))
        if piece is None:
            return replace(probe, verdict=Verdict.NOT_POSTED, reason="not posted (nothing to GET)")
        return _with_start(probe, piece.data)

    def piece(self, release: Release, start_bytes: int, count: int) -> Piece | None:
        """Read `count` bytes of a posted file from `start_bytes` on; from its beginning where Range is refused.

        None when the file is not posted. Raises ArchiveError.
        """
        return self._http.retry(release.url, lambda: self._piece(release.url, start_bytes, count))

    def download(self, release: Release, path: Path) -> Download:
        """Download a release to `path`; continue a failed attempt or a killed run.

        Raises ArchiveError, and DiskSpaceError or LandingError for the disk. Then the received bytes are kept for the
        next attempt, unless they belong to another version of the file.
        """
        deadline = time.monotonic() + self.retry_policy.download_s
        return self._http.retry(release.url, lambda: self._download(release.url, path, deadline))

    def _probe(self, release: Release, by_get: bool) -> Probe:
        if not by_get:
            with self._http.open_response("HEAD", release.url, {}, self.retry_policy.probe_s) as response:
                if response.status_code in (200, *_NOT_POSTED):
                    return _judge(release, response, "HEAD", self.setting)
        with self._open_range(release.url, 0, len(_ZIP_START)) as response:
            probe = _judge(release, response, "GET", self.setting)
            return _with_start(probe, _first(response, len(_ZIP_START))) if probe.posted else probe

    def _piece(self, url: str, start_bytes: int, count: int) -> Piece | None:
        with self._open_range(url, start_bytes, count) as response:
            if response.status_code in _NOT_POSTED:
                return None
            _require_body(url, response, self.setting)
            start = start_bytes if response.status_code == 206 else 0
            return Piece(start, _first(response, count), _identity(response))

    @contextmanager
    def _open_range(self, url: str, start_bytes: int, count: int) -> Iterator[httpx.Response]:
        """Yield the response to a GET of some bytes or, where the server refuses Range, of the whole file."""
        for headers in ({"Range": f"bytes={start_bytes}-{start_bytes + count - 1}"}, {}):
            with self._http.open_response("GET", url, headers, self.retry_policy.probe_s) as response:
                if not headers or response.status_code not in _NO_RANGE:
                    yield response
                    return

    def _download(self, url: str, path: Path, deadline: float) -> Download:
        have_bytes, held = _resumable(path, url)
        headers = {"Range": f"bytes={have_bytes}-", "If-Range": held.if_range or ""} if held else {}
        with self._http.open_response("GET", url, headers, deadline - time.monotonic()) as response:
            if held and _is_unfit(response, have_bytes, held):
                path.unlink()
                raise httpx.RemoteProtocolError("the server sent no continuation of the partial download")
            _require_body(url, response, self.setting)
            total_bytes = _identity(response).size_bytes
            if response.status_code == 206:
                _require_range(url, response, have_bytes, total_bytes)
            _require_size(total_bytes or 0, url)
            if held is None or response.status_code == 200:
                have_bytes, held = 0, _identity(response)
                _begin(path, url, held)
            require_space(path.parent, (total_bytes or 0) - have_bytes + (64 << 20), f"downloading {url}")
            size_bytes = self._receive(response, path, have_bytes, total_bytes)
        if total_bytes not in (None, size_bytes):
            raise httpx.RemoteProtocolError(f"the connection ended after {size_bytes} of {total_bytes} bytes")
        _validators_path(path).unlink(missing_ok=True)
        return Download(path, size_bytes, held.etag, held.last_modified)

    def _receive(self, response: httpx.Response, path: Path, received_bytes: int, total_bytes: int | None) -> int:
        """Append the body to the file; return the size of the file."""
        with disk_errors(path), path.open("ab") as target:
            # No chunk size: httpx would hold bytes back until it is reached, and a slow server would look silent.
            for chunk in response.iter_raw():
                target.write(chunk)
                received_bytes += len(chunk)
                self.progress(received_bytes, total_bytes)
                if received_bytes > MAX_ZIP_BYTES:
                    path.unlink()
                    _validators_path(path).unlink()
                    _require_size(received_bytes, str(response.url))
        return received_bytes


def _judge(release: Release, response: httpx.Response, method: str, setting: str) -> Probe:
    status = response.status_code
    if status in _NOT_POSTED:
        return Probe(release, Verdict.NOT_POSTED, f"not posted (HTTP {status})", method)
    if status in _REFUSED:
        return Probe(release, Verdict.REFUSED, f"refused (HTTP {status})", method)
    if status not in (200, 206):
        raise ArchiveError(f"HTTP {status} ({release.url}); check {setting}")
    return Probe(release, Verdict.POSTED, "posted", method, _identity(response))


def _with_start(probe: Probe, start: bytes) -> Probe:
    """The probe of a posted file after its first bytes were read."""
    if start == _ZIP_START:
        return replace(probe, is_zip=True)
    what = "a web page in its place" if start.lstrip().startswith(b"<") else "no zip"
    return replace(probe, verdict=Verdict.NOT_POSTED, reason=f"not posted ({what})", is_zip=False)


def _first(response: httpx.Response, count: int) -> bytes:
    return next(response.iter_raw(count), b"")[:count]


def _identity(response: httpx.Response) -> Identity:
    # httpx has refused any Content-Length that is not a number.
    total = response.headers.get("Content-Length")
    if response.status_code == 206:
        total = response.headers.get("Content-Range", "").rpartition("/")[2]
    size_bytes = int(total) if re.fullmatch("[0-9]{1,19}", total or "") else None
    return Identity(response.headers.get("ETag"), response.headers.get("Last-Modified"), size_bytes)


def _weak(etag: str) -> str:
    return re.sub(r'(-gzip|;gzip|-br)?"?$', "", etag.removeprefix("W/").removeprefix('"'))


def _require_body(url: str, response: httpx.Response, setting: str) -> None:
    """Raise ArchiveError unless the body is the file's own bytes."""
    if response.status_code not in (200, 206):
        raise ArchiveError(f"HTTP {response.status_code} ({url}); check {setting} and PSD_USER_AGENT")
    encoding = response.headers.get("Content-Encoding", "")
    if encoding.strip().lower() not in _NO_ENCODING:
        raise ArchiveError(f"sent with Content-Encoding {encoding} although none was asked for ({url})")


def _require_size(size_bytes: int, url: str) -> None:
    if size_bytes > MAX_ZIP_BYTES:
        raise ArchiveError(f"the server sends more than {MAX_ZIP_BYTES >> 20} MiB; that is no PSD release ({url})")


def _require_range(url: str, response: httpx.Response, start_bytes: int, total_bytes: int | None) -> None:
    """Raise ArchiveError unless a partial response starts at `start_bytes` and says how long the file is."""
    content_range = response.headers.get("Content-Range", "")
    if total_bytes is None or not content_range.startswith(f"bytes {start_bytes}-"):
        raise ArchiveError(
            f"Content-Range {content_range!r} for a request from byte {start_bytes} on ({url}); try again later"
        )


def _validators_path(path: Path) -> Path:
    return path.with_name(path.name + ".validators")


def _begin(path: Path, url: str, identity: Identity) -> None:
    """Start a download from the beginning. Delete the old bytes first, so that no later run continues them."""
    note = {"url": url, "etag": identity.etag, "last_modified": identity.last_modified}
    with disk_errors(path):
        path.unlink(missing_ok=True)
        write_durably(_validators_path(path), json.dumps(note))
        path.touch()


def _resumable(path: Path, url: str) -> tuple[int, Identity | None]:
    """The number of bytes of `url` at `path`, and the version that they belong to; 0 and None to start over."""
    try:
        note = json.loads(_validators_path(path).read_text())
        held, is_same = Identity(note["etag"], note["last_modified"]), note["url"] == url
        have_bytes = path.stat().st_size
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return 0, None
    return (have_bytes, held) if have_bytes and is_same and held.if_range else (0, None)


def _is_unfit(response: httpx.Response, have_bytes: int, held: Identity) -> bool:
    """Whether a response to a request for the rest is neither the rest nor the whole file."""
    if response.status_code != 206:
        return response.status_code in _NO_RANGE
    continues = response.headers.get("Content-Range", "").startswith(f"bytes {have_bytes}-")
    return not continues or response.headers.get("ETag", held.etag) != held.etag
