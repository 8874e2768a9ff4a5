"""The same releases on a real Spark cluster as in the one file: the same generations, whatever dies meanwhile.

One story, since a plan on Spark takes a minute: four of the five releases, a worker lost on the way; an edited model
in a development environment; then, in two batches, the third release and a correction of the last one with that model,
once without a master. USDA's own releases, and a lost file, are in `tests/torture/spark`.
"""

import io
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
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
from tests.transform.conftest import HISTORY
from tests.transform.test_breakdown import checkout_at
from tests.transform.test_history import altered

pytestmark = pytest.mark.needs("pyspark", "java")
LATE, CORRECTED = 2, 4
"""The release that arrives after its successors, and the one that is published again with other bytes."""
BESIDE = "dev_me"
"""The development environment."""
_COMMANDS = "import sys; from ops.cli import main; sys.exit(main())"
_ROWS_A_BATCH = 2 * HISTORY.rows + 1_000
"""Two releases."""
_IN_BATCHES = f"from dataflows.lakehouse import transform; transform.run.__defaults__ = ({_ROWS_A_BATCH},); {_COMMANDS}"
_COMPARED = (
    "SELECT COUNT(*) AS rows, SUM(INT(beside.commodity_name = UPPER(production.commodity_name))) AS edited,"
    " SUM(INT(production.commodity_name = UPPER(production.commodity_name))) AS in_production"
    f" FROM serving__{BESIDE}.agg_release_summary AS beside"
    " JOIN serving.agg_release_summary AS production USING (released_on, commodity_code)"
)
_SQLMESH = """
import shlex, sys
from sqlmesh.cli.main import cli
for line in sys.stdin.read().splitlines():
    cli(["-p", "transform/sqlmesh_materia", *shlex.split(line)], standalone_mode=False)
"""
_TIMEOUT_S = 1500


@dataclass(frozen=True)
class Host:
    """A data directory whose lakehouse is on the cluster, and the commands that run there."""

    workshop: Workshop
    code: Path
    spark: SparkLakehouse | None = None

    def start(self, *arguments: str, code: str = _COMMANDS) -> "subprocess.Popen[str]":
        settings = {"MATERIA_MIN_FREE_MB": "0", "PYTHONPATH": str(self.code)}
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            cwd=self.code,
            env={**self.workshop.environ, **settings, **(environ_of(self.spark) if self.spark else {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str, code: str = _COMMANDS) -> tuple[int, str]:
        """The exit code and the output."""
        process = self.start(*arguments, code=code)
        output, _ = process.communicate(timeout=_TIMEOUT_S)
        return process.returncode, output

    def sqlmesh(self, *commands: str) -> str:
        """What `sqlmesh` prints for these commands, one after the other in one process: each start of Java counts."""
        process = self.start(code=_SQLMESH)
        output, _ = process.communicate("\n".join(commands), timeout=_TIMEOUT_S)
        assert process.returncode == 0, output
        return output

    @property
    def on_this_host(self) -> "Host":
        """The same lakehouse without the cluster, whose executors would start first."""
        return replace(self, spark=replace(self.spark, master="local[2]"))

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
    """What happened when the late release and the correction came, with a model edited."""

    beside: str
    """How many rows the development environment had, how many of them with the edit, how many in production."""
    refused: tuple[int, str]
    """The run without a master, and what was served after it."""
    still_served: Path
    doctor: Finding
    healed: tuple[int, str]
    host: Host


@pytest.fixture(scope="module")
def late(host: Host, releases: tuple[GeneratedRelease, ...], cluster: SparkCluster, edited: Path) -> Late:
    host = Host(host.workshop, edited, host.spark)
    beside = host.on_this_host.sqlmesh(f"plan {BESIDE} --skip-tests", f"fetchdf '{_COMPARED}'", f"invalidate {BESIDE}")
    # A release is compared with the one before: the first one is not read again.
    first = host.workshop.landing.rows_path(host.workshop.landing.snapshots()[0])
    whole = first.read_bytes()
    first.write_bytes(b"PAR1" + bytes(len(whole) - 8) + b"PAR1")
    host.workshop.land(releases[LATE])
    land_correction(host.workshop, releases[CORRECTED])
    cluster.kill_master()
    refused, still_served, doctor = host.run("pipeline", "run", "export_serving"), host.served, lake_finding(host)
    cluster.start_master()
    healed = host.run("pipeline", "run", "export_serving", code=_IN_BATCHES)
    first.write_bytes(whole)
    return Late(beside, refused, still_served, doctor, healed, host)


def land_correction(workshop: Workshop, release: GeneratedRelease) -> None:
    """Land a release that USDA published once more an hour later, with another value."""
    with zipfile.ZipFile(io.BytesIO(release.zip_bytes)) as archive:
        row = archive.read(archive.namelist()[0]).splitlines()[1]
    others, _, value = row.rpartition(b",")
    corrected = altered(release, row, b"%s,%.4f" % (others, float(value) + 1))
    workshop.land(
        corrected, published_at=release.published_at.replace(hour=13, minute=0, second=0, microsecond=0, tzinfo=None)
    )


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


def test_an_edited_model_is_tried_in_a_development_environment_beside_production(late: Late) -> None:
    ((rows, edited, in_production),) = re.findall(r"(?m)^0 +(\d+) +(\d+) +(\d+)$", late.beside)
    assert rows == edited > in_production == "0", late.beside


def test_a_late_release_a_correction_and_an_edited_model_in_batches_give_what_duckdb_gives_in_order(
    late: Late, served: Workshop, releases: tuple[GeneratedRelease, ...], tmp_path: Path
) -> None:
    code, output = late.healed
    assert code == 0 and "generation 2 serves" in output, output
    log = "".join(path.read_text() for path in (late.host.workshop.data_dir / "logs").rglob("*") if path.is_file())
    assert len(set(re.findall(r"comparing releases \S+ to \S+", log))) == 2, "batches"
    on_file = Host(served.copy(tmp_path / "data"), late.host.code)
    before = on_file.served
    land_correction(on_file.workshop, releases[CORRECTED])
    assert on_file.run("pipeline", "run", "export_serving")[0] == 0
    assert set(differences(on_file.served, late.host.served)) == {"serving.generation"}
    assert "serving.agg_release_summary" in differences(before, late.host.served), "the edit shows"


def test_the_janitor_drops_environments_that_are_over_and_tables_that_an_edit_replaced(
    late: Late, postgres: PostgresServer
) -> None:
    database = late.host.spark.metastore.database
    names = {name for (name,) in postgres.execute('SELECT "NAME" FROM "DBS"', database)}
    assert "serving" in names and f"serving__{BESIDE}" not in names
    tables = postgres.execute(
        'SELECT "TBL_NAME" FROM "TBLS" JOIN "DBS" USING ("DB_ID") WHERE "NAME" LIKE \'sqlmesh\\_\\_%\'', database
    )
    models = Counter(name.rpartition("__")[0] for (name,) in tables if not name.endswith("__temp"))
    assert len(models) > 20 and set(models.values()) == {1}


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
