"""From staging to serving the models' SQL carries over to Trino, Spark and Snowflake; what does not is listed here.

SQLGlot passes a function on that it does not know, and one that the other engine lacks. So it is not enough that the
outcome can be parsed: every function in it must be one that the engine's manual lists.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping

import pytest
import sqlglot
from sqlglot import ErrorLevel, exp
from sqlglot.errors import SqlglotError

KNOWN = {
    # https://trino.io/docs/current/functions.html
    "trino": "ABS ARBITRARY AVG BOOL_AND BOOL_OR COALESCE CONCAT COUNT DATE_DIFF DATE_TRUNC GREATEST IF LAG"
    " LAST_DAY_OF_MONTH LEAD LEAST LPAD MAX MAX_BY MIN MONTH NULLIF PERCENT_RANK ROW_NUMBER SQRT STRPOS SUBSTR SUM"
    " YEAR",
    # https://spark.apache.org/docs/latest/api/sql/
    "spark": "ABS ANY_VALUE AVG BOOL_AND BOOL_OR COALESCE CONCAT COUNT DATEDIFF DATE_TRUNC GREATEST IF LAG"
    " LAST_DAY LEAD LEAST LOCATE LPAD MAX MAX_BY MIN MONTH NULLIF PERCENT_RANK ROW_NUMBER SQRT SUBSTRING SUM TO_DATE"
    " YEAR",
    # https://docs.snowflake.com/en/sql-reference/functions-all
    "snowflake": "ABS ANY_VALUE AVG BOOLAND_AGG BOOLOR_AGG CHARINDEX COALESCE CONCAT COUNT DATEDIFF DATE_TRUNC"
    " GREATEST_IGNORE_NULLS IFF LAG LAST_DAY LEAD LEAST_IGNORE_NULLS LPAD MAX MAX_BY MIN MONTH NULLIF PERCENT_RANK"
    " ROW_NUMBER SQRT SUBSTRING SUM YEAR",
}
"""Functions that each engine's manual lists, as far as our models use them."""

READING_THE_LANDING = {"raw.psd_alldata", "raw.psd_snapshot", "raw.wasde_figure", "raw.wasde_report"}
"""Reading files is every engine's own affair: elsewhere these are external tables over the same files."""

NOT_PORTABLE = {
    "trino": {
        "raw.psd_alldata": "READ_PARQUET",
        "raw.psd_snapshot": "READ_TEXT",
        "raw.wasde_figure": "READ_PARQUET",
        "raw.wasde_report": "READ_TEXT",
    },
    "spark": {
        "raw.psd_alldata": "READ_PARQUET with multiple arguments is not supported",
        "raw.psd_snapshot": "READ_TEXT",
        "raw.wasde_figure": "READ_PARQUET",
        "raw.wasde_report": "READ_TEXT",
    },
    "snowflake": {
        "raw.psd_alldata": "READ_PARQUET",
        "raw.psd_snapshot": "READ_TEXT",
        "raw.wasde_figure": "READ_PARQUET",
        "raw.wasde_report": "READ_TEXT",
    },
}
"""Per engine the models that do not carry over as they are, and why; docs/explanation/scaling.md lists the same."""

RENDER = """
import json, sys
from sqlmesh import Context
from dataflows.lakehouse.transform import PROJECT_DIR
when = {"start": "2025-01-01", "end": "2025-01-31", "execution_time": "2025-02-01"}
models = Context(paths=[str(PROJECT_DIR)]).models.values()
print(json.dumps({model.name: model.render_query(**when).sql(dialect="duckdb") for model in models}))
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Every model's query as SQLMesh gives it to DuckDB."""
    done = subprocess.run(
        [sys.executable, "-c", RENDER],
        env={**os.environ, "MATERIA_DATA_DIR": str(tmp_path_factory.mktemp("rendered")), "MAX_FORK_WORKERS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def carried_over(sql: str, engine: str) -> exp.Expr:
    """The query in the engine's SQL, parsed as that engine's; raises SqlglotError for what has no counterpart."""
    (text,) = sqlglot.transpile(sql, read="duckdb", write=engine, unsupported_level=ErrorLevel.RAISE)
    return sqlglot.parse_one(text, dialect=engine, error_level=ErrorLevel.RAISE)


def functions(query: exp.Expression, engine: str) -> Iterator[str]:
    """The names of the functions that it calls, as the engine would read them."""
    for call in query.find_all(exp.Func):
        if name := re.match(r"(\w+)\(", call.sql(dialect=engine)):
            yield name[1].upper()


def what_does_not_carry_over(sql: str, engine: str) -> str:
    """Nothing when it all does."""
    try:
        query = carried_over(sql, engine)
    except SqlglotError as error:
        return str(error)
    strange = set(functions(query, engine)) - set(KNOWN[engine].split()) - {"CAST", "TRY_CAST"}
    return " ".join(sorted(strange))


@pytest.mark.parametrize("engine", KNOWN)
def test_models_that_do_not_carry_over_are_listed(models: Mapping[str, str], engine: str) -> None:
    assert len(models) >= 20
    found = {name: reasons for name, sql in models.items() if (reasons := what_does_not_carry_over(sql, engine))}
    assert found.keys() == NOT_PORTABLE[engine].keys()
    for name, reasons in found.items():
        assert NOT_PORTABLE[engine][name] in reasons


@pytest.mark.parametrize("engine", KNOWN)
def test_every_known_function_is_used(models: Mapping[str, str], engine: str) -> None:
    """Keeps the lists of known functions free of unused entries."""
    used: set[str] = set()
    for name, sql in models.items():
        if name not in READING_THE_LANDING:
            used |= set(functions(carried_over(sql, engine), engine))
    assert set(KNOWN[engine].split()) - used == set()


@pytest.mark.parametrize("engine", KNOWN)
def test_the_check_sees_what_an_engine_lacks(engine: str) -> None:
    assert what_does_not_carry_over("SELECT no_such_function(1)", engine) == "NO_SUCH_FUNCTION"
    assert what_does_not_carry_over("SELECT TRY_STRPTIME(day, '%Y') FROM days", engine) == "TRY_STRPTIME"
    assert what_does_not_carry_over("SELECT CAST(day AS DATE) FROM days", engine) == ""


NEVER_NULL = {"ingest_date", "released_on", "evident_from", "shown_from"}
"""Columns that GREATEST and LEAST may be given as they are."""


def test_no_model_counts_on_duckdbs_own_way_with_nulls_and_days(models: Mapping[str, str]) -> None:
    """What parses everywhere and means something else: GREATEST and LEAST that pass over NULL, a day plus a number."""
    for name, sql in models.items():
        query = sqlglot.parse_one(sql, dialect="duckdb")
        for extreme in query.find_all(exp.Greatest, exp.Least):
            for argument in (extreme.this, *extreme.expressions):
                is_safe = isinstance(argument, exp.Coalesce | exp.Greatest | exp.Least) or argument.name in NEVER_NULL
                assert is_safe, f"{name}: {argument.sql()} may be NULL"
        for sum_of in query.find_all(exp.Add, exp.Sub):
            is_day = isinstance(sum_of.this, exp.Column) and sum_of.this.name.endswith("_on")
            assert not (is_day and isinstance(sum_of.expression, exp.Literal)), f"{name}: {sum_of.sql()}"
        for join in query.find_all(exp.Join):
            assert not (join.side == "FULL" and join.args.get("using")), f"{name}: {join.sql()}"
