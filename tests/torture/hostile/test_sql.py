"""SQL that is typed to get out, to change something, or to take the machine: it runs in a sandbox and ends there."""

import hashlib
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataflows.errors import QueryError, QueryRefusedError, QueryTimeoutError, ReaderClosedError, ServingError
from dataflows.serving.sandbox import GRACE_S, Sandbox
from dataflows.serving.store import ServingStore
from tests.dataflows.serving.building import ROWS, publish, published_store
from tests.support.torture import Figure, count

MEMORY_BYTES = 256 << 20
MOST_PEAK_BYTES = MEMORY_BYTES + (700 << 20)
"""What a query may take, DuckDB and Arrow themselves, and what they do not count."""
TIMEOUT_S = 0.5

ESCAPES = (
    "FROM read_text('{dir}/secret.txt')",
    "FROM read_text(['{dir}/secret.txt'])",
    "FROM read_blob('/proc/self/environ')",
    "FROM read_csv_auto('/etc/passwd')",
    "FROM read_json('{dir}/secret.txt')",
    "FROM read_ndjson_objects('{dir}/secret.txt')",
    "FROM read_parquet('{dir}/x.parquet')",
    "FROM parquet_metadata('{dir}/x.parquet')",
    "FROM read_xlsx('x')",
    "FROM st_read('x')",
    "FROM '{dir}/secret.csv'",
    'FROM "{dir}/secret.csv"',
    "FROM 'http://127.0.0.1:1/x.csv'",
    "FROM 's3://bucket/x.parquet'",
    "FROM glob('/**')",
    "FROM sniff_csv('/etc/passwd')",
    "FROM sqlite_scan('{dir}/runs.sqlite', 'runs')",
    "FROM postgres_scan('host=127.0.0.1', 'x', 'y')",
    "FROM query('SELECT ' || 1)",
    "FROM query_table(['fct_psd'])",
    "FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "FROM duckdb_secrets()",
    "FROM which_secret('s3://x', 's3')",
    "FROM pandas_scan(1)",
    "FROM arrow_scan(1, 2, 3)",
    "FROM test_vector_types(1)",
    "COPY (SELECT 1) TO '{dir}/out.csv'",
    "COPY fct_psd TO '/dev/stdout'",
    "COPY fct_psd FROM '/etc/passwd'",
    "EXPORT DATABASE '{dir}/out'",
    "IMPORT DATABASE '{dir}/out'",
    "ATTACH '{dir}/serving-1.duckdb' AS x",
    "ATTACH 's3://bucket/x' AS x (TYPE ducklake)",
    "ATTACH 'http://127.0.0.1/x.duckdb' AS x",
    "ATTACH '{dir}/runs.sqlite' AS x (TYPE sqlite)",
    "ATTACH 'host=127.0.0.1' AS x (TYPE postgres)",
    "INSTALL httpfs",
    "FORCE INSTALL httpfs FROM 'http://127.0.0.1'",
    "LOAD '/tmp/x.duckdb_extension'",
    "UPDATE EXTENSIONS",
    "SET lock_configuration = false",
    "SET memory_limit = '1TB'",
    "RESET memory_limit",
    "PRAGMA enable_progress_bar",
    "PRAGMA import_database('x')",
    "CALL enable_logging('QueryLog', storage = 'file', storage_path = '{dir}/log')",
    "FROM enable_logging()",
    "FROM truncate_duckdb_logs()",
    "CALL pragma_version()",
    "CREATE SECRET x (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "CREATE PERSISTENT SECRET x (TYPE http)",
    "DROP SECRET x",
    "CREATE MACRO f() AS TABLE FROM fct_psd",
    "CREATE TEMP TABLE x AS FROM fct_psd",
    "CREATE TYPE x AS ENUM ('a')",
    "CREATE SEQUENCE s",
    "COMMENT ON TABLE fct_psd IS 'x'",
    "DELETE FROM fct_psd",
    "TRUNCATE fct_psd",
    "MERGE INTO fct_psd USING fct_psd AS x ON true WHEN MATCHED THEN DELETE",
    "INSERT INTO fct_psd SELECT * FROM fct_psd",
    "WITH x AS (INSERT INTO fct_psd VALUES (1, 2) RETURNING *) FROM x",
    "PREPARE p AS FROM fct_psd",
    "EXECUTE p",
    "DEALLOCATE p",
    "BEGIN TRANSACTION",
    "CHECKPOINT",
    "VACUUM",
    "DETACH materia",
    "USE memory",
    "SELECT 1; SELECT 2",
    "SELECT 1;;; DROP TABLE fct_psd",
    "SELECT 1 /* */; /* */ DROP TABLE fct_psd --",
    "EXPLAIN ANALYZE DELETE FROM fct_psd",
    "EXPLAIN (ANALYZE) COPY fct_psd TO '{dir}/out'",
    "SELECT getenv('HOME')",
    "SELECT nextval('s')",
    "SELECT * FROM secret",
    ".read /etc/passwd",
    ".shell id",
    "\\copy fct_psd to x",
    "\0",
    "SELECT '\ud800'",
    "",
    ";",
    "--",
    "/*",
    "'",
    "\u202eSELECT 1",
    "SELECT\u00a01; DROP TABLE fct_psd",
)
_DEEP = "(repeat('[', 1000000) || repeat(']', 1000000))"
HOGS = {
    "two long texts are compared": "SELECT levenshtein(repeat('a', 1000000), repeat('b', 1000000))",
    "a nested text is looked into": f"SELECT json_structure({_DEEP})",
    "a text is longer than memory": "SELECT repeat('x', 4000000000)",
    "a row is longer than a piece may be": "SELECT repeat('x', 80000000)",
    "a join does not end": "SELECT count(*) FROM range(100000000) AS a, range(100000000) AS b",
    "a megabyte of sums": "SELECT " + "+".join(["1"] * 500_000),
}
LONG_ONLY = {
    "brackets do not close": "SELECT " + "(" * 100_000,
    "ten thousand tables are joined": "SELECT count(*) FROM " + ", ".join(["range(2)"] * 10_000),
    "a recursion doubles": "WITH RECURSIVE r AS (SELECT 'x' AS n UNION ALL SELECT n || n FROM r) FROM r",
    "a comment lies in a comment in a comment": "SELECT 1 " + "/*" * 20_000,
    "rows do not end": "FROM range(1000000000000)",
    "types lie in types": "SELECT NULL::" + "STRUCT(a " * 5000 + "INT" + ")" * 5000,
    "queries lie in queries": "FROM " + "(FROM " * 20_000 + "fct_psd" + ")" * 20_000,
    "all is sorted": "FROM range(10000000000) ORDER BY hash(range)",
    "all is kept in a list": "SELECT list(i) FROM range(10000000000) AS t(i)",
    "a recursion does not end": "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) FROM r",
    "a number is padded": "SELECT printf('%2000000000d', 1)",
    "a list does not end": "SELECT list_sort(range(10000000000))",
    "a union of many": " UNION ".join(["SELECT 1"] * 20_000),
    "a comparison of patterns": "SELECT repeat('a', 100000) ILIKE repeat('%a', 10000) || 'b'",
    "a merge of nested texts": "SELECT json_merge_patch({0}, {0})".format(
        "(repeat('{\"a\":', 500000)||'1'||repeat('}', 500000))"
    ),
    "texts are joined": "SELECT string_agg(repeat('x', 1000000)) FROM range(100000)",
    "a list is unnested": "FROM unnest(range(1000000000))",
    "a digest of a gigabyte": "SELECT sha256(repeat('a', 1000000000))",
    "tests of tests": "SELECT " + "NOT " * 100_000 + "true",
    "cases in cases": "SELECT " + "CASE WHEN true THEN " * 3000 + "1" + " END" * 3000,
}


def digest(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ServingStore:
    folder = tmp_path_factory.mktemp("sandbox")
    (folder / "secret.txt").write_text("for nobody")
    (folder / "secret.csv").write_text("a,b\n1,2\n")
    return published_store(folder)


@pytest.fixture(scope="module")
def sandbox(store: ServingStore) -> Iterator[Sandbox]:
    sandbox = Sandbox(store.serving_path, memory_bytes=MEMORY_BYTES, threads=2)
    yield sandbox
    sandbox.close()


def rows_of(sandbox: Sandbox, sql: str, timeout_s: float = 30.0) -> int:
    with sandbox.answer(sql, timeout_s=timeout_s) as answer:
        _, batches = answer.read()
        return sum(batch.num_rows for batch in batches)


def test_nothing_gets_out_and_nothing_changes(sandbox: Sandbox, store: ServingStore) -> None:
    before = digest(store.serving_path.parent)
    for sql in ESCAPES:
        with pytest.raises((QueryError, QueryRefusedError)):
            rows_of(sandbox, sql.replace("{dir}", str(store.serving_path.parent)))
            pytest.fail(f"{sql} was answered")
    assert digest(store.serving_path.parent) == before
    assert rows_of(sandbox, "FROM serving.fct_psd") == ROWS


@pytest.mark.parametrize("name", [*HOGS, *count((), LONG_ONLY)])
def test_an_expensive_query_is_ended_within_its_time_and_memory(sandbox: Sandbox, name: str, figure: Figure) -> None:
    rows_of(sandbox, "SELECT 1")
    child, began = psutil.Process(sandbox._child.pid), time.monotonic()
    with pytest.raises((QueryError, QueryRefusedError)):
        rows_of(sandbox, {**HOGS, **LONG_ONLY}[name], TIMEOUT_S)
    took_s = time.monotonic() - began
    assert took_s < TIMEOUT_S + GRACE_S + 60  # the machine may be busy; unbounded, it would take hours
    if child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert child.memory_info().rss < MOST_PEAK_BYTES
    assert rows_of(sandbox, "FROM serving.fct_psd") == ROWS
    figure(f"seconds until the query is ended in which {name}", round(took_s, 2))


def test_the_memory_of_a_sandbox_is_bounded_by_the_kernel(sandbox: Sandbox) -> None:
    rows_of(sandbox, "SELECT 1")
    limit_bytes, _ = psutil.Process(sandbox._child.pid).rlimit(psutil.RLIMIT_DATA)
    assert MEMORY_BYTES < limit_bytes < MEMORY_BYTES + (4 << 30)


_WORDS = (
    *("SELECT", "FROM", "WHERE", "WITH", "AS", "(", ")", "*", ",", ";", "'", '"', "--", "/*", "*/", "1", "x", "=", "."),
    *("fct_psd", "serving", "range", "read_text", "COPY", "TO", "ATTACH", "SET", "CREATE", "TABLE", "UNION", "ALL"),
    *("PIVOT", "EXPLAIN", "DESCRIBE", "SUMMARIZE", "LIMIT", "VALUES", "RECURSIVE", "lambda", ":", "[", "]", "{", "}"),
    *("'/etc/passwd'", "getenv", "INSTALL", "httpfs", "CALL", "PRAGMA", "NULL", "::", "INT", "\0", "\u00e9", "$1", "?"),
)


@settings(max_examples=count(40, 20_000), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(_WORDS) | st.text(max_size=4), max_size=12).map(" ".join))
def test_any_words_are_answered_or_refused(sandbox: Sandbox, store: ServingStore, sql: str) -> None:
    before = sorted(path.name for path in store.serving_path.parent.iterdir())
    with suppress(QueryError, QueryRefusedError):
        rows_of(sandbox, sql, timeout_s=5)
    assert sorted(path.name for path in store.serving_path.parent.iterdir()) == before


def test_a_cell_that_a_sort_has_worn_answers_from_what_is_served_next(tmp_path: Path) -> None:
    """What the sort left in its process was too much to open another generation in it."""
    store = published_store(tmp_path)
    sandbox = Sandbox(store.serving_path, memory_bytes=1 << 30, threads=1)
    try:
        assert rows_of(sandbox, "SELECT 1") == 1
        assert not sandbox.needs_recycling
        assert rows_of(sandbox, "SELECT md5(i::TEXT) AS m FROM range(5000000) AS t(i) ORDER BY m", 120) == 5_000_000
        assert sandbox.needs_recycling
        publish(store)
        with sandbox.answer("SELECT any_value(value) AS v FROM fct_psd", timeout_s=30) as answer:
            assert answer.generation.number == 2
            answer.read()
    finally:
        sandbox.close()


def test_a_stopped_query_leaves_its_cell_on_the_same_generation(tmp_path: Path) -> None:
    store = published_store(tmp_path)
    sandbox = Sandbox(store.serving_path, memory_bytes=MEMORY_BYTES)
    try:
        with sandbox.answer("SELECT any_value(value) AS v FROM fct_psd", timeout_s=30) as answer:
            first = answer.generation
            _, batches = answer.read()
            assert [batch.to_pydict() for batch in batches] == [{"v": [1]}]
        publish(store)
        endless = "SELECT count(*) FROM range(1000000000000) AS rows WHERE hash(range) = 0"
        stopped = sandbox.answer(endless, timeout_s=0.3, within=first)
        with pytest.raises(QueryTimeoutError), stopped as answer:
            answer.read()
        with sandbox.answer("SELECT any_value(value) AS v FROM fct_psd", timeout_s=30, within=first) as answer:
            assert answer.generation.number == 1
        with sandbox.answer("SELECT 1", timeout_s=30) as answer:
            assert answer.generation.number == 2
            answer.read()
        sandbox._child.kill()
        sandbox._child.wait()
        with (
            pytest.raises(QueryError, match="no longer served"),
            sandbox.answer("SELECT 1", timeout_s=30, within=first),
        ):
            pass
    finally:
        sandbox.close()
    with pytest.raises(ReaderClosedError), sandbox.answer("SELECT 1", timeout_s=1):
        pass
    assert sandbox._child.poll() is not None


def test_a_sandbox_without_a_served_generation_raises_an_error(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path / "serving.duckdb", memory_bytes=MEMORY_BYTES)
    try:
        with pytest.raises(ServingError, match="materia run-all"):
            rows_of(sandbox, "SELECT 1")
    finally:
        sandbox.close()
