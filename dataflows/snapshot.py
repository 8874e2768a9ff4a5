"""A snapshot: one landed copy of a release, exactly as USDA served it, and what is known about it."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime

from dataflows.errors import LandingError
from dataflows.release import Month

_SAFE_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")
_LIKE_A_DIGEST = re.compile(r".*-[0-9a-f]{16,}")
"""The form of the keys made here; an ETag of this form is not its own key, lest it take another's."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Snapshot:
    """What the commit marker beside a landed zip says; `key` names both files."""

    dataset: str
    url: str
    etag: str | None
    last_modified: str | None
    release_year: int
    release_month: int
    released_on: date
    size_bytes: int
    sha256: str
    member: str
    row_count: int
    landed_at: datetime
    key: str

    @property
    def month(self) -> Month:
        return Month(self.release_year, self.release_month)

    @property
    def order(self) -> tuple[date, datetime, str]:
        """Where this snapshot stands in time, whatever the order of landing.

        The last of one day is the one that counts for it; the key only breaks ties.
        """
        return self.released_on, last_modified_time(self.last_modified), self.key

    @classmethod
    def from_marker(cls, text: str | bytes, key: str, origin: str) -> "Snapshot":
        """Read the marker that names the files of `key`; raises LandingError naming `origin` when it is another's."""
        snapshot = cls.from_json(text, origin)
        if snapshot.key != key:
            raise LandingError(f"{origin} is the marker of {snapshot.key}; give it that name again, or move it away")
        return snapshot

    def _check(self) -> None:
        """Raise ValueError unless every field is of its kind and what names files names files."""
        texts = (self.dataset, self.url, self.sha256, self.member, self.key, self.etag or "", self.last_modified or "")
        numbers = (self.release_year, self.release_month, self.size_bytes, self.row_count)
        if not all(isinstance(text, str) for text in texts) or not all(type(number) is int for number in numbers):
            raise ValueError("a field is of another kind")
        if not (_SAFE_KEY.fullmatch(self.key) and _SAFE_KEY.fullmatch(self.dataset)):
            raise ValueError(f"{self.key!r} of {self.dataset!r} would be no file's name")
        if not (1 <= self.release_year <= 9999 and 1 <= self.release_month <= 12):
            raise ValueError("there is no such month")
        if self.landed_at.tzinfo is None:
            raise ValueError("landed_at names no time zone")

    def to_json(self) -> str:
        record = asdict(self)
        record["released_on"] = self.released_on.isoformat()
        record["landed_at"] = self.landed_at.isoformat()
        return json.dumps(record, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, origin: str) -> "Snapshot":
        """Read a marker; raises LandingError naming `origin` when it isn't one."""
        try:
            record = json.loads(text)
            record["released_on"] = date.fromisoformat(record["released_on"])
            record["landed_at"] = datetime.fromisoformat(record["landed_at"])
            snapshot = cls(**record)
            snapshot._check()
            return snapshot
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise LandingError(
                f"{origin} is not a snapshot marker ({error}); move it and its zip away, and extract that month again"
            ) from error


def last_modified_time(last_modified: str | None) -> datetime:
    """The moment, in UTC, an HTTP `Last-Modified` header names; the epoch when there is none or it is no date."""
    try:
        moment = parsedate_to_datetime(last_modified or "")
        # "-0000" says that the zone is not known; HTTP knows none but UTC.
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return _EPOCH


def key_of_etag(etag: str) -> str:
    """A file-name-safe name for an ETag: the opaque tag itself where that is safe.

    Anything else (weak tags, slashes, colons, hundreds of characters) keeps what can be read of it and ends
    in a digest of the whole, so that two ETags never share a name.
    """
    opaque = etag.strip()
    if len(opaque) >= 2 and opaque[0] == opaque[-1] == '"':
        opaque = opaque[1:-1]
    if _SAFE_KEY.fullmatch(opaque) and not _LIKE_A_DIGEST.fullmatch(opaque):
        return opaque
    readable = re.sub(r"[^A-Za-z0-9]+", "_", opaque).strip("_")[:60] or "etag"
    return f"{readable}-{hashlib.sha256(etag.encode()).hexdigest()[:16]}"


def key_without_etag(last_modified: str | None, size_bytes: int | None, url: str) -> str | None:
    """A name for a file that came without an ETag, from what else identifies it; None if nothing does."""
    if last_modified is None:
        return None
    identity = f"{url}\n{last_modified}\n{size_bytes}"
    return f"noetag-{hashlib.sha256(identity.encode()).hexdigest()[:24]}"
