"""Archive client: probe a release, read a part of it, download it.

No public record of the archive's ETags exists, so any form and none are expected. Servers and proxies that refuse
HEAD or Range, or send odd headers, are handled here.
"""

import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path

import httpx

from dataflows.errors import ArchiveError
from dataflows.files import disk_errors, require_space, write_durably
from dataflows.source.http import HttpClient, RetryPolicy, Transient
from dataflows.source.release import USER_AGENT, Release

MAX_ZIP_BYTES = 1 << 30
"""Sixty times the largest release known; an answer longer than that is not one."""

_NOT_POSTED = (404, 410)
_REFUSED = (401, 403)
_NO_RANGE = (400, 401, 403, 405, 406, 416, 501)
"""Answers by which firewalls and servers refuse a Range; the same request without one tells more."""
_NO_ENCODING = ("", "identity", "none", "binary", "utf-8", "utf8")
"""Values of Content-Encoding that servers send for bytes that are not encoded."""
_ZIP_START = b"PK\x03\x04"


class Verdict(StrEnum):
    """The result of a probe."""

    POSTED = "posted"
    NOT_POSTED = "not posted"
    REFUSED = "refused"
    """401 or 403: some servers answer so for what is not posted, others block a client."""
    UNKNOWN = "could not be asked"


@dataclass(frozen=True)
class Identity:
    """The headers that may identify a file's version."""

    etag: str | None = None
    last_modified: str | None = None
    size_bytes: int | None = None

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
    """What the archive says of a release without sending it."""

    release: Release
    verdict: Verdict
    reason: str
    """The reason, as text for the operator."""
    method: str = "HEAD"
    identity: Identity = Identity()
    is_zip: bool | None = None
    """Whether its first bytes are a zip's; None when they were not seen."""

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

    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)
    user_agent: str = USER_AGENT
    progress: Callable[[int, int | None], None] = lambda received_bytes, total_bytes: None
    """Called while a download runs, with the bytes so far and the whole size where it is known."""

    def __post_init__(self) -> None:
        self._http = HttpClient(self.retry_policy, self.user_agent)

    def close(self) -> None:
        self._http.close()

    def stop(self) -> None:
        """Cancel the requests of other threads; they raise `http.Stopped`."""
        self._http.stop()

    def probe(self, release: Release, *, by_get: bool = False) -> Probe:
        """Ask whether a release is posted, by HEAD and, where that is refused, by a GET of its first bytes.

        `by_get` leaves HEAD out. Raises ArchiveError when the archive can't be asked.
        """
        return self._http.retry(release.url, lambda: self._probe(release, by_get))

    def sniffed(self, probe: Probe) -> Probe:
        """The same probe after a look at the first bytes: an error page sent as 200 is not a release."""
        if not probe.posted or probe.is_zip is not None:
            return probe
        piece = self.piece(probe.release, 0, len(_ZIP_START))
        if piece is None:
            return replace(probe, verdict=Verdict.NOT_POSTED, reason="not posted (nothing to GET)")
        return _with_start(probe, piece.data)

    def piece(self, release: Release, start_bytes: int, count: int) -> Piece | None:
        """`count` bytes of a posted file from `start_bytes` on; from its beginning where the server refuses Range.

        None when the file is not posted or ends before. Raises ArchiveError.
        """
        return self._http.retry(release.url, lambda: self._piece(release.url, start_bytes, count))

    def download(self, release: Release, path: Path) -> Download:
        """Download a release to `path`, resuming a failed attempt or a killed run.

        Raises ArchiveError, and DiskSpaceError or LandingError for the disk; then what was received so far stays
        for the next try, unless it is known to be worthless.
        """
        deadline = time.monotonic() + self.retry_policy.download_s
        return self._http.retry(release.url, lambda: self._download(release.url, path, deadline))

    def _probe(self, release: Release, by_get: bool) -> Probe:
        if not by_get:
            with self._http.open_response("HEAD", release.url, {}, self.retry_policy.probe_s) as response:
                if response.status_code in (200, *_NOT_POSTED):
                    return _judge(release, response, "HEAD")
        for headers in ({"Range": f"bytes=0-{len(_ZIP_START) - 1}"}, {}):
            with self._http.open_response("GET", release.url, headers, self.retry_policy.probe_s) as response:
                if headers and response.status_code in _NO_RANGE:
                    continue
                probe = _judge(release, response, "GET")
                return _with_start(probe, _first(response, len(_ZIP_START))) if probe.posted else probe
        raise AssertionError("the request without Range was judged")

    def _piece(self, url: str, start_bytes: int, count: int) -> Piece | None:
        for headers in ({"Range": f"bytes={start_bytes}-{start_bytes + count - 1}"}, {}):
            with self._http.open_response("GET", url, headers, self.retry_policy.probe_s) as response:
                if response.status_code in (*_NOT_POSTED, 416):
                    return None
                if headers and response.status_code in _NO_RANGE:
                    continue
                _require_body(url, response)
                start = start_bytes if response.status_code == 206 else 0
                return Piece(start, _first(response, count), _identity(response))
        raise AssertionError("the request without Range was judged")

    def _download(self, url: str, path: Path, deadline: float) -> Download:
        have_bytes, held = _resumable(path, url)
        headers = {"Range": f"bytes={have_bytes}-", "If-Range": held.if_range or ""} if held else {}
        with self._http.open_response("GET", url, headers, deadline - time.monotonic()) as response:
            if held and _is_unfit(response, have_bytes, held):
                path.unlink()
                raise Transient("the rest of another file, or no rest at all, was sent")
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
        with disk_errors(path), path.open("ab") as target:
            # No chunk size: httpx would hold bytes back until it is reached, and a drip would look like silence.
            for chunk in response.iter_raw():
                target.write(chunk)
                received_bytes += len(chunk)
                self.progress(received_bytes, extent.total_bytes)
                if received_bytes > MAX_ZIP_BYTES:
                    path.unlink()
                    _validators_path(path).unlink()
                    _require_size(received_bytes, str(response.url))


def _judge(release: Release, response: httpx.Response, method: str) -> Probe:
    status = response.status_code
    if status in _NOT_POSTED:
        return Probe(release, Verdict.NOT_POSTED, f"not posted (HTTP {status})", method)
    if status in _REFUSED:
        return Probe(release, Verdict.REFUSED, f"refused (HTTP {status})", method)
    if status not in (200, 206):
        raise ArchiveError(f"HTTP {status} ({release.url}); check PSD_ARCHIVE_URL and PSD_DATASET")
    return Probe(release, Verdict.POSTED, "posted", method, _identity(response))


def _with_start(probe: Probe, start: bytes) -> Probe:
    """The probe of a posted file after its first bytes were seen."""
    if start == _ZIP_START:
        return replace(probe, is_zip=True)
    what = "a web page in its place" if start.lstrip().startswith(b"<") else "no zip"
    return replace(probe, verdict=Verdict.NOT_POSTED, reason=f"not posted ({what})", is_zip=False)


def _first(response: httpx.Response, count: int) -> bytes:
    return next(response.iter_raw(count), b"")[:count]


def _identity(response: httpx.Response) -> Identity:
    total = _length(response)
    if response.status_code == 206:
        total_text = response.headers.get("Content-Range", "").rpartition("/")[2]
        total = int(total_text) if re.fullmatch("[0-9]{1,19}", total_text) else None
    return Identity(response.headers.get("ETag"), response.headers.get("Last-Modified"), total)


def _weak(etag: str) -> str:
    return re.sub(r'(-gzip|;gzip|-br)?"?$', "", etag.removeprefix("W/").removeprefix('"'))


def _require_body(url: str, response: httpx.Response) -> None:
    """Raise ArchiveError unless the answer carries the file's own bytes."""
    if response.status_code not in (200, 206):
        raise ArchiveError(f"HTTP {response.status_code} ({url}); check PSD_ARCHIVE_URL, PSD_DATASET, PSD_USER_AGENT")
    encoding = response.headers.get("Content-Encoding", "")
    if encoding.strip().lower() not in _NO_ENCODING:
        raise ArchiveError(f"sent with Content-Encoding {encoding} although none was asked for ({url})")


def _require_size(size_bytes: int, url: str) -> None:
    if size_bytes > MAX_ZIP_BYTES:
        raise ArchiveError(f"it sends more than {MAX_ZIP_BYTES >> 20} MiB; that is no PSD release ({url})")


def _length(response: httpx.Response) -> int | None:
    # httpx has refused any Content-Length that is not a number.
    length = response.headers.get("Content-Length")
    return None if length is None else int(length)


def _validators_path(path: Path) -> Path:
    return path.with_name(path.name + ".validators")


def _begin(path: Path, validators: Validators) -> None:
    """Start a download afresh: first without old bytes, lest they pass for the new file's when this is killed."""
    with disk_errors(path):
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
        return response.status_code in _NO_RANGE
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
