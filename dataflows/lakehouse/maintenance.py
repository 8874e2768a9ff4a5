"""Looking after a DuckLake: small files become large ones, and what was replaced long enough ago goes."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from dataflows.errors import LakehouseError
from dataflows.lakehouse.ducklake import CATALOG, DuckLake

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

FILES_KEPT_FOR = timedelta(days=1)
"""How long a file stays at least after the last snapshot that needs it has gone: longer than any reader's query."""


@dataclass(frozen=True)
class Cared:
    """What was done."""

    files_merged: int
    """Data files in whose place others were written: small ones together, or without the rows deleted from them."""
    snapshots_expired: int
    files_removed: int


def care(lake: DuckLake, now: datetime, kept_for: timedelta) -> Cared:
    """Merge what is small, forget snapshots older than `kept_for`, remove files that nothing has needed for a day.

    What goes is of whole days (UTC): nothing goes earlier than said, and all of a day at the end of the next. The
    newest snapshot always stays. The caller holds the lakehouse's lock. Raises LakehouseError.
    """
    import duckdb

    with duckdb.connect() as connection:
        lake.attach(connection, read_only=False)
        try:
            merged = _called(connection, "ducklake_merge_adjacent_files")
            rewritten = _called(connection, "ducklake_rewrite_data_files")
            expired = _called(connection, "ducklake_expire_snapshots", _end_of_day_before(now - kept_for))
            removed = _called(connection, "ducklake_cleanup_old_files", _end_of_day_before(now - FILES_KEPT_FOR))
        except duckdb.Error as error:
            raise LakehouseError(f"{lake} could not be looked after: {error}; it is tried again") from error
    files_merged = sum(processed for _, _, processed, _ in (*merged, *rewritten))
    return Cared(files_merged, len(expired), len(removed))


def _end_of_day_before(moment: datetime) -> datetime:
    """The end of the last whole day (UTC) before it.

    Where the catalog is SQLite, DuckLake compares times as texts, of which one has a space before the hour and the
    other a T: whatever is of the same day it takes for older, if it is younger by hours.
    """
    midnight = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight - timedelta(microseconds=1)


def _called(
    connection: "DuckDBPyConnection", function: str, older_than: datetime | None = None
) -> list[tuple[Any, ...]]:
    """What a function of the DuckLake says of each thing that it did."""
    age = f", older_than => TIMESTAMPTZ '{older_than.isoformat()}'" if older_than else ""
    return connection.execute(f"CALL {function}('{CATALOG}'{age})").fetchall()
