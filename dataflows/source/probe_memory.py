"""Results of earlier probes per address, so that an unchanged file is not downloaded again.

Markers hold the validators of the download. HEAD may send others, and each node of a service its own. They are stored
here with the snapshot that they identify, in the landing, so that every machine has them.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataflows.source.archive import Identity

MAX_PER_ADDRESS = 8
"""Validators kept for an address and method; a server that sends new ones each time fills no more."""


@dataclass(frozen=True)
class Known:
    """Validators that an address sent for a method, and the snapshot that it served with them."""

    url: str
    method: str
    etag: str | None
    last_modified: str | None
    size_bytes: int | None
    key: str

    @property
    def identity(self) -> "Identity":
        from dataflows.source.archive import Identity  # imports httpx, which `materia status` does without

        return Identity(self.etag, self.last_modified, self.size_bytes)


@dataclass(frozen=True)
class LiveCheck:
    """The last day (in Washington) on which a probe of the current file found this snapshot in it.

    USDA may have posted something later on that very day.
    """

    checked_on: date
    snapshot_key: str


@dataclass(frozen=True)
class ProbeMemory:
    """The memory of one dataset."""

    known: tuple[Known, ...] = ()
    live: LiveCheck | None = None

    def find(self, url: str, method: str, identity: "Identity") -> str | None:
        """The key of the snapshot that these validators identify; None if they are unknown."""
        if identity.etag is None and identity.last_modified is None:
            return None
        same = (each.key for each in self._of(url, method) if each.identity == identity)
        return next(same, None)

    def with_known(self, added: Known) -> "ProbeMemory":
        """The memory with one entry more; another snapshot at the same address replaces the entries of the old one."""
        of_key = [each for each in self._of(added.url, added.method) if each.key == added.key]
        if added in of_key or len(of_key) >= MAX_PER_ADDRESS:
            return self
        others = [each for each in self.known if (each.url, each.method) != (added.url, added.method)]
        return replace(self, known=(*others, *of_key, added))

    def _of(self, url: str, method: str) -> Iterable[Known]:
        return (each for each in self.known if (each.url, each.method) == (url, method))

    def to_json(self) -> str:
        live = self.live and {"checked_on": str(self.live.checked_on), "snapshot_key": self.live.snapshot_key}
        return json.dumps({"known": [asdict(each) for each in self.known], "live": live}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "ProbeMemory":
        """Read what `to_json` wrote; a damaged memory is an empty one, for a probe fills it again."""
        try:
            record = json.loads(text)
            live = record["live"]
            return cls(
                tuple(Known(**each) for each in record["known"]),
                LiveCheck(date.fromisoformat(live["checked_on"]), str(live["snapshot_key"])) if live else None,
            )
        except (ValueError, TypeError, KeyError, RecursionError):
            return cls()
