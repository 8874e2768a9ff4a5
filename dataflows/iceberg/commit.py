"""Bring a table of the catalog up to a generation, in one atomic commit."""

import json
import logging
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataflows.errors import IcebergConflictError
from dataflows.iceberg.catalog import CatalogAddress, catalog_errors
from dataflows.iceberg.change import Change, apply_to_columns, change_of, iceberg_type
from dataflows.iceberg.contents import SLICED_BY, WHOLE, Contents, write_slice
from dataflows.iceberg.manifests import lean_overwrite
from dataflows.iceberg.state import (
    DATASET,
    SLICES,
    check_credentials,
    check_forward,
    check_ours,
    published_of,
    snapshot_properties,
)
from dataflows.serving.generation import Generation

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from pyiceberg.catalog.rest import RestCatalog
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table, Transaction

ATTEMPTS = 3
_UPLOAD_BYTES = 8 << 20

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Publication:
    """The generation to publish, its dataset, and the work folder."""

    generation: Generation
    dataset: str
    known: Collection[str]
    """The sha256 of every generation that this host has."""
    work_dir: Path


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


def publish_table(
    catalog: "RestCatalog",
    address: CatalogAddress,
    connection: "DuckDBPyConnection",
    contents: Contents,
    publication: Publication,
    table: "Table | None",
) -> tuple["Table", Committed]:
    """Bring one table up to the generation; return the table and the size of the commit.

    `table` is the table as last loaded, None if it does not exist.

    Raises IcebergConflictError when another machine was faster each time or published something later, IcebergError
    for a table that is not ours, IcebergAccessError, IcebergUnavailableError. Then the table is as it was.
    """
    name = f"{address.namespace}.{contents.table}"
    with catalog_errors(f"{name} of {address.warehouse}"):
        table = table or _create_table_once(catalog, name, contents, publication.dataset)
        for attempt in range(ATTEMPTS):
            check_ours(table, publication.dataset)
            check_credentials(table)
            there = published_of(table)
            check_forward(name, there, publication.generation, publication.known)
            change = change_of(contents, table.schema(), there)
            try:
                return table, _commit_change(table, connection, contents, change, publication)
            except IcebergConflictError:
                if attempt == ATTEMPTS - 1:
                    raise
                log.info("another publisher was faster; looking again", extra={"table": name})
                table = catalog.load_table(name)
    raise AssertionError


def _create_table_once(catalog: "RestCatalog", name: str, contents: Contents, dataset: str) -> "Table":
    """Create the table, or load it when another publisher created it first."""
    from pyiceberg.exceptions import TableAlreadyExistsError

    try:
        return _create_table(catalog, name, contents, dataset)
    except TableAlreadyExistsError:
        return catalog.load_table(name)


def _create_table(catalog: "RestCatalog", name: str, contents: Contents, dataset: str) -> "Table":
    from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionField, PartitionSpec
    from pyiceberg.schema import Schema
    from pyiceberg.transforms import IdentityTransform
    from pyiceberg.types import NestedField

    fields = [
        NestedField(field_id, column.name, iceberg_type(column.kind), required=False, doc=column.comment)
        for field_id, column in enumerate(contents.columns, 1)
    ]
    spec = UNPARTITIONED_PARTITION_SPEC
    if (sliced_by := SLICED_BY.get(contents.table)) is not None:
        source = next(field.field_id for field in fields if field.name == sliced_by)
        spec = PartitionSpec(PartitionField(source, 1000, IdentityTransform(), sliced_by))
    properties = {
        DATASET: dataset,
        "comment": contents.comment or "",
        # No automatic retry on top of another commit: the change must be computed again.
        "commit.retry.num-retries": "0",
        "write.metadata.delete-after-commit.enabled": "true",
        "write.metadata.previous-versions-max": "10",
    }
    return catalog.create_table(name, Schema(*fields), partition_spec=spec, properties=properties)


def _commit_change(
    table: "Table",
    connection: "DuckDBPyConnection",
    contents: Contents,
    change: Change,
    publication: Publication,
) -> Committed:
    """Commit the change, if any; delete the uploaded files when the commit is rejected."""
    if not change.of_columns and not change.of_rows:
        return Committed()
    written: list[DataFile] = []
    with _remove_files_if_lost(table, written):
        transaction = table.transaction()
        if change.of_columns:
            with transaction.update_schema(allow_incompatible_changes=True) as update:
                apply_to_columns(change, update)
        if change.of_rows:
            transaction.set_properties({SLICES: json.dumps(dict(contents.slices), sort_keys=True)})
            for key in sorted(change.written_slices):
                written.append(_upload_slice(transaction, connection, contents, key, publication))
            properties = snapshot_properties(publication.generation, contents.digest)
            with lean_overwrite(transaction, properties) as overwrite:
                for gone in _files_of(table, change):
                    overwrite.delete_data_file(gone)
                for data_file in written:
                    overwrite.append_data_file(data_file)
        transaction.commit_transaction()
    return Committed(
        slices=len(change.written_slices | change.dropped_slices) or int(change.of_rows),
        rows=sum(data_file.record_count for data_file in written),
        size_bytes=sum(data_file.file_size_in_bytes for data_file in written),
        columns_changed=change.of_columns,
    )


@contextmanager
def _remove_files_if_lost(table: "Table", written: list["DataFile"]) -> Iterator[None]:
    """Delete the uploaded files when the catalog rejects the commit.

    After any other failure the outcome is unknown: the files stay, and `maintenance` deletes unreferenced ones.
    """
    from pyiceberg.exceptions import CommitFailedException, ValidationException

    try:
        yield
    except (CommitFailedException, ValidationException) as error:
        for data_file in written:
            table.io.delete(data_file.file_path)
        raise IcebergConflictError(
            f"{'.'.join(table.name())} was changed by another publisher meanwhile; "
            "the next run publishes what is still missing, or now: materia iceberg publish"
        ) from error


def _files_of(table: "Table", change: Change) -> Iterator["DataFile"]:
    """Yield the data files that the change drops."""
    if table.current_snapshot() is None:
        return
    for task in table.scan().plan_files():
        if change.everything or _slice_of(task.file, table) in change.dropped_slices:
            yield task.file


def _slice_of(data_file: "DataFile", table: "Table") -> str:
    """Return the slice of a file: its partition value in DuckDB's notation."""
    spec = table.specs()[data_file.spec_id]
    if spec.is_unpartitioned():
        return WHOLE
    (field,) = spec.fields
    kind = table.schema().find_type(field.source_id)
    return str(field.transform.to_human_string(kind, data_file.partition[0]))


def _upload_slice(
    transaction: "Transaction",
    connection: "DuckDBPyConnection",
    contents: Contents,
    key: str,
    publication: Publication,
) -> "DataFile":
    """Write a slice to disk, upload it, and return its manifest entry."""
    from pyiceberg.table.locations import load_location_provider

    metadata, io = transaction.table_metadata, transaction._table.io
    local = publication.work_dir / f"{contents.table}.parquet"
    ids = {field.name: field.field_id for field in metadata.schema().fields}
    write_slice(connection, contents, key, ids, local)
    name = f"{publication.generation.number:06d}-{key}-{uuid.uuid4()}.parquet"
    path = load_location_provider(metadata.location, metadata.properties).new_data_location(name)
    described = _describe_file(local, path, metadata)
    with local.open("rb") as source, io.new_output(path).create() as target:
        while block := source.read(_UPLOAD_BYTES):
            target.write(block)
    local.unlink()
    return described


def _describe_file(local: Path, path: str, metadata: Any) -> "DataFile":
    """Build the manifest entry of a Parquet file: partition, row count, column bounds."""
    from pyarrow import parquet
    from pyiceberg.io.pyarrow import (
        compute_statistics_plan,
        data_file_statistics_from_parquet_metadata,
        parquet_path_to_id_mapping,
    )
    from pyiceberg.manifest import DataFile, DataFileContent, FileFormat

    schema = metadata.schema()
    statistics = data_file_statistics_from_parquet_metadata(
        parquet_metadata=parquet.read_metadata(local),
        stats_columns=compute_statistics_plan(schema, metadata.properties),
        parquet_column_mapping=parquet_path_to_id_mapping(schema),
    )
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=statistics.partition(metadata.spec(), schema),
        file_size_in_bytes=local.stat().st_size,
        sort_order_id=None,
        spec_id=metadata.default_spec_id,
        equality_ids=None,
        key_metadata=None,
        **statistics.to_serialized_dict(),
    )
