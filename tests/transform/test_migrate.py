"""Moving a lakehouse to a DuckLake and back: nothing is computed anew, and nothing comes out differently."""

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import duckdb
import pytest

from dataflows.ducklake import DuckLake, SqliteCatalog
from dataflows.errors import LakehouseError
from dataflows.lakehouse_move import Move, MovedTable, move
from tests.support.postgres_server import PASSWORD, PostgresServer
from tests.support.table_by_table import differences, written_out
from tests.support.workshop import Workshop
from tests.transform.conftest import Copied


def migrate(workshop: Workshop, to: str, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """As somebody types it."""
    return subprocess.run(
        [Path(sys.executable).with_name("materia"), "lakehouse", "migrate", "--to", to, *arguments],
        env={**os.environ, "MATERIA_DATA_DIR": str(workshop.data_dir), **environ},
        capture_output=True,
        text=True,
        timeout=600,
    )


def settings_of(lake: DuckLake) -> Mapping[str, str]:
    return {"DUCKLAKE_CATALOG": str(lake.catalog), "DUCKLAKE_PASSWORD": PASSWORD, "DUCKLAKE_DATA": lake.data}


def test_there_and_back_with_nothing_computed_anew(
    served: Workshop, copied: Copied, postgres: PostgresServer, tmp_path: Path
) -> None:
    """Either side then finds nothing left to do."""
    workshop = copied(served)
    lake = DuckLake(postgres.new_catalog(), str(tmp_path / "lake"))
    before = written_out(served.lakehouse.store, tmp_path / "before.duckdb")

    done = migrate(workshop, "ducklake", **settings_of(lake))
    assert done.returncode == 0, done.stderr
    assert "set MATERIA_GATEWAY=ducklake" in done.stdout and done.stdout.count("the same on both sides") >= 5
    assert PASSWORD not in done.stdout + done.stderr
    moved = dataclasses.replace(workshop, lake=lake)
    assert differences(before, written_out(lake, tmp_path / "moved.duckdb")) == {}
    again = moved.transform()
    assert (again.releases_processed, again.models_changed) == (0, False)

    for path in workshop.data_dir.glob("lakehouse*"):
        path.unlink()
    done = migrate(workshop, "duckdb", **settings_of(lake), MATERIA_GATEWAY="ducklake")
    assert done.returncode == 0, done.stderr
    assert differences(before, written_out(workshop.lakehouse.store, tmp_path / "back.duckdb")) == {}
    again = workshop.transform()
    assert (again.releases_processed, again.models_changed) == (0, False)
    assert not list(workshop.data_dir.glob("*.wal"))


def lake_in(folder: Path) -> DuckLake:
    return DuckLake(SqliteCatalog(folder / "lake.sqlite"), str(folder / "lake"))


def moved_tables(workshop: Workshop, lake: DuckLake, *, replace: bool = False) -> tuple[bool, list[MovedTable]]:
    told: list[MovedTable] = []
    wanted = Move(workshop.lakehouse.store, lake, workshop.data_dir / "landing")
    return move(wanted, replace=replace, told=told.append), told


def test_another_lakehouse_is_only_replaced_when_told_to(served: Workshop, tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    copied, tables = moved_tables(served, lake)
    assert copied and sum(table.row_count for table in tables) > 2_500
    assert moved_tables(served, lake) == (False, tables), "done again, it is found to be done"
    with duckdb.connect() as connection:
        lake.attach(connection, read_only=False)
        name = f"lakehouse.{tables[0].name}"
        connection.execute(f"DELETE FROM {name} WHERE rowid = (SELECT MIN(rowid) FROM {name})")
    with pytest.raises(LakehouseError, match="--replace"):
        moved_tables(served, lake)
    assert moved_tables(served, lake, replace=True) == (True, tables)
    one, other = (written_out(store, tmp_path / f"{n}") for n, store in enumerate((served.lakehouse.store, lake)))
    assert differences(one, other) == {}


def test_a_move_that_dies_midway_has_not_happened(served: Workshop, tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    code = (
        "import sys, os; from pathlib import Path; from dataflows import lakehouse_move as m;"
        "from dataflows.ducklake import *; from dataflows.lakehouse import *;"
        "m._create_macros = lambda connection: os.kill(os.getpid(), 9);"
        "source, catalog, data, landing = map(Path, sys.argv[1:]);"
        "lake = DuckLake(SqliteCatalog(catalog), str(data));"
        "m.move(m.Move(LakehouseFile(source), lake, landing), replace=False, told=print)"
    )
    paths = (served.lakehouse.path, lake.catalog.path, lake.data, served.data_dir / "landing")
    done = subprocess.run([sys.executable, "-c", code, *map(str, paths)], timeout=300)
    assert done.returncode == -9
    assert list(Path(lake.data).rglob("*.parquet")), "it died after it had copied"
    with duckdb.connect() as connection:
        lake.attach(connection, read_only=True)
        there = connection.execute("SELECT COUNT(*) FROM duckdb_tables() WHERE database_name = 'lakehouse'").fetchone()
        assert there == (0,)
    copied, tables = moved_tables(served, lake)
    assert copied and tables


def test_an_empty_lakehouse_is_not_moved(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path / "data")
    workshop.data_dir.mkdir()
    with pytest.raises(LakehouseError, match="is not there"):
        moved_tables(workshop, lake_in(tmp_path))
    duckdb.connect(str(workshop.lakehouse.path)).close()
    with pytest.raises(LakehouseError, match="holds no tables"):
        moved_tables(workshop, lake_in(tmp_path))
    shutil.rmtree(workshop.data_dir)
