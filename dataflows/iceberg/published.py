"""Which generation a table of the catalog holds, and the checks before it is replaced."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from dataflows.errors import IcebergError
from dataflows.iceberg.contents import digest_of
from dataflows.serving.generation import Generation

if TYPE_CHECKING:
    from pyiceberg.table import Table

DATASET = "materia.dataset"
SLICES = "materia.slices"
GENERATION = "materia.generation"
CREATED_AT = "materia.generation-created-at"
SHA256 = "materia.generation-sha256"
CODE_VERSION = "materia.code-version"
RELEASED_ON = "materia.newest-released-on"
CONTENT = "materia.content"


@dataclass(frozen=True)
class Published:
    """The generation whose rows a table of the catalog holds."""

    number: int
    created_at: datetime
    sha256: str
    newest_released_on: str
    slices: Mapping[str, str] | None = field(hash=False)
    """The fingerprint of each slice; None when unknown: then every slice is written."""


def snapshot_properties(generation: Generation, slices: Mapping[str, str]) -> dict[str, str]:
    """Return the properties of a commit's snapshot."""
    return {
        GENERATION: str(generation.number),
        CREATED_AT: generation.created_at.isoformat(),
        SHA256: generation.sha256,
        CODE_VERSION: generation.code_version,
        RELEASED_ON: str(generation.newest_released_on or ""),
        CONTENT: digest_of(slices),
    }


def published_of(table: "Table") -> Published | None:
    """Return the generation of our last commit; None before the first, or after a change of rows by another writer.

    Snapshots of the catalog's own compaction are skipped: they have other files and the same rows.
    """
    from pyiceberg.table.snapshots import Operation

    snapshot = table.current_snapshot()
    while snapshot and snapshot.summary and snapshot.summary.operation is Operation.REPLACE:
        parent = snapshot.parent_snapshot_id
        snapshot = table.snapshot_by_id(parent) if parent is not None else None
    properties = snapshot.summary.additional_properties if snapshot and snapshot.summary else {}
    try:
        slices = json.loads(table.properties.get(SLICES, "{}"))
        return Published(
            number=int(properties[GENERATION]),
            created_at=datetime.fromisoformat(properties[CREATED_AT]),
            sha256=properties[SHA256],
            newest_released_on=properties[RELEASED_ON],
            # They are stored once, in the table's properties, and hold for the snapshot with the same digest.
            slices=slices if digest_of(slices) == properties[CONTENT] else None,
        )
    except (KeyError, ValueError):
        return None


def check_replaceable(table: "Table", dataset: str, generation: Generation, known: Collection[str]) -> None:
    """Raise IcebergError unless the table is ours, of this dataset, not of a later generation, and writable.

    A later generation is replaced only when this host has it, too (its sha256 is in `known`): that is a rollback.
    """
    name = ".".join(table.name())
    found = table.properties.get(DATASET)
    if found is None:
        raise IcebergError(f"{name} was not created by Materia and is not changed; set another ICEBERG_NAMESPACE")
    if found != dataset:
        raise IcebergError(f"{name} serves {found}, not {dataset}; set another ICEBERG_NAMESPACE")
    published = published_of(table)
    if published and published.created_at > generation.created_at and published.sha256 not in known:
        raise IcebergError(
            f"{name} holds generation {published.number} of another host, created {published.created_at:%Y-%m-%d %H:%M}"
            f" UTC, later than generation {generation.number} here; it is not replaced; to publish from this host, "
            "update it first: materia run-all"
        )
    if table.location().startswith("s3") and "s3.access-key-id" not in table.io.properties:
        raise IcebergError(
            f"the catalog vends no credentials for {table.location()}; let its token write there, or turn on "
            "credential vending in the catalog"
        )
