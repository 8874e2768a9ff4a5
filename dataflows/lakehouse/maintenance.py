"""Maintain a DuckLake: merge small files, expire old snapshots, delete unused files."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from dataflows.errors import LakehouseError
from dataflows.lakehouse.ducklake import CATALOG, DuckLake

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

FILES_KEPT_FOR = timedelta(days=1)
"""Minimum time between the expiry of a file's last snapshot and its deletion: longer than any reader's query."""


@dataclass(frozen=True)
class CleanupResult:
    """How much was merged and removed."""

    files_merged: int
    """Data files that were replaced: small files merged, deleted rows dropped."""
    snapshots_expired: int
    files_removed: int


def clean_up(lake: DuckLake, now: datetime, kept_for: timedelta) -> CleanupResult:
    """Merge small files, expire snapshots older than `kept_for`, delete files unused for a day.

    Limits are whole days (UTC): nothing is removed early, and a day is removed at the end of the next. The newest
    snapshot always stays. The caller holds the lakehouse's lock. Raises LakehouseError.
    """
    import duckdb

    with duckdb.connect() as connection:
        lake.attach(connection, read_only=False)
        try:
            merged = _call_function(connection, "ducklake_merge_adjacent_files")
            rewritten = _call_function(connection, "ducklake_rewrite_data_files")
            expired = _call_function(connection, "ducklake_expire_snapshots", _end_of_day_before(now - kept_for))
            removed = _call_function(connection, "ducklake_cleanup_old_files", _end_of_day_before(now - FILES_KEPT_FOR))
        except duckdb.Error as error:
            raise LakehouseError(f"{lake} maintenance failed: {error}; the supervisor retries it") from error
    files_merged = sum(processed for _, _, processed, _ in (*merged, *rewritten))
    return CleanupResult(files_merged, len(expired), len(removed))


def _end_of_day_before(moment: datetime) -> datetime:
    """Return the end of the last whole day (UTC) before `moment`.

    With a SQLite catalog, DuckLake compares times as text in two formats (a space or a T before the hour), so times of
    the same day compare wrongly.
    """
    midnight = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight - timedelta(microseconds=1)


def _call_function(
    connection: "DuckDBPyConnection", function: str, older_than: datetime | None = None
) -> list[tuple[Any, ...]]:
    """Call a maintenance function of DuckLake; return its result rows."""
    age = f", older_than => TIMESTAMPTZ '{older_than.isoformat()}'" if older_than else ""
    return connection.execute(f"CALL {function}('{CATALOG}'{age})").fetchall()
