"""What is served now, told from the files beside the served database, without opening it."""

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from dataflows.errors import ServingBrokenError


@dataclass(frozen=True)
class Served:
    """The served generation in brief; number 0 is a file that Materia did not publish."""

    number: int
    created_at: datetime
    newest_released_on: date | None
    code_version: str
    size_bytes: int
    forced_reason: str | None


def served_generation(serving_path: Path) -> Served | None:
    """The generation that `serving_path` leads to, or None before the first.

    Raises ServingBrokenError when it leads nowhere or is not described.
    """
    if not serving_path.is_symlink() and not serving_path.exists():
        return None
    target = serving_path.resolve()
    if not target.is_file():
        raise ServingBrokenError(f"{serving_path} leads to {target}, which is gone; run `materia serving rollback`")
    sidecar = target.with_suffix(".json")
    if not sidecar.exists():
        created_at = datetime.fromtimestamp(target.stat().st_mtime, UTC)
        return Served(0, created_at, None, "", target.stat().st_size, None)
    try:
        record = json.loads(sidecar.read_text())
        released_on = record["newest_released_on"]
        return Served(
            number=record["number"],
            created_at=datetime.fromisoformat(record["created_at"]),
            newest_released_on=date.fromisoformat(released_on) if released_on else None,
            code_version=record["code_version"],
            size_bytes=record["size_bytes"],
            forced_reason=record["forced_reason"],
        )
    except (ValueError, TypeError, KeyError) as error:
        raise ServingBrokenError(
            f"{sidecar} does not describe a generation ({error!r}); serve another with `materia serving rollback`"
        ) from error
