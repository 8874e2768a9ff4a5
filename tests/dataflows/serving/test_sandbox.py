"""A sandbox: stopping the query that it has just been asked."""

import time
from pathlib import Path

import pytest

from dataflows.errors import QueryError, QueryTimeoutError
from dataflows.serving.sandbox import Sandbox
from tests.dataflows.serving.building import published_store

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
