"""Tiny real generations for the tests of the serving store and the reader."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb

from dataflows.serving.generation import Generation, GenerationFacts
from dataflows.serving.generation_table import write_generation_table
from dataflows.serving.store import ServingStore

ROWS = 100
HEADER_BYTES, BLOCK_BYTES = 3 * 4096, 1 << 18
"""Of a DuckDB file."""


def facts_of(number: int, rows: int = ROWS) -> GenerationFacts:
    return GenerationFacts(
        number=number,
        created_at=datetime(2025, 11, 14, 17, 30, number % 60, 123456, tzinfo=UTC),
        code_version="abc1234",
        duckdb_version=duckdb.__version__,
        models_digest="d1ge57",
        snapshots=("one", "two"),
        newest_released_on=date(2025, 11, 14),
        row_counts={"fct_psd": rows},
        forced_reason=None,
    )


def write_database(path: Path, number: int, rows: int = ROWS) -> GenerationFacts:
    """A database whose every row of `fct_psd` says `number`, with the as-of macro."""
    facts = facts_of(number, rows)
    con = duckdb.connect(":memory:")
    con.execute(f"ATTACH '{path}' AS built")
    con.execute("USE built")
    con.execute("CREATE SCHEMA serving")
    con.execute(f"CREATE TABLE serving.fct_psd AS SELECT {number} AS value, i FROM range({rows}) AS r(i)")
    con.execute("CREATE MACRO serving.psd_asof(day) AS TABLE SELECT *, day AS asked FROM serving.fct_psd")
    write_generation_table(con, facts)
    con.execute("CHECKPOINT built")
    con.close()
    return facts


def publish(store: ServingStore, rows: int = ROWS) -> Generation:
    """Build and publish the next generation."""
    number = store.next_number()
    facts = write_database(store.building_path(number), number, rows)
    return store.publish(store.building_path(number), facts)


def published_store(directory: Path, generations: int = 1) -> ServingStore:
    store = ServingStore(directory / "serving.duckdb")
    for _ in range(generations):
        publish(store)
    return store


@contextmanager
def damaged_blocks(path: Path) -> Iterator[None]:
    """The file with each of its blocks damaged, which neither its size nor its times show."""
    path = path.resolve()
    whole, status = path.read_bytes(), path.stat()
    path.chmod(0o644)  # a generation is read-only, which holds everybody but root back
    damaged = bytearray(whole)
    for at in range(HEADER_BYTES, len(whole), BLOCK_BYTES):
        damaged[at] ^= 0xFF
    for content in (damaged, whole):
        with path.open("r+b") as file:
            file.write(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        if content is damaged:
            yield
