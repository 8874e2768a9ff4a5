"""The record of the last scrub: a small file in the data directory, read by `status` and updated by repairs."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from dataflows.files import write_durably
from ops.config.settings import Settings

log = logging.getLogger(__name__)


class Kind(StrEnum):
    """The kind of a damaged file, which determines its repair."""

    SERVED = "served generation"
    GENERATION = "kept generation"
    LAKEHOUSE = "lakehouse"
    STATE = "SQLMesh's state"
    LAKE_FILE = "lakehouse file"
    ROWS = "unpacked rows"
    MARKER = "landing marker"
    ZIP = "landed zip"
    BUCKET_ZIP = "landed zip in the bucket"
    BUCKET_GENERATION = "generation in the bucket"

    @classmethod
    def _missing_(cls, value: object) -> "Kind | None":
        return cls.LAKE_FILE if value == "DuckLake file" else None  # in a record of an earlier version


@dataclass(frozen=True)
class Damage:
    """A damaged file."""

    kind: Kind
    where: str
    """Its path, or its address in the bucket."""
    why: str
    key: str = ""
    """The snapshot's key, or the generation's number."""

    @property
    def name(self) -> str:
        """A short name that identifies the file."""
        return self.where.rsplit("/", 1)[-1] if self.kind is not Kind.ROWS else f"{self.key}'s rows.parquet"


@dataclass(frozen=True)
class ScrubRecord:
    """When the last scrubs ran, and the damage that they found and that is not repaired yet."""

    verified_at: datetime | None = None
    """When the last scrub that read everything ran."""
    attempted_at: datetime | None = None
    error: str = ""
    """Why the last attempt could not read everything; empty if it did."""
    damage: tuple[Damage, ...] = ()
    lake_files: Mapping[str, str] = field(default_factory=dict)
    """The sha256 of each file of a DuckLake or of Spark's warehouse at its first check: neither records one."""


def record_path(settings: Settings) -> Path:
    return settings.data_dir / "scrub.json"


def read_record(settings: Settings) -> ScrubRecord:
    """Read the record; if the file is damaged, log a warning and return an empty record, so that a scrub is due."""
    try:
        record = json.loads(record_path(settings).read_text())
        return ScrubRecord(
            _time(record["verified_at"]),
            _time(record["attempted_at"]),
            str(record["error"]),
            tuple(Damage(**{**each, "kind": Kind(each["kind"])}) for each in record["damage"]),
            dict(record.get("lake_files", {})),  # a record of an earlier version has none
        )
    except FileNotFoundError:
        return ScrubRecord()
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        log.warning("the record of the last scrub is damaged; a new scrub is due", extra={"error": str(error)})
        return ScrubRecord()


def write_record(settings: Settings, record: ScrubRecord) -> None:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    write_durably(record_path(settings), json.dumps(asdict(record), default=datetime.isoformat, indent=1))


def forget(settings: Settings, is_repaired: Callable[[Damage], bool]) -> None:
    """Remove repaired files from the record."""
    record = read_record(settings)
    left = tuple(each for each in record.damage if not is_repaired(each))
    if left != record.damage:
        write_record(settings, replace(record, damage=left))


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
