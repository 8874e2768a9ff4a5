"""The models' own SQL on a DuckDB in memory, without SQLMesh's plans: fast enough for hundreds of histories."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from dataflows.serving.asof import asof_macros

_RENDER = """
import json
from sqlmesh import Context
from dataflows.lakehouse.transform import PROJECT_DIR
context = Context(paths=[str(PROJECT_DIR)])
when = {"start": "1970-01-01", "end": "2100-12-31", "execution_time": "2101-01-01"}
found = []
for fqn in context.dag.sorted:
    model = context.models.get(fqn)
    if model is None or model.name.startswith("raw."):
        continue
    if model.kind.is_seed:
        # As SQLMesh reads it: without the zeros before a code.
        types = {name: kind.sql(dialect="duckdb") for name, kind in model.columns_to_types.items()}
        columns = ", ".join(f"{name}::{kind} AS {name}" for name, kind in types.items())
        query = f"SELECT {columns} FROM read_csv('{model.seed_path}')"
    else:
        query = model.render_query(**when).sql(dialect="duckdb")
    found.append([model.name, query])
print(json.dumps(found))
"""

_EMBEDDED = ("staging.stg_psdalldata__fact",)


@dataclass(frozen=True)
class Line:
    """A line of a snapshot's CSV, as far as the models read it."""

    commodity_code: str
    country_code: str
    market_year: int
    stamp: date | None
    attribute_id: str
    value: float
    unit_id: str = "08"


@dataclass(frozen=True)
class PlainSnapshot:
    """A landed snapshot: what its marker says, and its lines."""

    key: str
    release_month: date
    released_on: date
    lines: Sequence[Line] | Path
    """The lines, or a Parquet file with all columns of a file of USDA's, as text."""
    published_at: datetime | None = None


@cache
def rendered_models() -> Sequence[tuple[str, str]]:
    """Name and query of every model above the landing, in the order in which they depend on each other."""
    with TemporaryDirectory() as folder:
        Path(folder, "landing").mkdir()  # without reports: the models of WASDE are not read
        done = subprocess.run(
            [sys.executable, "-c", _RENDER],
            env={**os.environ, "MATERIA_DATA_DIR": folder, "MAX_FORK_WORKERS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert done.returncode == 0, done.stderr
    return [tuple(pair) for pair in json.loads(done.stdout.splitlines()[-1])]


def serve(snapshots: Sequence[PlainSnapshot]) -> duckdb.DuckDBPyConnection:
    """A connection whose current database holds the tables of every layer, computed of these snapshots."""
    connection = duckdb.connect()
    connection.execute("ATTACH ':memory:' AS lakehouse; USE lakehouse")
    for schema in ("raw", "seed", "staging", "cleaned", "serving"):
        connection.execute(f"CREATE SCHEMA {schema}")
    _land(connection, snapshots)
    for name, query in rendered_models():
        kind = "VIEW" if name in _EMBEDDED else "TABLE"
        connection.execute(f"CREATE {kind} lakehouse.{name} AS {query}")
    for statement in asof_macros("lakehouse.serving"):
        connection.execute(statement)
    return connection


def _land(connection: duckdb.DuckDBPyConnection, snapshots: Sequence[PlainSnapshot]) -> None:
    connection.execute(
        "CREATE TABLE raw.psd_snapshot (key TEXT, dataset TEXT, etag TEXT, last_modified TEXT, release_year INT,"
        " release_month INT, released_on DATE, published_at TIMESTAMP, row_count BIGINT)"
    )
    connection.execute(
        "CREATE TABLE raw.psd_alldata (key TEXT, released_on DATE, commodity_code TEXT, commodity_description TEXT,"
        " country_code TEXT, country_name TEXT, market_year TEXT, calendar_year TEXT, month TEXT, attribute_id TEXT,"
        " attribute_description TEXT, unit_id TEXT, unit_description TEXT, value TEXT)"
    )
    markers = [
        f"({_text(s.key)}, 'psd_alldata', NULL, NULL, {s.release_month.year}, {s.release_month.month},"
        f" '{s.released_on}', {_text(s.published_at and str(s.published_at))}, 0)"
        for s in snapshots
    ]
    connection.execute(f"INSERT INTO raw.psd_snapshot VALUES {', '.join(markers)}")
    lines = [
        f"({_text(s.key)}, '{s.released_on}', '{line.commodity_code}', 'commodity', '{line.country_code}', 'country',"
        f" '{line.market_year}', '{line.stamp.year if line.stamp else 2000}',"
        f" '{line.stamp.month if line.stamp else 0:02d}', '{line.attribute_id}', 'attribute', '{line.unit_id}',"
        f" 'unit', '{line.value:.4f}')"
        for s in snapshots
        if not isinstance(s.lines, Path)
        for line in s.lines
    ]
    if lines:
        connection.execute(f"INSERT INTO raw.psd_alldata VALUES {', '.join(lines)}")
    for s in snapshots:
        if isinstance(s.lines, Path):
            connection.execute(
                f"INSERT INTO raw.psd_alldata SELECT {_text(s.key)}, DATE '{s.released_on}', * FROM '{s.lines}'"
            )


def _text(value: str | None) -> str:
    return "NULL" if value is None else f"'{value}'"
