"""A sandbox: stopping the query that it has just been asked, and a served file that fails."""

import time
from pathlib import Path

import pytest

from dataflows.errors import QueryError, QueryTimeoutError, ServingBrokenError
from dataflows.serving.sandbox import Sandbox
from dataflows.serving.store import ServingStore
from tests.dataflows.serving.building import damaged_blocks, publish, published_store

ENDLESS = "SELECT count(*) FROM range(100000000000) AS a, range(100000) AS b -- {}"


def test_a_query_that_is_stopped_at_once_is_stopped_and_its_process_lives(tmp_path: Path) -> None:
    """DuckDB ignores an interrupt that arrives before the query starts; the child would then be killed."""
    sandbox = Sandbox(published_store(tmp_path).serving_path, memory_bytes=256 << 20, threads=1)
    try:
        process = sandbox._child
        for number in range(6):  # each a new text, which is checked before it is run
            with (
                pytest.raises(QueryError, match="was stopped") as refused,
                sandbox.answer(ENDLESS.format(number), timeout_s=600) as answer,
            ):
                time.sleep(number / 3_000)
                sandbox.interrupt()
                answer.read()
            assert not isinstance(refused.value, QueryTimeoutError)
        assert sandbox._child is process and process.poll() is None
    finally:
        sandbox.close()


def test_a_file_that_failed_is_opened_again_by_the_next_query(tmp_path: Path) -> None:
    store = ServingStore(tmp_path / "serving.duckdb")
    publish(store, rows=100_000)
    sandbox = Sandbox(store.serving_path, memory_bytes=256 << 20, threads=1)

    def rows(sql: str) -> list[dict[str, int]]:
        with sandbox.answer(sql, timeout_s=60) as answer:
            _, batches = answer.read()
            return [row for batch in batches for row in batch.to_pylist()]

    reads_blocks = "SELECT count(*) AS rows FROM serving.fct_psd WHERE hash(i) >= 0"
    try:
        assert rows("SELECT 1 AS one") == [{"one": 1}]
        with damaged_blocks(store.serving_path):
            with pytest.raises(ServingBrokenError, match="cannot be read"):
                rows(reads_blocks)
            with pytest.raises(ServingBrokenError, match="cannot be opened"):
                rows(reads_blocks)
        assert rows(reads_blocks) == [{"rows": 100_000}]
    finally:
        sandbox.close()
