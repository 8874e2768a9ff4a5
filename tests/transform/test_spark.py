"""The same releases on a real Spark cluster as in the one file: the same generations, whatever dies meanwhile.

One story of two transforms, since each takes most of a minute: four of the five releases, a worker lost on the way;
then the third release, a correction of the last one and an edited model, after a run without a master.
`tests/torture/spark` has the rest: a development environment, batches, USDA's own releases, a lost file, a warehouse
elsewhere.
"""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest

from dataflows.lakehouse.spark import SparkLakehouse
from ops.demo.generator import GeneratedRelease
from ops.health.doctor import Finding, Verdict
from tests.support.postgres_server import PASSWORD, PostgresServer
from tests.support.spark_cluster import SparkCluster
from tests.support.table_by_table import differences
from tests.support.workshop import Workshop
from tests.transform.spark_host import (
    CORRECTED,
    LATE,
    Host,
    edited_checkout,
    lake_at,
    lake_finding,
    land_correction,
    publish_while_a_worker_is_lost,
)

pytestmark = pytest.mark.needs("pyspark", "java")
_VIEWS = (
    'SELECT "TBL_NAME", "TBL_ID" FROM "TBLS" JOIN "DBS" USING ("DB_ID")'
    " WHERE \"TBL_TYPE\" = 'VIRTUAL_VIEW' AND \"NAME\" LIKE 'sqlmesh\\_\\_%'"
)


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return edited_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def spark(cluster: SparkCluster, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> SparkLakehouse:
    return lake_at(cluster, postgres, tmp_path_factory.mktemp("spark"))


@pytest.fixture(scope="module")
def beside() -> Iterator[ThreadPoolExecutor]:
    """What DuckDB publishes meanwhile: Java starts on one processor, and a run without a master needs hardly one."""
    with ThreadPoolExecutor() as pool:
        yield pool


@pytest.fixture(scope="module")
def all_but_late(
    beside: ThreadPoolExecutor, releases: tuple[GeneratedRelease, ...], tmp_path_factory: pytest.TempPathFactory
) -> Future[Path]:
    """What DuckDB serves of all releases but the late one."""
    on_file = Host(Workshop(tmp_path_factory.mktemp("all-but-late") / "data"), Path.cwd())
    for number, release in enumerate(releases):
        if number != LATE:
            on_file.workshop.land(release)
    return beside.submit(publish, on_file)


@pytest.fixture(scope="module")
def in_order(
    beside: ThreadPoolExecutor,
    releases: tuple[GeneratedRelease, ...],
    edited: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Future[Path]:
    """What DuckDB serves of all releases in their order and the correction, with the edited model."""
    on_file = Host(Workshop(tmp_path_factory.mktemp("in-order") / "data"), edited)
    for release in releases:
        on_file.workshop.land(release)
    land_correction(on_file.workshop, releases[CORRECTED])
    return beside.submit(publish, on_file)


def publish(host: Host) -> Path:
    code, output = host.run("pipeline", "run", "export_serving")
    assert code == 0, output
    return host.served


@pytest.fixture(scope="module")
def host(
    all_but_late: Future[Path],
    releases: tuple[GeneratedRelease, ...],
    spark: SparkLakehouse,
    cluster: SparkCluster,
    tmp_path_factory: pytest.TempPathFactory,
) -> Host:
    """All releases but the late one, transformed and published while a worker and its executor are lost."""
    host = Host(Workshop(tmp_path_factory.mktemp("host") / "data"), Path.cwd(), spark)
    publish_while_a_worker_is_lost(host, cluster, releases)
    return host


@dataclass(frozen=True)
class Refused:
    """What happened without a master, when the late release and the correction were landed."""

    code: int
    output: str
    still_served: Path
    doctor: Finding


@pytest.fixture(scope="module")
def refused(
    host: Host, in_order: Future[Path], releases: tuple[GeneratedRelease, ...], cluster: SparkCluster
) -> Refused:
    """A run without a master; there is one again afterwards."""
    host.workshop.land(releases[LATE])
    land_correction(host.workshop, releases[CORRECTED])
    cluster.kill_master()
    code, output = host.run("pipeline", "run", "export_serving")
    found = Refused(code, output, host.served, lake_finding(host))
    cluster.start_master()
    return found


@dataclass(frozen=True)
class Late:
    """The run with the late release, the correction and the edited model."""

    host: Host
    code: int
    output: str
    views_before: dict[str, int]
    """The views of the models and their numbers in the metastore, before this run. Replaced, a view gets another."""


@pytest.fixture(scope="module")
def late(host: Host, refused: Refused, edited: Path, postgres: PostgresServer) -> Late:
    host = Host(host.workshop, edited, host.spark)
    # A release is compared with the one before: the first one is not read again.
    first = host.workshop.landing.rows_path(host.workshop.landing.snapshots()[0])
    whole = first.read_bytes()
    first.write_bytes(b"PAR1" + bytes(len(whole) - 8) + b"PAR1")
    views_before = dict(postgres.execute(_VIEWS, host.spark.metastore.database))
    code, output = host.run("pipeline", "run", "export_serving")
    first.write_bytes(whole)
    return Late(host, code, output, views_before)


def test_the_generation_is_duckdbs_although_a_worker_was_lost(host: Host, all_but_late: Future[Path]) -> None:
    assert "Lost executor" in host.logged
    assert set(differences(all_but_late.result(), host.workshop.serving.path(1))) == {"serving.generation"}


def test_without_a_master_a_run_fails_at_once_and_the_old_generation_is_served(refused: Refused) -> None:
    assert refused.code == 1 and "SPARK_MASTER" in refused.output
    assert "Spark's master does not answer: connection refused" in refused.output
    assert refused.still_served.name.endswith("1.duckdb")
    assert refused.doctor.verdict is Verdict.FAILED and "start it, or fix SPARK_MASTER" in refused.doctor.next_step


def test_a_late_release_a_correction_and_an_edited_model_give_what_duckdb_gives_in_order(
    late: Late, in_order: Future[Path]
) -> None:
    assert late.code == 0 and "generation 2 serves" in late.output, late.output
    assert set(differences(in_order.result(), late.host.served)) == {"serving.generation"}
    store = late.host.workshop.serving
    assert not has_the_edit(store.path(1)) and has_the_edit(store.path(2))


def has_the_edit(generation: Path) -> bool:
    with duckdb.connect(str(generation), read_only=True) as connection:
        names = "SELECT BOOL_AND(commodity_name = UPPER(commodity_name)) FROM serving.agg_release_summary"
        return connection.execute(names).fetchall() == [(True,)]


def test_the_janitor_drops_tables_that_an_edit_replaced(late: Late, postgres: PostgresServer) -> None:
    tables = postgres.execute(
        'SELECT "TBL_NAME" FROM "TBLS" JOIN "DBS" USING ("DB_ID") WHERE "NAME" LIKE \'sqlmesh\\_\\_%\'',
        late.host.spark.metastore.database,
    )
    models = Counter(name.rpartition("__")[0] for (name,) in tables if not name.endswith("__temp"))
    assert len(models) > 20 and set(models.values()) == {1}


def test_no_view_is_replaced_but_that_of_an_edited_model(late: Late, postgres: PostgresServer) -> None:
    views = dict(postgres.execute(_VIEWS, late.host.spark.metastore.database))
    new = {name for name, number in views.items() if late.views_before.get(name) != number}
    assert len(views) > 12 and {name.rpartition("__")[0] for name in new} == {"serving__agg_release_summary"}


def test_the_password_of_the_metastore_is_nowhere(late: Late, cluster: SparkCluster) -> None:
    folders = (late.host.workshop.data_dir, Path(late.host.spark.warehouse), cluster.folder)
    kept = [path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert len(kept) > 100 and not any(PASSWORD.encode() in each for each in kept)


def test_the_doctor_checks_each_part_of_spark(late: Late, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = lake_finding(late.host)
    assert found.verdict is Verdict.OK and "pyspark 3.5.7, Java" in found.what and PASSWORD not in found.what
    wrong = lake_finding(late.host, SPARK_PASSWORD="wrong")
    assert wrong.verdict is Verdict.FAILED and "check SPARK_METASTORE" in wrong.next_step
    gone = lake_finding(late.host, SPARK_METASTORE="thrift://127.0.0.1:1")
    assert "the Hive metastore does not answer: connection refused" in gone.what and "SPARK_METASTORE" in gone.next_step
    assert "fix SPARK_PROPERTIES" in lake_finding(late.host, SPARK_PROPERTIES=str(tmp_path / "no.conf")).next_step
    monkeypatch.setenv("PATH", str(tmp_path))
    assert lake_finding(late.host).next_step.startswith("apt-get install default-jre-headless")
