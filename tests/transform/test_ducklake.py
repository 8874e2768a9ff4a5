"""The same releases on a DuckLake as in the one file: the same tables, the same generation, the same refusals."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from dataflows import export
from dataflows.errors import LakehouseError, LockHeldError
from dataflows.lakehouse import transform
from dataflows.lakehouse.ducklake import DuckLake, SqliteCatalog
from dataflows.lakehouse.lake_files import check_files
from dataflows.serving import ServingReader
from dataflows.serving.store import ServingStore
from ops.config.lakehouse import environ_of
from ops.host.lakehouse_lock import lakehouse_lock
from tests.support.object_server import BUCKET, CANARY, ObjectServer
from tests.support.postgres_server import PASSWORD, PostgresServer
from tests.support.table_by_table import differences, written_out
from tests.support.workshop import Workshop
from tests.transform.conftest import HISTORY, ROWS_A_BATCH


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    with ObjectServer(tmp_path_factory.mktemp("weed")) as running:
        yield running


@pytest.fixture(scope="module")
def lake(postgres: PostgresServer, objects: ObjectServer) -> DuckLake:
    """What several machines share: the catalog in PostgreSQL, the data in a bucket."""
    return DuckLake(postgres.new_catalog(), f"s3://{BUCKET}/lake", objects.bucket())


@pytest.fixture(scope="module")
def shared(served: Workshop, lake: DuckLake, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """The five releases of `served`, transformed in the same batches, and published."""
    workshop = Workshop(tmp_path_factory.mktemp("shared") / "data", lake=lake)
    served.copy_landing(workshop)
    landed = export.landed(workshop.landing, workshop.lakehouse)
    done = transform.run(workshop.lakehouse, landed, rows_a_batch=ROWS_A_BATCH)
    assert done.releases_processed == HISTORY.releases
    workshop.publish()
    return workshop


def test_every_table_of_every_layer_is_the_embedded_one(served: Workshop, shared: Workshop, tmp_path: Path) -> None:
    one = written_out(served.lakehouse.store, tmp_path / "one.duckdb")
    other = written_out(shared.lakehouse.store, tmp_path / "other.duckdb")
    assert differences(one, other) == {}
    with duckdb.connect(str(other)) as connection:
        (facts,) = connection.execute("SELECT COUNT(*) FROM serving.fct_psd").fetchone()
    assert facts > HISTORY.rows


def test_the_generation_is_the_embedded_one_with_macros_and_comments(served: Workshop, shared: Workshop) -> None:
    paths = [workshop.serving.path(workshop.serving.served().number) for workshop in (served, shared)]
    assert set(differences(*paths)) <= {"serving.generation"}
    asked = (
        "SELECT SUM(HASH(fact)) FROM serving.psd_asof('2025-05-20') AS fact",
        "SELECT SUM(HASH(told)) FROM serving.psd_asof_coverage('2025-05-20') AS told",
        "SELECT table_name, column_name, comment FROM duckdb_columns()"
        " WHERE schema_name = 'serving' AND comment IS NOT NULL ORDER BY ALL",
        "SELECT table_name, comment FROM duckdb_tables() WHERE comment IS NOT NULL ORDER BY ALL",
    )
    for sql in asked:
        answers = []
        for workshop in (served, shared):
            with ServingReader(workshop.data_dir / "serving.duckdb") as reader:
                answers.append(reader.query(sql).table.to_pylist())
        assert answers[0] == answers[1] and answers[0]


def test_the_data_is_parquet_in_the_bucket_and_no_secret_is_kept(
    shared: Workshop, objects: ObjectServer, postgres: PostgresServer, lake: DuckLake
) -> None:
    keys = [each["Key"] for each in objects.client.list_objects_v2(Bucket=BUCKET, Prefix="lake/")["Contents"]]
    assert keys and all(key.endswith(".parquet") for key in keys)
    assert not (shared.data_dir / "lakehouse.duckdb").exists()
    with duckdb.connect() as connection:
        lake.attach(connection, read_only=True)
        output = repr(connection.execute("FROM duckdb_databases()").fetchall())
        output += repr(connection.execute("FROM duckdb_secrets()").fetchall())
    options = postgres.execute("SELECT key, value FROM ducklake_metadata", lake.catalog.database)
    for text in (output, repr(options), repr(lake), str(lake), repr(shared.lakehouse)):
        assert PASSWORD not in text and CANARY not in text


HOLD = """
import sys
from dataflows.lakehouse.ducklake import DuckLake, PostgresCatalog
from ops.host.lakehouse_lock import lakehouse_lock
host, port, database, user, password = sys.stdin.readline().split()
lake = DuckLake(PostgresCatalog(host, int(port), database, user, password), "/nowhere")
with lakehouse_lock(lake, "transform") as handles:
    print("held", flush=True)
    if sys.argv[1:]:
        import subprocess
        child = subprocess.Popen(["sleep", "60"], pass_fds=handles, stdout=subprocess.DEVNULL)
        print(child.pid, flush=True)
    sys.stdin.readline()
"""


def holder(lake: DuckLake, *arguments: str) -> "subprocess.Popen[str]":
    """Another machine, as far as the catalog can tell: a process with a connection of its own."""
    catalog = lake.catalog
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    process.stdin.write(f"{catalog.host} {catalog.port} {catalog.database} {catalog.user} {catalog.password}\n")
    process.stdin.flush()
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_of_two_machines_gets_an_error_that_names_the_writer(lake: DuckLake) -> None:
    first = holder(lake)
    try:
        with pytest.raises(LockHeldError, match=r"materia transform on .* holds the lock"), lakehouse_lock(lake, "x"):
            pass
    finally:
        first.communicate("done\n", timeout=30)
    with lakehouse_lock(lake, "x"):
        pass


def test_the_lock_lives_as_long_as_the_child_that_inherited_it(lake: DuckLake) -> None:
    first = holder(lake, "with a child")
    child = int(first.stdout.readline())
    first.kill()
    first.communicate(timeout=30)
    try:
        with pytest.raises(LockHeldError), lakehouse_lock(lake, "x"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
    await_free(lake)


def await_free(lake: DuckLake) -> None:
    for _ in range(200):
        try:
            with lakehouse_lock(lake, "x"):
                return
        except LockHeldError:
            time.sleep(0.05)
    raise AssertionError("the lock outlived its last holder")


def test_others_read_while_one_writes_and_see_whole_states_only(shared: Workshop, lake: DuckLake) -> None:
    """A reader's transaction sees one state; what is committed meanwhile is there for the next."""
    with duckdb.connect() as writer, duckdb.connect() as reader:
        lake.attach(writer, read_only=False)
        lake.attach(reader, read_only=True)
        count = "SELECT COUNT(*) FROM lakehouse.scratch.seen"
        writer.execute("CREATE SCHEMA lakehouse.scratch")
        writer.execute("CREATE TABLE lakehouse.scratch.seen AS SELECT 1 AS number")
        reader.execute("BEGIN")
        assert reader.execute(count).fetchone() == (1,)
        writer.execute("INSERT INTO lakehouse.scratch.seen FROM range(2, 1000)")
        assert reader.execute(count).fetchone() == (1,)
        reader.execute("COMMIT")
        assert reader.execute(count).fetchone() == (999,)
        writer.execute("DROP TABLE lakehouse.scratch.seen")
        writer.execute("DROP SCHEMA lakehouse.scratch")


def on_machine(data_dir: Path, lake: DuckLake, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The command on a machine that has only the settings."""
    settings = {"MATERIA_DATA_DIR": str(data_dir), "MATERIA_MIN_FREE_MB": "0", **environ_of(lake)}
    return subprocess.run(
        [Path(sys.executable).with_name("materia"), *arguments],
        env={**os.environ, **settings},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_another_machine_publishes_the_same_without_waiting(shared: Workshop, lake: DuckLake, tmp_path: Path) -> None:
    """It starts with the settings alone; the landing comes from the bucket, the tables from the lake."""
    there = tmp_path / "data"
    assert on_machine(shared.data_dir, lake, "landing", "sync").returncode == 0
    writing = holder(lake)
    try:
        refused = on_machine(there, lake, "pipeline", "run", "export_serving")
        assert refused.returncode == 4, refused.stderr
        assert "materia transform on" in refused.stderr
    finally:
        writing.communicate("done\n", timeout=30)
    done = on_machine(there, lake, "pipeline", "run", "export_serving")
    assert done.returncode == 0 and "generation 1 serves" in done.stdout, done.stderr
    ours, theirs = (ServingStore(folder / "serving.duckdb") for folder in (shared.data_dir, there))
    assert set(differences(ours.path(ours.served().number), theirs.path(1))) <= {"serving.generation"}
    assert not list(there.glob("lakehouse*")), "nothing of the lakehouse is on this machine"
    kept = [path.read_bytes() for path in there.rglob("*") if path.is_file()]
    for secret in (PASSWORD, CANARY):
        assert not any(secret.encode() in text for text in kept)
        assert not any(secret in message.stdout + message.stderr for message in (refused, done))


def test_the_models_pass_their_unit_tests_on_a_ducklake(tmp_path: Path) -> None:
    lake = DuckLake(SqliteCatalog(tmp_path / "lake.sqlite"), str(tmp_path / "lake"))
    done = subprocess.run(
        [Path(sys.executable).with_name("sqlmesh"), "-p", str(transform.PROJECT_DIR), "test"],
        env={**os.environ, "MATERIA_DATA_DIR": str(tmp_path), **environ_of(lake)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0 and "Successfully Ran" in done.stdout, done.stdout + done.stderr


def test_every_file_of_a_shared_lake_is_read(lake: DuckLake, shared: Workshop, objects: ObjectServer) -> None:
    checked = list(check_files(lake, {}))
    assert len(checked) > 20 and all(each.why is None and each.sha256 for each in checked)
    where = checked[0].where
    key = where.removeprefix(f"s3://{BUCKET}/")
    content = objects.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    objects.client.delete_object(Bucket=BUCKET, Key=key)
    assert [(each.where, each.why) for each in check_files(lake, {}) if each.why] == [(where, "it is missing")]
    objects.client.put_object(Bucket=BUCKET, Key=key, Body=content)
    assert all(each.why is None for each in check_files(lake, {}))
    stranger = replace(lake, bucket=replace(objects.bucket(), secret_key="wrong"))
    with pytest.raises(LakehouseError, match="can't be read"):
        list(check_files(stranger, {}))
