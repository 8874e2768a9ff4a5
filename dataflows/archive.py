"""USDA's archive over HTTP: is a release posted, is it a zip, and its bytes, whatever the line does.

Transient failures (connection trouble, 408, 429, 5xx) are tried again with backoff and jitter, everything else
is not. No public record of the archive's ETags exists, so any form and none are expected.
"""

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

import httpx

from dataflows.errors import ArchiveError
from dataflows.files import require_space, write_durably
from dataflows.release import Release

MAX_ZIP_BYTES = 1 << 30
"""Sixty times the largest release known; an answer longer than that is not one."""

_NOT_POSTED = (404, 410)
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
_MAX_REDIRECTS = 3
_CHUNK_BYTES = 1 << 18

_T = TypeVar("_T")


@dataclass(frozen=True)
class Patience:
    """How long a caller puts up with a bad line."""

    attempts: int = 5
    first_pause_s: float = 0.5
    longest_pause_s: float = 30.0
    silence_s: float = 30.0
    """The longest wait for the next bytes."""
    download_s: float = 3600.0
    """The longest a whole download may take, so that a drip does not hold a run for ever."""

    def pause_s(self, attempt: int, retry_after_s: float | None) -> float:
        """How long to wait after failed attempt number `attempt` (from 0), jittered so that clients part."""
        backoff_s = self.first_pause_s * 2**attempt * random.uniform(0.5, 1.5)  # noqa: S311
        return min(max(backoff_s, retry_after_s or 0.0), self.longest_pause_s)


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
        if self.etag and not self.etag.startswith("W/"):
            return self.etag
        return None if self.etag else self.last_modified


class _Transient(Exception):
    """Worth another try."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


@dataclass
class Archive:
    """A client of one archive. Safe for several threads; close it when done."""

    patience: Patience = field(default_factory=Patience)
    progress: Callable[[int, int | None], None] = lambda received_bytes, total_bytes: None
    """Called while a download runs, with the bytes so far and the whole size where it is known."""

    def __post_init__(self) -> None:
        self._client = httpx.Client(
            timeout=httpx.Timeout(self.patience.silence_s),
            headers={"Accept-Encoding": "identity", "User-Agent": "materia"},
            limits=httpx.Limits(max_connections=8),
        )

    def close(self) -> None:
        self._client.close()

    def probe(self, release: Release) -> Probe:
        """Ask for the headers only. Raises ArchiveError when the archive can't be asked."""
        return self._patiently(release.url, lambda: self._probe(release))

    def is_zip(self, release: Release) -> bool:
        """Look at the first bytes: an error page sent as 200 is not a release."""
        return self._patiently(release.url, lambda: self._starts_like_a_zip(release.url))

    def download(self, release: Release, path: Path) -> Download:
        """Fetch a release to `path`, going on from what a broken attempt, or a killed run, left there.

        Raises ArchiveError; then what was received so far stays for the next try.
        """
        deadline = time.monotonic() + self.patience.download_s
        return self._patiently(release.url, lambda: self._download(release.url, path, deadline))

    def _patiently(self, url: str, attempt: Callable[[], _T]) -> _T:
        for number in range(self.patience.attempts):
            try:
                return attempt()
            except (_Transient, httpx.TransportError) as error:
                failure = error
                last = number == self.patience.attempts - 1
                if not last:
                    time.sleep(self.patience.pause_s(number, getattr(error, "retry_after_s", None)))
        reason = str(failure) or type(failure).__name__
        raise ArchiveError(
            f"{url}: {reason}, {self.patience.attempts} times in a row; try again later, "
            "or set PSD_ARCHIVE_URL if the archive moved"
        ) from failure

    @contextmanager
    def _open(self, method: str, url: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        """One answer, after redirects within the host. Raises _Transient for what may pass."""
        here = url
        for _ in range(_MAX_REDIRECTS + 1):
            with self._client.stream(method, here, headers=headers) as response:
                if response.status_code in _TRANSIENT:
                    raise _Transient(f"HTTP {response.status_code}", _retry_after_s(response))
                if not response.has_redirect_location:
                    yield response
                    return
                there = urljoin(here, response.headers["Location"])
            if urlsplit(there).hostname != urlsplit(url).hostname:
                raise ArchiveError(
                    f"{url} redirects to another host, {there}; if the archive moved, set PSD_ARCHIVE_URL"
                )
            here = there
        raise ArchiveError(f"{url} redirects more than {_MAX_REDIRECTS} times")

    def _probe(self, release: Release) -> Probe:
        with self._open("HEAD", release.url, {}) as response:
            if response.status_code not in (405, 501):
                return _judge(release, response)
        # A server that knows no HEAD: ask for the file, read the headers and hang up.
        with self._open("GET", release.url, {}) as response:
            return _judge(release, response)

    def _starts_like_a_zip(self, url: str) -> bool:
        with self._open("GET", url, {"Range": "bytes=0-3"}) as response:
            if response.status_code not in (200, 206):
                return False
            first = next(response.iter_raw(4), b"")
        return first[:4] == b"PK\x03\x04"

    def _download(self, url: str, path: Path, deadline: float) -> Download:
        have_bytes, held = _resumable(path, url)
        headers = {}
        if have_bytes and held and held.if_range:
            headers = {"Range": f"bytes={have_bytes}-", "If-Range": held.if_range}
        with self._open("GET", url, headers) as response:
            if response.status_code == 416:
                path.unlink(missing_ok=True)
                raise _Transient("the archive's file is shorter than what was received before")
            if response.status_code not in (200, 206):
                raise ArchiveError(f"{url} answered HTTP {response.status_code} to the download")
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise ArchiveError(f"{url} was sent with Content-Encoding although none was asked for")
            start_bytes, total_bytes = _extent(response, have_bytes, url)
            validators = Validators(url, response.headers.get("ETag"), response.headers.get("Last-Modified"))
            if start_bytes == 0:
                write_durably(_validators_path(path), json.dumps(asdict(validators)))
            require_space(path.parent, max((total_bytes or 0) - start_bytes, 0) + (64 << 20), f"downloading {url}")
            self._receive(response, path, start_bytes, total_bytes, deadline)
        size_bytes = path.stat().st_size
        if total_bytes is not None and size_bytes != total_bytes:
            raise _Transient(f"the connection ended after {size_bytes} of {total_bytes} bytes")
        _validators_path(path).unlink(missing_ok=True)
        return Download(path, size_bytes, validators.etag, validators.last_modified)

    def _receive(
        self, response: httpx.Response, path: Path, start_bytes: int, total_bytes: int | None, deadline: float
    ) -> None:
        received_bytes = start_bytes
        with path.open("r+b" if start_bytes else "wb") as target:
            target.seek(start_bytes)
            target.truncate()
            for chunk in response.iter_raw(_CHUNK_BYTES):
                target.write(chunk)
                received_bytes += len(chunk)
                self.progress(received_bytes, total_bytes)
                if received_bytes > MAX_ZIP_BYTES:
                    raise ArchiveError(
                        f"{response.url} sends more than {MAX_ZIP_BYTES >> 20} MiB; that is no PSD release"
                    )
                if time.monotonic() > deadline:
                    raise ArchiveError(f"{response.url} took longer than {self.patience.download_s:.0f} s")


def _judge(release: Release, response: httpx.Response) -> Probe:
    status = response.status_code
    if status in _NOT_POSTED:
        return Probe(release, posted=False, reason=f"not posted (HTTP {status})")
    if status != 200:
        raise ArchiveError(f"{release.url} answered HTTP {status}; check PSD_ARCHIVE_URL and PSD_DATASET")
    if response.headers.get("Content-Type", "").startswith("text/"):
        return Probe(release, posted=False, reason="not posted (a web page in its place)")
    length = response.headers.get("Content-Length", "")
    return Probe(
        release,
        posted=True,
        reason="posted",
        etag=response.headers.get("ETag"),
        last_modified=response.headers.get("Last-Modified"),
        size_bytes=int(length) if length.isdigit() else None,
    )


def _retry_after_s(response: httpx.Response) -> float | None:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else None


def _validators_path(path: Path) -> Path:
    return path.with_name(path.name + ".validators")


def _resumable(path: Path, url: str) -> tuple[int, Validators | None]:
    """How many bytes of `url` lie at `path`, and of which version of it."""
    try:
        validators = Validators(**json.loads(_validators_path(path).read_text()))
        return (path.stat().st_size, validators) if validators.url == url else (0, None)
    except (FileNotFoundError, ValueError, TypeError):
        return 0, None


def _extent(response: httpx.Response, have_bytes: int, url: str) -> tuple[int, int | None]:
    """Where in the file this answer starts, and how long the file is."""
    if response.status_code == 206:
        unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
        span, _, total = rest.partition("/")
        start = span.partition("-")[0]
        if unit != "bytes" or start != str(have_bytes) or not total.isdigit():
            raise ArchiveError(f"{url} answered a request from byte {have_bytes} on with {rest!r}")
        return have_bytes, int(total)
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None
