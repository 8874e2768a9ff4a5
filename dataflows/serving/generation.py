"""A generation: one served database file and its facts, readable without opening it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

from dataflows.errors import ServingBrokenError, SettingsError
from dataflows.source.release import Month

FOREIGN_NUMBER = 0
"""The number of a file that Materia did not publish; real generations start at 1."""

_MOST_NAMED = 5
"""How many differing totals a line names."""

_GENERATION_STEM = re.compile(r".+-([1-9][0-9]*)")


@dataclass(frozen=True)
class WasdeCheck:
    """World totals of PSD beside those of the WASDE report of the same month."""

    month: str
    """`YYYY-MM`."""
    compared: int
    differing: tuple[str, ...]
    """Each total that differs, with both figures."""

    def __str__(self) -> str:
        agreeing = self.compared - len(self.differing)
        differing = f"; differing: {self.named}" if self.differing else ""
        return f"WASDE of {self.month}: {agreeing} of {self.compared} world totals agree{differing}"

    @property
    def named(self) -> str:
        """The first totals that differ, and how many more there are; `serving.agg_wasde_check` has all."""
        more = len(self.differing) - _MOST_NAMED
        return "; ".join(self.differing[:_MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")


@dataclass(frozen=True)
class GenerationFacts:
    """The facts of an export about the generation it builds."""

    number: int
    created_at: datetime
    """UTC."""
    code_version: str
    duckdb_version: str
    models_digest: str
    """A digest of the transform code that built it."""
    snapshots: tuple[str, ...]
    """Snapshot keys, oldest first."""
    newest_released_on: date | None
    row_counts: Mapping[str, int] = field(hash=False)
    """Rows per table of schema `serving`, without `generation` itself."""
    forced_reason: str | None
    """Why the gate was overridden, if it was."""
    newest_release_month: str | None = field(default=None, kw_only=True)
    """`YYYY-MM` of the newest release; None where the sidecar was written before it was recorded."""
    releases_digest: str | None = field(default=None, kw_only=True)
    """A digest of the snapshots' and WASDE reports' keys and days (`snapshot.releases_digest`); None in an older
    sidecar."""
    wasde_check: WasdeCheck | None = field(default=None, kw_only=True)
    """None where no WASDE report of the newest release's month is landed; then the sidecar does not name it."""

    @property
    def newest_month(self) -> Month | None:
        """The month of the newest release, from its day where no month was recorded; None when unknown."""
        if self.newest_release_month is not None:
            return Month.parse(self.newest_release_month)
        return Month.of(self.newest_released_on) if self.newest_released_on else None


@dataclass(frozen=True)
class Generation(GenerationFacts):
    """A published generation: the export's facts, and those of the finished file."""

    size_bytes: int
    sha256: str
    """In hexadecimal; empty for a file that Materia did not publish."""

    def to_json(self) -> str:
        record = vars(self) | {"row_counts": dict(self.row_counts)}
        record["created_at"] = self.created_at.isoformat()
        record["newest_released_on"] = self.newest_released_on and self.newest_released_on.isoformat()
        if (check := record.pop("wasde_check")) is not None:
            record["wasde_check"] = vars(check)
        return json.dumps(record, indent=2) + "\n"

    def _check(self) -> None:
        """Raise ValueError unless every field is of its kind."""
        texts = (self.code_version, self.duckdb_version, self.models_digest, self.sha256, self.forced_reason or "")
        if self.newest_release_month is not None:
            Month.parse(self.newest_release_month)
        counts = (self.number, self.size_bytes, *self.row_counts.values())
        if not all(isinstance(text, str) for text in (*texts, *self.snapshots, *self.row_counts)):
            raise ValueError("a field is no text")
        if not all(type(count) is int and 0 <= count < 1 << 63 for count in counts):
            raise ValueError("a count is no whole number")
        if self.created_at.tzinfo is None:
            raise ValueError("created_at names no time zone")

    @classmethod
    def from_json(cls, text: str | bytes, origin: Path | str) -> "Generation":
        """Read a sidecar; raises ServingBrokenError naming `origin` when it isn't one."""
        try:
            record = json.loads(text)
            record["created_at"] = datetime.fromisoformat(record["created_at"])
            record["snapshots"] = tuple(_list(record["snapshots"]))
            record["row_counts"] = dict(_object(record["row_counts"]))
            released_on = record["newest_released_on"]
            record["newest_released_on"] = released_on and date.fromisoformat(released_on)
            if (check := record.get("wasde_check")) is not None:
                record["wasde_check"] = WasdeCheck(**check | {"differing": tuple(_list(check["differing"]))})
            generation = cls(**record)
            generation._check()
            return generation
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, SettingsError) as error:
            raise ServingBrokenError(
                f"{origin} does not describe a generation ({error}); "
                "run `materia run-all`, which sets it aside and publishes again"
            ) from error


def _list(value: object) -> list[str]:
    if not isinstance(value, list):
        raise ValueError("snapshots is no list")
    return value


def _object(value: object) -> dict[str, int]:
    if not isinstance(value, dict):
        raise ValueError("row_counts is no object")
    return value


def sidecar_of(path: Path) -> Path:
    """Where the generation at `path` is described: `serving-12.json` beside `serving-12.duckdb`."""
    return path.with_suffix(".json")


def read_sidecar(path: Path) -> Generation | None:
    """What the sidecar of the database file `path` says; None when it isn't a generation with a sidecar.

    Raises ServingBrokenError when the sidecar can't be understood.
    """
    if _GENERATION_STEM.fullmatch(path.stem) is None:
        return None
    try:
        text = sidecar_of(path).read_bytes()
    except FileNotFoundError:
        return None
    return Generation.from_json(text, sidecar_of(path))


def foreign_generation(path: Path) -> Generation:
    """Describe a file without a sidecar: its time and size, and number 0."""
    status = path.stat()
    return Generation(
        number=FOREIGN_NUMBER,
        created_at=datetime.fromtimestamp(status.st_mtime, UTC),
        code_version="",
        duckdb_version="",
        models_digest="",
        snapshots=(),
        newest_released_on=None,
        row_counts={},
        forced_reason=None,
        size_bytes=status.st_size,
        sha256="",
    )
