"""The commit that replaces files, with manifests that do not pile up.

pyiceberg's own overwrite carries every manifest along for ever, also those whose files are all gone. Java's writer
drops these and merges small ones; its counterpart is in pyiceberg for appends only. This reaches into pyiceberg's
private parts, which is why its version is pinned.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyiceberg.manifest import ManifestFile
    from pyiceberg.table import Transaction
    from pyiceberg.table.update.snapshot import _OverwriteFiles

MANIFESTS_KEPT = 30
"""With so many, they are merged into one."""


def lean_overwrite(transaction: "Transaction", properties: Mapping[str, str]) -> "_OverwriteFiles":
    """An overwrite of the current snapshot, to be used as a context manager inside the transaction."""
    from pyiceberg.table.snapshots import Operation
    from pyiceberg.table.update.snapshot import _ManifestMergeManager, _OverwriteFiles

    class LeanOverwrite(_OverwriteFiles):
        def _process_manifests(self, manifests: list["ManifestFile"]) -> list["ManifestFile"]:
            alive = [each for each in manifests if _has_files(each) or each.added_snapshot_id == self._snapshot_id]
            merger = _ManifestMergeManager(
                target_size_bytes=8 << 20, min_count_to_merge=MANIFESTS_KEPT, merge_enabled=True, snapshot_producer=self
            )
            return merger.merge_manifests(alive)

    is_first = transaction.table_metadata.current_snapshot() is None
    return LeanOverwrite(
        operation=Operation.APPEND if is_first else Operation.OVERWRITE,
        transaction=transaction,
        io=transaction._table.io,
        snapshot_properties=dict(properties),
    )


def _has_files(manifest: "ManifestFile") -> bool:
    return bool(manifest.added_files_count or manifest.existing_files_count)
