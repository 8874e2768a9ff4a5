"""SQLMesh's after_all statement creates the as-of macros beside the serving tables of the environment it plans."""

import runpy
from pathlib import Path

import duckdb
import pytest
from sqlmesh.core.engine_adapter import DuckDBEngineAdapter
from sqlmesh.core.macros import MacroEvaluator, RuntimeStage, macro

from dataflows.lakehouse.transform import PROJECT_DIR
from tests.support.served import serve

SCHEMAS = {"prod": "serving", "dev_me": "serving__dev_me"}


def macros_of(connection: duckdb.DuckDBPyConnection, database: str) -> list[tuple[str, str]]:
    """Schema and name of each macro in a database."""
    return connection.execute(
        "SELECT schema_name, function_name FROM duckdb_functions() WHERE database_name = ? ORDER BY ALL", [database]
    ).fetchall()


def test_the_asof_macros_are_created_after_all_models_in_the_schema_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(macro, "_registry", None)  # it refuses a second macro of the same name
    create_asof_macros = runpy.run_path(str(PROJECT_DIR / "macros" / "asof.py"))["create_asof_macros"]
    serve(tmp_path)
    connection = duckdb.connect()
    connection.execute(f"ATTACH '{tmp_path / 'serving-1.duckdb'}' AS built (READ_ONLY); ATTACH ':memory:' AS lakehouse")
    tables = connection.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = 'built'").fetchall()
    names = [name for _, name in macros_of(connection, "built")]
    for schema in SCHEMAS.values():
        connection.execute(f"CREATE SCHEMA lakehouse.{schema}")
        for (table,) in tables:
            connection.execute(f"CREATE TABLE lakehouse.{schema}.{table} AS FROM built.serving.{table}")
    expected = []
    for environment, schema in SCHEMAS.items():
        for stage in (RuntimeStage.LOADING, RuntimeStage.BEFORE_ALL, RuntimeStage.AFTER_ALL):
            evaluator = MacroEvaluator(dialect="duckdb", runtime_stage=stage)
            evaluator.locals |= {"this_env": environment, "engine_adapter": DuckDBEngineAdapter(lambda: connection)}
            assert create_asof_macros(evaluator) == "SELECT 1 AS nothing"
            if stage is RuntimeStage.AFTER_ALL:
                expected += [(schema, name) for name in names]
            assert macros_of(connection, "lakehouse") == expected
    assert len(expected) == 2 * len(names) > 0
