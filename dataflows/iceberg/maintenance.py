"""Expire replaced snapshots and delete unreferenced files.

pyiceberg expires snapshots and keeps their files. A publisher that was killed leaves files that no snapshot references.
Both are deleted here once they are too old to belong to a running commit.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyiceberg.table import Table

MIN_FILE_AGE = timedelta(days=1)
"""A younger file may belong to a running commit."""


def remove_unneeded(table: "Table", now: datetime, keep: timedelta) -> tuple[int, int]:
    """Expire snapshots replaced longer than `keep` ago, then delete unreferenced files; return how many of each.

    The current snapshot and those of branches and tags stay.
    """
    protected = {reference.snapshot_id for reference in table.refs().values()}
    snapshots = sorted(table.snapshots(), key=lambda snapshot: snapshot.sequence_number or 0)
    # Not `older_than()`: it compares when a snapshot was committed, and would expire one that was replaced just now.
    expired = [
        snapshot.snapshot_id
        for snapshot, successor in pairwise(snapshots)
        if successor.timestamp_ms < (now - keep).timestamp() * 1000 and snapshot.snapshot_id not in protected
    ]
    if expired:
        table.maintenance.expire_snapshots().by_ids(expired).commit()
    referenced = set(_list_referenced(table))
    unreferenced = [path for path in _list_files_before(table, now - MIN_FILE_AGE) if path not in referenced]
    for path in unreferenced:
        table.io.delete(path)
    return len(expired), len(unreferenced)


def _list_referenced(table: "Table") -> Iterator[str]:
    """Yield every data file, manifest and manifest list of the table's snapshots."""
    manifests = set()
    for snapshot in table.snapshots():
        yield snapshot.manifest_list
        manifests.update(snapshot.manifests(table.io))
    for manifest in manifests:
        yield manifest.manifest_path
        yield from (entry.data_file.file_path for entry in manifest.fetch_manifest_entry(table.io))


def _list_files_before(table: "Table", before: datetime) -> Iterator[str]:
    """Yield the table's data files, manifests and manifest lists that were written before `before`.

    Metadata files are left to the catalog, which knows which of them it still serves.
    """
    from pyarrow.fs import FileSelector, FileType
    from pyiceberg.io.pyarrow import PyArrowFileIO

    assert isinstance(table.io, PyArrowFileIO)  # as `open_catalog` configures it
    scheme, _, root = table.location().partition("://")
    file_system = table.io.fs_by_scheme(scheme, root.partition("/")[0])  # with the vended credentials
    for folder in ("data", "metadata"):
        for found in file_system.get_file_info(FileSelector(f"{root}/{folder}", allow_not_found=True, recursive=True)):
            is_ours = found.type is FileType.File and found.path.endswith((".parquet", ".avro"))
            if is_ours and found.mtime is not None and found.mtime < before:
                yield f"{scheme}://{found.path}"
