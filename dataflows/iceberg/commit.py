"""Bring a table of the catalog up to a generation, in one atomic commit."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dataflows.iceberg.contents import Contents, read_slice
from dataflows.iceberg.published import DATASET, SLICES, published_of, snapshot_properties
from dataflows.serving.generation import Generation
from dataflows.sql_text import literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from pyiceberg.catalog.rest import RestCatalog
    from pyiceberg.io import FileIO
    from pyiceberg.manifest import DataFile
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table, Transaction
    from pyiceberg.table.update.schema import UpdateSchema

MAX_MANIFESTS = 30
"""With more manifests, a commit merges them into one."""

_WRITE_PROPERTIES = {
    # pyiceberg would repeat a rejected commit on top of the other one; the difference must be computed again.
    "commit.retry.num-retries": "0",
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "2",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "10",
    "write.parquet.row-group-limit": "40960",  # small enough that readers skip most of a file
}


@dataclass(frozen=True)
class Committed:
    """The size of a commit; all zero when nothing changed."""

    slices: int = 0
    rows: int = 0
    size_bytes: int = 0
    columns_changed: bool = False

    @property
    def changed(self) -> bool:
        return self.slices > 0 or self.columns_changed

    def __str__(self) -> str:
        if not self.changed:
            return "unchanged"
        columns = ", columns changed" if self.columns_changed else ""
        slices = f"{self.slices} slice{'' if self.slices == 1 else 's'}"
        return f"{slices}, {self.rows:,} rows, {self.size_bytes:,} bytes{columns}"


def create_table(catalog: "RestCatalog", name: str, contents: Contents, dataset: str) -> "Table":
    """Create the table without rows, or load it when another publisher created it first."""
    from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionField, PartitionSpec
    from pyiceberg.transforms import IdentityTransform

    spec = UNPARTITIONED_PARTITION_SPEC
    if contents.sliced_by:
        source = contents.schema.find_field(contents.sliced_by).field_id
        spec = PartitionSpec(PartitionField(source, 1000, IdentityTransform(), contents.sliced_by))
    properties = {**_WRITE_PROPERTIES, DATASET: dataset, "comment": contents.comment}
    return catalog.create_table_if_not_exists(name, contents.schema, partition_spec=spec, properties=properties)


def commit_changes(
    table: "Table", connection: "DuckDBPyConnection", contents: Contents, generation: Generation
) -> Committed:
    """Write the changed slices and columns in one commit; return its size.

    Raises pyiceberg's CommitFailedException or ValidationException when another publisher was faster. Then the table
    is unchanged and the written files are deleted. After any other failure the outcome is unknown: the files stay, and
    `maintenance` deletes unreferenced ones.
    """
    from pyiceberg.exceptions import CommitFailedException, ValidationException

    published = published_of(table)
    recorded = published.slices if published else None
    known = recorded or {}
    changed = {key for key in {*known, *contents.slices} if known.get(key) != contents.slices.get(key)}
    columns_changed = _described(table.schema()) != _described(contents.schema)
    rows_changed = recorded is None or bool(changed)
    transaction = table.transaction()
    written: list[DataFile] = []
    try:
        if columns_changed:
            with transaction.update_schema(allow_incompatible_changes=True) as update:
                _update_columns(update, table.schema(), contents.schema)
        if rows_changed:
            for key in sorted(changed & contents.slices.keys()):
                written.extend(write_slice(transaction, table.io, connection, contents, key))
            is_partial = contents.sliced_by and recorded is not None
            scan = table.scan(f"{contents.sliced_by} IN ({', '.join(map(literal, changed))})" if is_partial else "true")
            properties = snapshot_properties(generation, contents.slices)
            transaction.set_properties({**_WRITE_PROPERTIES, SLICES: json.dumps(dict(contents.slices), sort_keys=True)})
            # Not `Transaction.overwrite`: it stages two snapshots, and the first lacks the replaced rows. A catalog
            # that keeps it in the table's history shows it to a query of that moment.
            with transaction.update_snapshot(snapshot_properties=properties).overwrite() as overwrite:
                for task in scan.plan_files():
                    overwrite.delete_data_file(task.file)
                for data_file in written:
                    overwrite.append_data_file(data_file)
            _merge_manifests(transaction, table.io, properties)
        transaction.commit_transaction()
    except (CommitFailedException, ValidationException):
        for data_file in written:
            table.io.delete(data_file.file_path)
        raise
    return Committed(
        slices=len(changed) or int(rows_changed),
        rows=sum(data_file.record_count for data_file in written),
        size_bytes=sum(data_file.file_size_in_bytes for data_file in written),
        columns_changed=columns_changed,
    )


def write_slice(
    transaction: "Transaction", io: "FileIO", connection: "DuckDBPyConnection", contents: Contents, key: str
) -> Iterator["DataFile"]:
    """Upload the rows of a slice, a file per batch, so that memory stays bounded.

    `Transaction.append` accepts no reader for a partitioned table, and a whole slice takes too much memory.
    """
    from pyiceberg.expressions import literals
    from pyiceberg.io.pyarrow import pyarrow_to_schema, write_file
    from pyiceberg.partitioning import PartitionFieldValue, PartitionKey
    from pyiceberg.table import WriteTask

    metadata = transaction.table_metadata
    schema, spec = metadata.schema(), metadata.spec()
    kinds = {column: schema.find_type(column.source_id) for column in spec.fields}
    values = [PartitionFieldValue(column, literals.literal(key).to(kind).value) for column, kind in kinds.items()]
    partition = PartitionKey(values, spec, schema) if values else None
    batches = read_slice(connection, contents, key)
    batch_schema = pyarrow_to_schema(batches.schema, schema.name_mapping)
    write_id = uuid.uuid4()
    for number, batch in enumerate(batches):
        task = WriteTask(write_id, number, batch_schema, [batch], partition_key=partition)
        yield from write_file(io, metadata, iter([task]))


def _merge_manifests(transaction: "Transaction", io: "FileIO", properties: dict[str, str]) -> None:
    """Stage a second snapshot of the same files with one manifest, when there are too many.

    An overwrite keeps manifests that list only deleted files. An append, here of no rows, drops them and merges.
    """
    snapshot = transaction.table_metadata.current_snapshot()
    if snapshot and len(snapshot.manifests(io)) > MAX_MANIFESTS:
        transaction.update_snapshot(snapshot_properties=properties).merge_append().commit()


def _described(schema: "Schema") -> dict[str, tuple[str, str]]:
    return {field.name: (str(field.field_type), field.doc or "") for field in schema.fields}


def _update_columns(update: "UpdateSchema", old: "Schema", new: "Schema") -> None:
    """Bring the columns up to date. A column of another type is a new column with the same name."""
    before, after = _described(old), _described(new)
    kept = {name for name in before if name in after and before[name][0] == after[name][0]}
    for name in before.keys() - kept:
        update.delete_column(name)
    for field in new.fields:
        if field.name not in kept:
            update.add_column(field.name, field.field_type, doc=field.doc)
        elif before[field.name] != after[field.name]:
            update.update_column(field.name, doc=field.doc or "")
