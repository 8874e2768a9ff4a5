"""Late, corrected and edited on a Spark cluster, in batches, beside a development environment: DuckDB's tables.

The story of `tests/transform/test_spark.py` in full, and the copy of the landing to a warehouse elsewhere.
"""

import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ops.demo.generator import GeneratedRelease, generate
from tests.support.postgres_server import PostgresServer
from tests.support.spark_cluster import SparkCluster, quick_properties
from tests.support.table_by_table import differences
from tests.support.workshop import Workshop
from tests.transform.conftest import HISTORY
from tests.transform.spark_host import (
    COMMANDS,
    CORRECTED,
    LATE,
    TIMEOUT_S,
    Host,
    edited_checkout,
    lake_at,
    land_correction,
    publish_while_a_worker_is_lost,
)

pytestmark = [pytest.mark.long, pytest.mark.needs("pyspark", "java")]
BESIDE = "dev_me"
"""The development environment."""
_ROWS_A_BATCH = 2 * HISTORY.rows + 1_000
"""Two releases."""
_IN_BATCHES = f"from dataflows.lakehouse import transform; transform.run.__defaults__ = ({_ROWS_A_BATCH},); {COMMANDS}"
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


@pytest.fixture(scope="module")
def releases() -> tuple[GeneratedRelease, ...]:
    return tuple(generate(HISTORY))


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return edited_checkout(tmp_path_factory.mktemp("checkout"))


@dataclass(frozen=True)
class Late:
    """What happened when the late release and the correction came, with a model edited."""

    beside: str
    """How many rows the development environment had, how many of them with the edit, how many in production."""
    code: int
    output: str
    host: Host


@pytest.fixture(scope="module")
def late(
    releases: tuple[GeneratedRelease, ...],
    cluster: SparkCluster,
    postgres: PostgresServer,
    edited: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Late:
    lake = lake_at(cluster, postgres, tmp_path_factory.mktemp("spark"))
    before = Host(Workshop(tmp_path_factory.mktemp("host") / "data"), Path.cwd(), lake)
    publish_while_a_worker_is_lost(before, cluster, releases)
    host = replace(before, code=edited)
    beside = sqlmesh(host, f"plan {BESIDE} --skip-tests", f"fetchdf '{_COMPARED}'", f"invalidate {BESIDE}")
    # A release is compared with the one before: the first one is not read again.
    first = host.workshop.landing.rows_path(host.workshop.landing.snapshots()[0])
    whole = first.read_bytes()
    first.write_bytes(b"PAR1" + bytes(len(whole) - 8) + b"PAR1")
    host.workshop.land(releases[LATE])
    land_correction(host.workshop, releases[CORRECTED])
    code, output = host.run("pipeline", "run", "export_serving", code=_IN_BATCHES)
    first.write_bytes(whole)
    return Late(beside, code, output, host)


def sqlmesh(host: Host, *commands: str) -> str:
    """What `sqlmesh` prints for these commands, one after the other in one process: each start of Java counts.

    Without the cluster, whose executors would start first.
    """
    process = replace(host, spark=replace(host.spark, master="local[2]")).start(code=_SQLMESH)
    output, _ = process.communicate("\n".join(commands), timeout=TIMEOUT_S)
    assert process.returncode == 0, output
    return output


def test_an_edited_model_is_tried_in_a_development_environment_beside_production(late: Late) -> None:
    ((rows, edited, in_production),) = re.findall(r"(?m)^0 +(\d+) +(\d+) +(\d+)$", late.beside)
    assert rows == edited > in_production == "0", late.beside


def test_a_late_release_a_correction_and_an_edited_model_in_batches_give_what_duckdb_gives_in_order(
    late: Late, releases: tuple[GeneratedRelease, ...], tmp_path: Path
) -> None:
    assert late.code == 0 and "generation 2 serves" in late.output, late.output
    assert len(set(re.findall(r"comparing releases \S+ to \S+", late.host.logged))) == 2, "batches"
    on_file = Host(Workshop(tmp_path / "data"), Path.cwd())
    for release in releases:
        on_file.workshop.land(release)
    on_file.workshop.export()
    before = on_file.served
    land_correction(on_file.workshop, releases[CORRECTED])
    code, output = replace(on_file, code=late.host.code).run("pipeline", "run", "export_serving")
    assert code == 0, output
    assert set(differences(on_file.served, late.host.served)) == {"serving.generation"}
    assert "serving.agg_release_summary" in differences(before, late.host.served), "the edit shows"


def test_the_janitor_drops_environments_that_are_over(late: Late, postgres: PostgresServer) -> None:
    names = {name for (name,) in postgres.execute('SELECT "NAME" FROM "DBS"', late.host.spark.metastore.database)}
    assert "serving" in names and f"serving__{BESIDE}" not in names


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


def test_a_warehouse_elsewhere_gets_the_landing_and_gives_tables_back(
    releases: tuple[GeneratedRelease, ...], tmp_path: Path
) -> None:
    """Through Hadoop's file systems, as `s3a://` and `hdfs://`, here `file://`; on one host, with embedded Derby."""
    workshop = Workshop(tmp_path)
    for release in releases:
        workshop.land(release)
    here, there = tmp_path / "landing", tmp_path / "there"

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
