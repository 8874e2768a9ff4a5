"""Letting go of what nobody needs: replaced snapshots after a while, and the files that no snapshot names any more.

pyiceberg expires snapshots and leaves their files; a publisher that was killed, or never heard how its commit ended,
leaves files that no snapshot ever named. Both go here, and only when they are old enough to be nobody's work in hand.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyiceberg.table import Table

IN_HAND = timedelta(days=1)
"""A file younger than this may belong to a commit that is under way."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cared:
    """What went."""

    snapshots: int = 0
    files: int = 0


def care_for(table: "Table", now: datetime, keep: timedelta, in_hand: timedelta = IN_HAND) -> Cared:
    """Expire the snapshots that were replaced longer than `keep` ago, then delete the files that no snapshot names.

    The current snapshot always stays, and so does what a branch or a tag holds.
    """
    expired = _expirable(table, now - keep)
    if expired:
        table.maintenance.expire_snapshots().by_ids(expired).commit()
    named = set(_named(table))
    gone = [path for path in _lying_there(table, now - in_hand) if path not in named]
    for path in gone:
        table.io.delete(path)
    if expired or gone:
        log.info("cleaned up", extra={"table": table.name()[-1], "snapshots": len(expired), "files": len(gone)})
    return Cared(len(expired), len(gone))


def _expirable(table: "Table", before: datetime) -> list[int]:
    """Snapshots that had been replaced by then: one is needed from its commit until its successor's."""
    held = {reference.snapshot_id for reference in table.metadata.refs.values()}
    snapshots = sorted(table.snapshots(), key=lambda snapshot: snapshot.sequence_number or 0)
    limit_ms = before.timestamp() * 1000
    return [
        snapshot.snapshot_id
        for snapshot, successor in pairwise(snapshots)
        if successor.timestamp_ms < limit_ms and snapshot.snapshot_id not in held
    ]


def _named(table: "Table") -> Iterator[str]:
    """Every file that the table's metadata leads to."""
    yield table.metadata_location
    yield from (entry.metadata_file for entry in table.metadata.metadata_log)
    for statistics in table.metadata.statistics:
        yield statistics.statistics_path
    read: set[str] = set()
    for snapshot in table.snapshots():
        yield snapshot.manifest_list
        for manifest in snapshot.manifests(table.io):
            if manifest.manifest_path in read:
                continue
            read.add(manifest.manifest_path)
            yield manifest.manifest_path
            for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
                yield entry.data_file.file_path


def _lying_there(table: "Table", before: datetime) -> Iterator[str]:
    """The addresses of the table's data files and manifests that were written before then.

    Metadata files are left to the catalog: it alone knows which of them it may still serve.
    """
    from pyarrow.fs import FileSelector, FileType
    from pyiceberg.io.pyarrow import PyArrowFileIO

    assert isinstance(table.io, PyArrowFileIO)  # as `open_catalog` configures it
    scheme, _, root = table.location().partition("://")
    # With the credentials that the catalog vended for this table.
    file_system = table.io.fs_by_scheme(scheme, root.partition("/")[0])
    for folder in ("data", "metadata"):
        selector = FileSelector(f"{root}/{folder}", allow_not_found=True, recursive=True)
        for found in file_system.get_file_info(selector):
            is_ours = found.type is FileType.File and found.path.endswith((".parquet", ".avro"))
            if is_ours and found.mtime is not None and found.mtime < before:
                yield f"{scheme}://{found.path}"
