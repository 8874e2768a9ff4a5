"""What a person's SQL may do: read what is served, and nothing else."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from dataflows.errors import QueryError, QueryRefusedError
from dataflows.serving import ServingReader
from tests.dataflows.serving.building import ROWS, published_store

secret_of_the_program = [{"value": "in a variable of the calling program"}]


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[ServingReader]:
    (tmp_path / "secret.txt").write_text("for nobody")
    (tmp_path / "secret.csv").write_text("a,b\n1,2\n")
    with ServingReader(published_store(tmp_path).serving_path) as reader:
        yield reader


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM serving.fct_psd",
        "select 1;",
        "FROM serving.fct_psd LIMIT 1",
        "TABLE serving.fct_psd",
        "VALUES (1), (2)",
        "-- a comment\nWITH a AS (SELECT 1 AS x) SELECT * FROM a",
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 9) SELECT max(n) FROM r",
        "SELECT * FROM serving.psd_asof(DATE '2025-01-01')",
        "PIVOT serving.fct_psd ON value IN (1, 2) USING count(*)",
        "SELECT * FROM range(3), generate_series(1, 2), (SELECT unnest([1, 2]))",
        "SELECT list_transform([1, 2], lambda x: x + 1)",
        "DESCRIBE serving.fct_psd",
        "SUMMARIZE serving.fct_psd",
        "SHOW TABLES",
        "SHOW ALL TABLES",
        "EXPLAIN SELECT * FROM serving.fct_psd",
        "explain analyze select 1",
        "EXPLAIN (FORMAT json) SELECT 1",
        "EXPLAIN (ANALYZE, FORMAT json) SELECT 1",
        "EXPLAIN ( FORMAT 'json' , ANALYZE ) SELECT 1",
        "EXPLAIN (SELECT 1)",
        "-- a comment\nEXPLAIN SELECT 1",
        "/* a comment */ -- another\r\nEXPLAIN/* a third */ANALYZE -- and\nSELECT 1",
        "\ufeff\u00a0 EXPLAIN SELECT 1",
        "/* a */ DESCRIBE serving.fct_psd",
        "-- a\nSHOW TABLES",
        "SELECT table_name FROM information_schema.tables",
        "SELECT * FROM duckdb_columns()",
        "SELECT 'DROP TABLE x; it''s text'",
    ],
)
def test_a_query_that_only_reads_is_run(reader: ServingReader, sql: str) -> None:
    assert reader.query(sql).table.num_rows > 0


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "   ; ",
        "-- nothing",
        "-- a comment\nEXPLAIN DROP TABLE serving.fct_psd",
        "EXPLAIN (ANALYZE, FORMAT json) CREATE TABLE x (y INT)",
        "EXPLAIN (ANALYZE, FORMAT json) FROM enable_logging()",
        "-- EXPLAIN\nDROP TABLE serving.fct_psd",
        "/* /* */ EXPLAIN SELECT 1 -- */ EXPLAIN ANALYZE FROM enable_logging()",
        "/* /* */ EXPLAIN SELECT 1 -- */ DROP TABLE serving.fct_psd",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE serving.fct_psd",
        "CREATE TABLE x AS SELECT 1",
        "CREATE TEMP TABLE x AS SELECT 1",
        "CREATE OR REPLACE MACRO memory.main.f() AS 1",
        "CREATE TABLE memory.main.x AS SELECT 1",
        "INSERT INTO serving.fct_psd VALUES (1, 2)",
        "UPDATE serving.fct_psd SET i = 0",
        "DELETE FROM serving.fct_psd",
        "DROP SCHEMA serving CASCADE",
        "ALTER TABLE serving.fct_psd ADD COLUMN x INTEGER",
        "COPY serving.fct_psd TO '{dir}/out.csv'",
        "COPY (SELECT 1) TO '{dir}/out.parquet'",
        "EXPORT DATABASE '{dir}/out'",
        "IMPORT DATABASE '{dir}/out'",
        "ATTACH '{dir}/out.duckdb' AS other",
        "ATTACH ':memory:' AS other",
        "DETACH materia",
        "USE memory",
        "INSTALL httpfs",
        "LOAD httpfs",
        "LOAD json",
        "SET threads = 1",
        "SET GLOBAL enable_external_access = true",
        "RESET lock_configuration",
        "SET VARIABLE x = 1",
        "PRAGMA enable_profiling",
        "PRAGMA show_tables",
        "CALL enable_logging()",
        "CHECKPOINT",
        "VACUUM",
        "BEGIN",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "CREATE SECRET (TYPE s3)",
        "EXPLAIN ANALYZE CREATE TABLE memory.main.x AS SELECT 1",
        "EXPLAIN EXPLAIN SELECT 1",
        "/* */ EXPLAIN SELECT 1 /* */; CREATE TABLE memory.main.x AS SELECT 1",
        "PIVOT serving.fct_psd ON value USING count(*)",
        "SELECT * FROM read_text('{dir}/secret.txt')",
        "SELECT * FROM read_blob('{dir}/secret.txt')",
        "SELECT * FROM read_csv('{dir}/secret.csv')",
        "SELECT * FROM '{dir}/secret.csv'",
        "SELECT * FROM glob('{dir}/*')",
        "SELECT * FROM sniff_csv('{dir}/secret.csv')",
        "SELECT * FROM read_duckdb('{dir}/serving-1.duckdb')",
        "SELECT * FROM query('SELECT 1')",
        "SELECT * FROM query_table('serving.fct_psd')",
        "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
        "SELECT * FROM enable_logging(level = 'trace', storage = 'file', storage_path = '{dir}/log')",
        "SELECT * FROM system.main.enable_logging()",
        "SELECT (SELECT count(*) FROM ENABLE_LOGGING())",
        "SUMMARIZE FROM enable_logging()",
        "WITH a AS (FROM enable_profiling()) SELECT 1",
        "SELECT * FROM serving.fct_psd POSITIONAL JOIN checkpoint()",
        "SELECT * FROM which_secret('s3://x', 's3')",
        "SELECT\x00 1",
        "SELECT '\ud800'",
    ],
)
def test_everything_else_is_refused_and_changes_nothing(reader: ServingReader, tmp_path: Path, sql: str) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(QueryRefusedError):
        reader.query(sql.replace("{dir}", str(tmp_path)))
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert reader.query("SELECT count(*) AS n FROM serving.fct_psd").table.to_pydict() == {"n": [ROWS]}
    assert reader.query("SELECT 1 FROM duckdb_tables() WHERE schema_name <> 'serving'").table.num_rows == 0


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT getenv('HOME')",
        "SELECT * FROM secret_of_the_program",
        "SELECT nextval('s')",
        "SELECT " + "+".join(["1"] * 5000),
        "WITH x AS (DELETE FROM serving.fct_psd RETURNING *) SELECT * FROM x",
    ],
)
def test_a_statement_that_duckdb_does_not_know_is_an_error(reader: ServingReader, sql: str) -> None:
    with pytest.raises(QueryError):
        reader.query(sql)


def test_an_accepted_text_is_checked_once_and_the_memory_of_it_is_bounded(reader: ServingReader) -> None:
    for number in range(1100):
        reader.check(f"SELECT {number}")
    assert len(reader._checked) <= 1024
    long = "SELECT 1 -- " + "x" * 70_000
    reader.check(long)
    assert long not in reader._checked


def test_the_settings_of_a_cursor_are_locked_too(reader: ServingReader) -> None:
    with reader.cursor() as (cursor, _):
        for sql in (
            "SET enable_external_access = true",
            "SELECT * FROM read_text('/etc/hostname')",
            "COPY (SELECT 1) TO '/tmp/x.csv'",
            "INSERT INTO serving.fct_psd VALUES (1, 2)",
            "LOAD httpfs",
        ):
            with pytest.raises(duckdb.Error):
                cursor.execute(sql)
        cursor.execute("CREATE TEMP TABLE kept AS SELECT i FROM serving.fct_psd")  # ours, and gone with it
