"""A snapshot: one landed copy of a release, exactly as USDA served it, and what is known about it."""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import date, datetime

from dataflows.errors import LandingError, SettingsError
from dataflows.source.release import Month

FORM = 2
"""The form of the markers written now. Form 1 has no `published_at` and no `newest_stamp`; its month is that of the
archive's address, and its day may be a server's (see `landing_upgrade`)."""

_SAFE_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")


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
    published_at: datetime | None = None
    """When USDA published the file, in Washington's time and without a zone; None when nothing plausible says it."""
    newest_stamp: str | None = None
    """The latest `YYYY-MM` among the rows' stamps; None when no row has one."""
    form: int = FORM

    @property
    def month(self) -> Month:
        return Month(self.release_year, self.release_month)

    @property
    def order(self) -> tuple[Month, datetime, str]:
        """The sort key of releases, independent of the order of landing; the key only breaks ties.

        No HTTP header makes an older month newer than a later one.
        """
        return self.month, self.published_at or datetime.min, self.key

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
        numbers = (self.release_year, self.release_month, self.size_bytes, self.row_count, self.form)
        if not all(isinstance(text, str) for text in texts) or not all(type(number) is int for number in numbers):
            raise ValueError("a field is of another kind")
        if not (_SAFE_KEY.fullmatch(self.key) and _SAFE_KEY.fullmatch(self.dataset)):
            raise ValueError(f"{self.key!r} of {self.dataset!r} would be no file's name")
        if not (1 <= self.release_year <= 9999 and 1 <= self.release_month <= 12):
            raise ValueError("there is no such month")
        if self.landed_at.tzinfo is None:
            raise ValueError("landed_at names no time zone")
        if self.published_at is not None and self.published_at.tzinfo is not None:
            raise ValueError("published_at names a time zone")
        if self.newest_stamp is not None:
            Month.parse(self.newest_stamp)

    def to_json(self) -> str:
        record = asdict(self)
        record["released_on"] = self.released_on.isoformat()
        record["landed_at"] = self.landed_at.isoformat()
        record["published_at"] = self.published_at and self.published_at.isoformat()
        return json.dumps(record, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, origin: str) -> "Snapshot":
        """Read a marker; raises LandingError naming `origin` when it isn't one."""
        try:
            record = json.loads(text)
            record["released_on"] = date.fromisoformat(record["released_on"])
            record["landed_at"] = datetime.fromisoformat(record["landed_at"])
            record.setdefault("form", 1)
            if published_at := record.get("published_at"):
                record["published_at"] = datetime.fromisoformat(published_at)
            snapshot = cls(**record)
            snapshot._check()
            return snapshot
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, SettingsError) as error:
            raise LandingError(
                f"{origin} is not a snapshot marker ({error}); move it and its zip away, and extract that month again"
            ) from error


def content_key(month: Month, sha256: str) -> str:
    """The name of a new snapshot's files: its release month and its content."""
    return f"{month}-{sha256[:16]}"


def releases_digest(snapshots: Iterable[Snapshot]) -> str:
    """A digest of which snapshots there are and when each was released: another one means another history."""
    lines = "".join(f"{each.key} {each.released_on} {each.month}\n" for each in snapshots)
    return hashlib.sha256(lines.encode()).hexdigest()[:16]
