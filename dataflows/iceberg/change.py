"""What has to change in a table of the catalog so that it holds what a generation holds."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dataflows.iceberg.contents import Column, Contents
from dataflows.iceberg.state import Published

if TYPE_CHECKING:
    from pyiceberg.schema import Schema
    from pyiceberg.table.update.schema import UpdateSchema
    from pyiceberg.types import PrimitiveType


@dataclass(frozen=True)
class Change:
    """Columns and slices that differ. A retyped column is one whose type cannot be widened to the new one."""

    added: tuple[Column, ...]
    removed: tuple[str, ...]
    widened: tuple[Column, ...]
    retyped: tuple[Column, ...]
    commented: tuple[Column, ...]
    everything: bool
    """Whether every file there goes, whatever slice it holds."""
    dropped_slices: frozenset[str]
    """Slices whose files go; those that the generation has are rewritten."""
    written_slices: frozenset[str]

    @property
    def of_columns(self) -> bool:
        return bool(self.added or self.removed or self.widened or self.retyped or self.commented)

    @property
    def of_rows(self) -> bool:
        return self.everything or bool(self.dropped_slices or self.written_slices)


def change_of(contents: Contents, schema: "Schema", there: Published | None) -> Change:
    """Compare a generation's table with the catalog's."""
    from pyiceberg.exceptions import ResolveError
    from pyiceberg.schema import promote

    fields = {field.name: field for field in schema.fields}
    wanted = {column.name: column for column in contents.columns}
    differing = [column for column in contents.columns if column.name in fields]
    widened, retyped = [], []
    for column in differing:
        kind, field = iceberg_type(column.kind), fields[column.name]
        if field.field_type == kind:
            continue
        try:
            promote(field.field_type, kind)
            widened.append(column)
        except ResolveError:
            retyped.append(column)
    added = tuple(column for column in contents.columns if column.name not in fields)
    # Files that were written without a column, or with one of another type, cannot stand for rows that have it.
    known = None if there is None or added or retyped else there.slices
    everything, known = known is None, known or {}
    changed = {key for key in {*known, *contents.slices} if known.get(key) != contents.slices.get(key)}
    return Change(
        added=added,
        removed=tuple(name for name in fields if name not in wanted),
        widened=tuple(widened),
        retyped=tuple(retyped),
        commented=tuple(
            column for column in differing if (fields[column.name].doc or None) != (column.comment or None)
        ),
        everything=everything,
        dropped_slices=frozenset(changed & known.keys()),
        written_slices=frozenset(changed & contents.slices.keys()),
    )


def iceberg_type(kind: str) -> "PrimitiveType":
    """The type that Iceberg knows under that name."""
    from pyiceberg import types

    if kind.startswith("decimal"):
        precision, scale = (int(part) for part in kind.removeprefix("decimal(").removesuffix(")").split(", "))
        return types.DecimalType(precision, scale)
    referenced = (
        types.BooleanType,
        types.IntegerType,
        types.LongType,
        types.FloatType,
        types.DoubleType,
        types.DateType,
        types.TimestampType,
        types.StringType,
    )
    return next(each() for each in referenced if str(each()) == kind)


def apply_to_columns(change: Change, update: "UpdateSchema") -> None:
    """Bring a table's columns up to date, in a transaction."""
    for name in (*change.removed, *(column.name for column in change.retyped)):
        update.delete_column(name)
    for column in (*change.added, *change.retyped):
        update.add_column(column.name, iceberg_type(column.kind), doc=column.comment)
    for column in change.widened:
        update.update_column(column.name, iceberg_type(column.kind))
    for column in change.commented:
        if column not in change.retyped:
            update.update_column(column.name, doc=column.comment or "")
