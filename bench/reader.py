"""How much the swap-aware reader adds to a bare cursor.

`uv run python -m bench.reader` prints the figures as JSON.
"""

import json
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import duckdb

from dataflows.serving import ServingReader
from dataflows.serving.generation import GenerationFacts
from dataflows.serving.store import ServingStore

QUERY = "SELECT min(value), max(value) FROM serving.fct_psd"
ROUNDS = 5
QUERIES = 1500
PRUNE_EVERY = 50


class Publisher:
    """Publishes generations as small as they get; every row of `fct_psd` says its generation's number."""

    def __init__(self, serving_path: Path) -> None:
        self.store = ServingStore(serving_path)
        self._con = duckdb.connect(":memory:")
        self._next = 1

    def publish(self) -> int:
        """Build the next generation and serve it; now and then remove old ones. Returns its number."""
        number = self.build()
        self.serve(number)
        if number % PRUNE_EVERY == 0:
            self.store.prune()
        return number

    def build(self) -> int:
        """Build the next generation, in a file that has no readers yet."""
        number, self._next = self._next, self._next + 1
        path = self.store.building_path(number)
        self._con.execute(f"ATTACH '{path}' AS built")
        self._con.execute("CREATE SCHEMA built.serving")
        self._con.execute(f"CREATE TABLE built.serving.fct_psd AS SELECT {number} AS value FROM range(100)")
        self._con.execute("DETACH built")
        return number

    def serve(self, number: int) -> None:
        """Publish what was built."""
        self.store.publish(self.store.building_path(number), _facts(number))


def overhead(directory: Path, rounds: int = ROUNDS, queries: int = QUERIES) -> dict[str, float]:
    """Microseconds per query, bare and through the reader, in turns so that both meet the same noise.

    The median of several rounds, because the 99th percentile of one is mostly noise on a busy machine.
    """
    publisher = Publisher(directory / "serving.duckdb")
    publisher.publish()
    with ServingReader(publisher.store.serving_path) as reader, reader.cursor() as (cursor, _):
        outcomes = [_round(reader, cursor, queries) for _ in range(rounds)]
    return {name: round(median(outcome[name] for outcome in outcomes), 1) for name in outcomes[0]}


def _round(reader: ServingReader, cursor: duckdb.DuckDBPyConnection, queries: int) -> dict[str, float]:
    ways = {
        "bare": lambda: cursor.execute(QUERY).to_arrow_table(),
        "reader": lambda: reader.query(QUERY),
        "reader_with_timeout": lambda: reader.query(QUERY, timeout_s=60.0),
    }
    taken_us: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(queries):
        for way, run in ways.items():
            taken_us[way].append(_microseconds(run))
    figures: dict[str, float] = {}
    for name, percent in (("p50", 50), ("p99", 99)):
        at = {way: sorted(taken)[percent * (queries - 1) // 100] for way, taken in taken_us.items()}
        figures |= {f"{way}_{name}_us": value for way, value in at.items()}
        figures |= {f"{way}_adds_{name}_us": at[way] - at["bare"] for way in ways if way != "bare"}
    return figures


def measure() -> dict[str, float]:
    """Microseconds of a query, in a directory of its own; what swaps do to answers measures `bench.swaps`."""
    with tempfile.TemporaryDirectory() as directory:
        return overhead(Path(directory))


def _microseconds(action: Callable[[], object]) -> float:
    began = time.perf_counter_ns()
    action()
    return (time.perf_counter_ns() - began) / 1000


def _facts(number: int) -> GenerationFacts:
    return GenerationFacts(
        number=number,
        created_at=datetime.now(UTC),
        code_version="bench",
        duckdb_version=duckdb.__version__,
        models_digest="",
        snapshots=(),
        newest_released_on=None,
        row_counts={"fct_psd": 100},
        forced_reason=None,
    )


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
