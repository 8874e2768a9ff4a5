"""A lakehouse that another process has open, and a HOME that cannot be written."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from dataflows.errors import LakehouseError, LakehouseLockedError
from dataflows.lakehouse import transform
from dataflows.lakehouse.stores import LakehouseFile, lock_conflict
from dataflows.lakehouse.sync import settle
from ops.demo.generator import generate
from ops.demo.history import HistorySpec
from tests.support.workshop import Workshop

HOLDER = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "read-only")
print("open", flush=True)
sys.stdin.read()
"""


@contextmanager
def held(path: Path, how: str = "read-only") -> Iterator[int]:
    """Another process has the file open; yields its id."""
    command = [sys.executable, "-c", HOLDER, str(path), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "open\n"
        yield holder.pid
        holder.stdin.close()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "lakehouse.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1")
    return path


def test_the_error_names_the_file_the_process_and_its_command(database: Path) -> None:
    with (
        held(database, "read-write") as pid,
        duckdb.connect() as connection,
        pytest.raises(LakehouseLockedError) as refused,
    ):
        LakehouseFile(database).attach(connection, read_only=True)
    assert f"{database} is locked: process {pid} ({sys.executable} -c) has it open; close it" in str(refused.value)
    with duckdb.connect() as connection:
        LakehouseFile(database).attach(connection, read_only=True)


def test_other_damage_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / "lakehouse.duckdb").write_bytes(b"no database" * 1000)
    with duckdb.connect() as connection, pytest.raises(LakehouseError, match="can't be opened") as refused:
        LakehouseFile(tmp_path / "lakehouse.duckdb").attach(connection, read_only=True)
    assert not isinstance(refused.value, LakehouseLockedError)
    assert lock_conflict("Catalog Error: Table with name dim_release does not exist!") is None


def test_a_lock_without_a_known_process_is_reported_too() -> None:
    message = 'IO Error: Could not set lock on file "/x/lakehouse.duckdb": Resource temporarily unavailable'
    assert (lock_conflict(message) or "").startswith(
        "/x/lakehouse.duckdb is locked: another process has it open; close"
    )


def test_an_upload_of_a_locked_lakehouse_names_the_process(database: Path) -> None:
    database.with_name(f"{database.name}.wal").write_bytes(b"")
    with held(database) as pid, pytest.raises(LakehouseLockedError, match=f"process {pid} "):
        settle(database)


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """A small lakehouse, transformed with a HOME in which nothing can be written."""
    workshop = Workshop(tmp_path_factory.mktemp("locked") / "data")
    for release in generate(HistorySpec(rows=500, releases=1)):
        workshop.land(release)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", "/proc")
        workshop.transform()
    return workshop


def test_a_transform_needs_no_home(worked: Workshop) -> None:
    assert worked.query("SELECT count(*) FROM serving.fct_psd")[0][0] > 0


def test_a_transform_leaves_nothing_in_home(worked: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    worked.transform()
    assert list(tmp_path.iterdir()) == []


def test_a_transform_of_a_locked_lakehouse_names_the_process(worked: Workshop) -> None:
    snapshots = worked.landing.snapshots()
    for name in ("lakehouse.duckdb", "lakehouse-state.duckdb"):
        refused = pytest.raises(LakehouseLockedError, match=f"{name} is locked: .*")
        with held(worked.data_dir / name) as pid, refused as error:
            transform.run(worked.lakehouse, snapshots)
        assert f" {pid} " in str(error.value)
    assert transform.run(worked.lakehouse, snapshots).releases_processed == 0
