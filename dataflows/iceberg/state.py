"""Read which generation and slices a table of the catalog holds, and check that it may be replaced."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from dataflows.errors import IcebergAccessError, IcebergConflictError, IcebergError
from dataflows.iceberg.contents import digest_of
from dataflows.serving.generation import Generation

if TYPE_CHECKING:
    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot

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
    """The fingerprint of each slice; None when unknown; then everything is rewritten."""


def snapshot_properties(generation: Generation, digest: str) -> dict[str, str]:
    """Return the snapshot properties of a commit."""
    return {
        GENERATION: str(generation.number),
        CREATED_AT: generation.created_at.isoformat(),
        SHA256: generation.sha256,
        CODE_VERSION: generation.code_version,
        RELEASED_ON: str(generation.newest_released_on or ""),
        CONTENT: digest,
    }


def published_of(table: "Table") -> Published | None:
    """Return the generation of our last commit; None before the first, or after a foreign change of rows.

    Snapshots of the catalog's own compaction are skipped: they only rewrite files.
    """
    snapshot = table.current_snapshot()
    while snapshot is not None and CONTENT not in _properties_of(snapshot) and _only_replaces(snapshot):
        parent = snapshot.parent_snapshot_id
        snapshot = table.snapshot_by_id(parent) if parent is not None else None
    properties = _properties_of(snapshot) if snapshot is not None else {}
    try:
        slices = json.loads(table.properties.get(SLICES, "{}"))
        return Published(
            number=int(properties[GENERATION]),
            created_at=datetime.fromisoformat(properties[CREATED_AT]),
            sha256=properties[SHA256],
            newest_released_on=properties[RELEASED_ON],
            # Stored once, in the table's properties; valid only for the snapshot with the same digest.
            slices=slices if digest_of(slices) == properties[CONTENT] else None,
        )
    except (KeyError, ValueError):
        return None


def check_credentials(table: "Table") -> None:
    """Raise IcebergAccessError unless the catalog vended credentials; credentials of this machine are not used."""
    if table.location().startswith("s3") and "s3.access-key-id" not in table.io.properties:
        raise IcebergAccessError(
            f"the catalog vends no credentials for {table.location()}; allow its token to write there, or turn "
            "credential vending on in the catalog"
        )


def check_ours(table: "Table", dataset: str) -> None:
    """Raise IcebergError for a table that Materia did not create or that holds another dataset."""
    found = table.properties.get(DATASET)
    name = ".".join(table.name())
    if found is None:
        raise IcebergError(
            f"{name} was not created by Materia and is not touched; set ICEBERG_NAMESPACE to another one"
        )
    if found != dataset:
        raise IcebergError(f"{name} serves {found}, not {dataset}; set ICEBERG_NAMESPACE to another one")


def check_forward(name: str, there: Published | None, generation: Generation, known: Collection[str]) -> None:
    """Raise IcebergConflictError when a table holds a later generation that this host (`known`) never had."""
    if there is not None and there.created_at > generation.created_at and there.sha256 not in known:
        raise IcebergConflictError(
            f"{name} holds generation {there.number} of another host, created {there.created_at:%Y-%m-%d %H:%M} UTC, "
            f"later than generation {generation.number} here; it stays. To publish from this host, bring it "
            "up to date first: materia run-all"
        )


def _properties_of(snapshot: "Snapshot") -> Mapping[str, str]:
    return snapshot.summary.additional_properties if snapshot.summary else {}


def _only_replaces(snapshot: "Snapshot") -> bool:
    from pyiceberg.table.snapshots import Operation

    return snapshot.summary is not None and snapshot.summary.operation is Operation.REPLACE
