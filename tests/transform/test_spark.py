"""The same releases on a real Spark cluster as in the one file: the same generations, whatever dies meanwhile.

One story, since a plan on Spark takes a minute: four of the five releases, a worker lost on the way; then the third
release with an edited model, once without a master.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from dataflows.lakehouse.spark import SparkLakehouse
from dataflows.lakehouse.spark_settings import parse_spark
from ops.config.lakehouse import environ_of
from ops.demo.generator import GeneratedRelease
from ops.health.doctor import Finding, Verdict, examine
from tests.support.needs import require_tool
from tests.support.postgres_server import PASSWORD, PostgresServer
from tests.support.spark_cluster import SparkCluster, quick_properties
from tests.support.table_by_table import differences
from tests.support.workshop import Workshop
from tests.transform.test_breakdown import checkout_at

pytestmark = pytest.mark.needs("pyspark", "java")
LATE = 2
"""The release that arrives after its successors."""
_TIMEOUT_S = 1500


@dataclass(frozen=True)
class Host:
    """A data directory whose lakehouse is on the cluster, and the commands that run there."""

    workshop: Workshop
    code: Path
    spark: SparkLakehouse | None = None

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        settings = {"MATERIA_MIN_FREE_MB": "0", "PYTHONPATH": str(self.code)}
        return subprocess.Popen(
            [sys.executable, "-c", "import sys; from ops.cli import main; sys.exit(main())", *arguments],
            cwd=self.code,
            env={**self.workshop.environ, **settings, **(environ_of(self.spark) if self.spark else {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        """The exit code and the output."""
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=_TIMEOUT_S)
        return process.returncode, output

    @property
    def served(self) -> Path:
        return self.workshop.serving.path(self.workshop.serving.served().number)


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this code in which a model differs."""
    checkout = checkout_at(tmp_path_factory.mktemp("checkout"))
    model = checkout / "transform/sqlmesh_materia/models/serving/agg_release_summary.sql"
    name = "commodity.commodity_name"
    model.write_text(model.read_text().replace(f"{name}::TEXT", f"UPPER({name})::TEXT AS commodity_name"))
    return checkout


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkCluster]:
    with SparkCluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="module")
def spark(cluster: SparkCluster, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> SparkLakehouse:
    """Names and SQLMesh's state in PostgreSQL."""
    require_tool("postgresql.jar")
    folder = tmp_path_factory.mktemp("spark")
    given = {
        "SPARK_MASTER": cluster.url,
        "SPARK_METASTORE": str(postgres.new_catalog()),
        "SPARK_PASSWORD": PASSWORD,
        "SPARK_PROPERTIES": str(quick_properties(folder)),
    }
    return parse_spark(given, folder / "data")


@pytest.fixture(scope="module")
def host(
    releases: tuple[GeneratedRelease, ...],
    spark: SparkLakehouse,
    cluster: SparkCluster,
    tmp_path_factory: pytest.TempPathFactory,
) -> Host:
    """All releases but the late one, transformed and published while a worker and its executor are lost."""
    host = Host(Workshop(tmp_path_factory.mktemp("host") / "data"), Path.cwd(), spark)
    for number, release in enumerate(releases):
        if number != LATE:
            host.workshop.land(release)
    process = host.start("pipeline", "run", "export_serving")
    while not list(Path(spark.warehouse).glob("*staging*/*commodity*/ingest_date=*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    arguments = [" ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"])]
    assert any("--properties-file" in text for text in arguments) and PASSWORD not in "\n".join(arguments)
    cluster.kill_worker()
    output, _ = process.communicate(timeout=_TIMEOUT_S)
    assert process.returncode == 0, output
    cluster.start_worker()
    return host


@dataclass(frozen=True)
class Late:
    """What happened when the late release came, with a model edited."""

    refused: tuple[int, str]
    """The run without a master, and what was served after it."""
    still_served: Path
    doctor: Finding
    healed: tuple[int, str]
    host: Host


@pytest.fixture(scope="module")
def late(host: Host, releases: tuple[GeneratedRelease, ...], cluster: SparkCluster, edited: Path) -> Late:
    host = Host(host.workshop, edited, host.spark)
    # A release is compared with the one before: the first one is not read again.
    first = host.workshop.landing.rows_path(host.workshop.landing.snapshots()[0])
    first.write_bytes(b"PAR1" + bytes(first.stat().st_size - 8) + b"PAR1")
    host.workshop.land(releases[LATE])
    cluster.kill_master()
    refused, still_served, doctor = host.run("pipeline", "run", "export_serving"), host.served, lake_finding(host)
    cluster.start_master()
    return Late(refused, still_served, doctor, host.run("pipeline", "run", "export_serving"), host)


def test_the_generation_is_duckdbs_although_a_worker_was_lost(
    host: Host, releases: tuple[GeneratedRelease, ...], tmp_path: Path
) -> None:
    log = "".join(path.read_text() for path in (host.workshop.data_dir / "logs").rglob("*") if path.is_file())
    assert "Lost executor" in log
    duckdb = Workshop(tmp_path / "data")
    host.workshop.copy_landing(duckdb)
    duckdb.export()
    assert set(differences(Host(duckdb, host.code).served, host.served)) == {"serving.generation"}


def test_without_a_master_a_run_fails_at_once_and_the_old_generation_is_served(host: Host, late: Late) -> None:
    code, output = late.refused
    assert code == 1 and "Spark's master does not answer: connection refused" in output and "SPARK_MASTER" in output
    assert late.still_served.name.endswith("1.duckdb")
    assert late.doctor.verdict is Verdict.FAILED and "start it, or fix SPARK_MASTER" in late.doctor.next_step


def test_a_late_release_and_an_edited_model_give_what_duckdb_gives_in_order(
    late: Late, served: Workshop, tmp_path: Path
) -> None:
    code, output = late.healed
    assert code == 0 and "generation 2 serves" in output, output
    on_file = Host(served.copy(tmp_path / "data"), late.host.code)
    before = on_file.served
    assert on_file.run("pipeline", "run", "export_serving")[0] == 0
    assert set(differences(on_file.served, late.host.served)) == {"serving.generation"}
    assert "serving.agg_release_summary" in differences(before, late.host.served), "the edit shows"


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


def lake_finding(host: Host, **differently: str) -> Finding:
    offline = {"MATERIA_MIN_FREE_MB": "0", "PSD_ARCHIVE_URL": "http://127.0.0.1:9"}
    environ: Mapping[str, str] = {**host.workshop.environ, **environ_of(host.spark), **offline, **differently}
    return {finding.name: finding for finding in examine(environ)}["lakehouse"]


_COPY = """
import os, sys
from pathlib import Path
from dataflows.lakehouse.spark_driver import copy_landing, driver, fetch_folder
from dataflows.lakehouse.spark_settings import parse_spark
folder, properties = map(Path, sys.argv[1:])
spark = parse_spark({"SPARK_MASTER": "local[1]", "SPARK_PROPERTIES": str(properties)}, folder / "data")
with driver(spark) as environ:
    os.environ.update(environ)
    from pyspark.sql import SparkSession
    session = SparkSession.builder.getOrCreate()
    session.sql("CREATE TABLE kept AS SELECT 1 AS one")
    for _ in range(3):
        copy_landing(session, folder / "landing", f"file://{folder}/there")
        print("copied", flush=True)
        sys.stdin.readline()
    fetch_folder(session, f"file://{folder}/there/psd", folder / "fetched")
print((spark.metastore / "service.properties").exists(), Path(spark.warehouse, "kept").is_dir())
"""


def test_a_warehouse_elsewhere_gets_the_landing_and_gives_tables_back(served: Workshop, tmp_path: Path) -> None:
    """Through Hadoop's file systems, as `s3a://` and `hdfs://`, here `file://`; on one host, with embedded Derby."""
    here, there = tmp_path / "landing", tmp_path / "there"
    shutil.copytree(served.data_dir / "landing", here)

    def kept(folder: Path) -> dict[str, bytes]:
        files = (path for path in folder.rglob("*") if path.suffix in (".parquet", ".json") and path.name[0] != ".")
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

    arguments = [sys.executable, "-c", _COPY, str(tmp_path), str(quick_properties(tmp_path))]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "copied\n"
        assert kept(there) == kept(here) and len(kept(here)) == 10
        untouched, changed, gone = sorted(here.glob("psd/*.json"))[:3]
        when = (there / "psd" / untouched.name).stat().st_mtime_ns
        changed.write_text(changed.read_text().replace("psd_alldata", "psd_coffees"))
        gone.unlink()
        print(file=process.stdin, flush=True)
        assert process.stdout.readline() == "copied\n"
        assert kept(there) == kept(here) and len(kept(here)) == 9
        assert (there / "psd" / untouched.name).stat().st_mtime_ns == when
        output, _ = process.communicate("\n\n", timeout=120)
    assert process.returncode == 0 and output.endswith("True True\n")
    assert kept(tmp_path / "fetched") == kept(here / "psd")
