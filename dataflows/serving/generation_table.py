"""`serving.generation`: the one row by which a database file says which generation it is."""

from datetime import UTC
from typing import TYPE_CHECKING

from dataflows.errors import ServingBrokenError
from dataflows.serving.generation import GenerationFacts

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_CREATE = """
CREATE OR REPLACE TABLE serving.generation (
    number BIGINT, created_at TIMESTAMP, code_version VARCHAR, duckdb_version VARCHAR, models_digest VARCHAR,
    snapshot_etags VARCHAR[], newest_released_on DATE, row_counts MAP(VARCHAR, BIGINT), forced_reason VARCHAR
)
"""
_COMMENTS = {
    "TABLE serving.generation": "One row: which generation this database is",
    "COLUMN serving.generation.created_at": "When it was built, UTC",
    "COLUMN serving.generation.snapshot_etags": "The snapshots in it, oldest first, as their ETags name them",
    "COLUMN serving.generation.row_counts": "Rows of every other table of this schema",
}


def write_generation_table(con: "DuckDBPyConnection", facts: GenerationFacts) -> None:
    """Write `serving.generation`, one row, into the current database of `con` (it has that schema)."""
    con.execute(_CREATE)
    con.execute(
        "INSERT INTO serving.generation VALUES (?, ?, ?, ?, ?, ?::VARCHAR[], ?, map(?::VARCHAR[], ?::BIGINT[]), ?)",
        [
            facts.number,
            facts.created_at.astimezone(UTC).replace(tzinfo=None),
            facts.code_version,
            facts.duckdb_version,
            facts.models_digest,
            list(facts.snapshots),
            facts.newest_released_on,
            list(facts.row_counts.keys()),
            list(facts.row_counts.values()),
            facts.forced_reason,
        ],
    )
    for target, comment in _COMMENTS.items():
        con.execute(f"COMMENT ON {target} IS '{comment}'")


def read_generation_table(con: "DuckDBPyConnection") -> GenerationFacts | None:
    """What the current database of `con` says it is; None without a `serving.generation` of our making.

    Raises ServingBrokenError when it cannot be read.
    """
    import duckdb

    try:
        row = con.execute(
            "SELECT number, created_at, code_version, duckdb_version, models_digest, snapshot_etags, "
            "newest_released_on, row_counts, forced_reason FROM serving.generation"
        ).fetchone()
    except (duckdb.CatalogException, duckdb.BinderException):
        return None
    except duckdb.Error as error:
        raise ServingBrokenError(f"the served file cannot be read: {error}; see `materia serving list`") from error
    if row is None:
        return None
    (
        number,
        created_at,
        code_version,
        duckdb_version,
        models_digest,
        snapshots,
        released_on,
        counts,
        reason,
    ) = row
    return GenerationFacts(
        number=number,
        created_at=created_at.replace(tzinfo=UTC),
        code_version=code_version,
        duckdb_version=duckdb_version,
        models_digest=models_digest,
        snapshots=tuple(snapshots),
        newest_released_on=released_on,
        row_counts=counts,
        forced_reason=reason,
    )
