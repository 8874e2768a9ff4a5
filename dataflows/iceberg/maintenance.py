"""Expire replaced snapshots and delete unreferenced files.

pyiceberg expires snapshots and leaves their files. A publisher that was killed, or whose commit ended unknown, leaves
files that no snapshot references. Both are deleted here, once they are too old to belong to a running commit.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyiceberg.table import Table

MIN_FILE_AGE = timedelta(days=1)
"""A younger file may belong to a running commit."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CleanupResult:
    """How much was removed."""

    snapshots: int = 0
    files: int = 0


def remove_unneeded(
    table: "Table", now: datetime, keep: timedelta, min_file_age: timedelta = MIN_FILE_AGE
) -> CleanupResult:
    """Expire the snapshots that were replaced longer than `keep` ago, then delete the unreferenced files.

    The current snapshot always stays, and so does what a branch or a tag holds.
    """
    expired = _expirable(table, now - keep)
    if expired:
        table.maintenance.expire_snapshots().by_ids(expired).commit()
    referenced = set(_referenced_files(table))
    gone = [path for path in _list_files_before(table, now - min_file_age) if path not in referenced]
    for path in gone:
        table.io.delete(path)
    if expired or gone:
        log.info("cleaned up", extra={"table": table.name()[-1], "snapshots": len(expired), "files": len(gone)})
    return CleanupResult(len(expired), len(gone))


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


def _referenced_files(table: "Table") -> Iterator[str]:
    """Yield every file that the table's metadata references."""
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


def _list_files_before(table: "Table", before: datetime) -> Iterator[str]:
    """Yield the addresses of the table's data files and manifests that were written before `before`.

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
