"""The labels that identify our machines: owner, run, creation time and lifetime."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from dataflows.errors import SettingsError

MANAGED = "materia"
"""Machines without this label are never touched."""

_MANAGED_KEY = "managed-by"
SELECTOR = f"{_MANAGED_KEY}={MANAGED}"
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class Labels:
    """A worker's labels; `run_id` is None for one created by hand, `created_at` is in UTC, to the second."""

    owner: str
    run_id: int | None
    created_at: datetime
    ttl: timedelta
    host_key: str
    """The first characters of the SHA-256 of its public host key."""

    @property
    def expires_at(self) -> datetime:
        return self.created_at + self.ttl

    def as_labels(self) -> dict[str, str]:
        """The labels as a provider stores them."""
        run = {"materia-run": str(self.run_id)} if self.run_id is not None else {}
        return {
            _MANAGED_KEY: MANAGED,
            "materia-owner": self.owner,
            **run,
            "materia-created": str(int(self.created_at.timestamp())),
            "materia-ttl-s": str(int(self.ttl.total_seconds())),
            "materia-host-key": self.host_key,
        }

    @classmethod
    def read(cls, labels: Mapping[str, str]) -> Self | None:
        """Parse our labels; None without our label, or if a label is invalid."""
        if labels.get(_MANAGED_KEY) != MANAGED:
            return None
        try:
            run = labels.get("materia-run")
            return cls(
                owner=labels["materia-owner"],
                run_id=int(run) if run is not None else None,
                created_at=datetime.fromtimestamp(int(labels["materia-created"]), UTC),
                ttl=timedelta(seconds=int(labels["materia-ttl-s"])),
                host_key=labels["materia-host-key"],
            )
        except (KeyError, ValueError, OverflowError, OSError):
            return None


def owner_of(data_dir: Path, host: str) -> str:
    """The owner label of this host: its name and a digest of the data directory's path."""
    digest = hashlib.sha256(str(data_dir.resolve()).encode()).hexdigest()[:6]
    return f"{_plain(host)[:20].strip('-') or 'host'}-{digest}"


def worker_name(owner: str, purpose: str) -> str:
    """The name of the worker for a purpose (a pipeline): always the same, so that a leftover one is found.

    Raises SettingsError if it is no valid hostname.
    """
    name = f"materia-{owner}-{_plain(purpose)}"
    if not _NAME.fullmatch(name):
        raise SettingsError(f"invalid worker name {name!r}; use at most 63 letters, digits and hyphens")
    return name


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
