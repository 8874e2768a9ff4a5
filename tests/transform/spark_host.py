"""A data directory whose lakehouse is on a Spark cluster, as the tests of Spark use it here and in `tests/torture`."""

import io
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from dataflows.lakehouse.spark import SparkLakehouse
from dataflows.lakehouse.spark_settings import parse_spark
from ops.config.lakehouse import environ_of
from ops.demo.generator import GeneratedRelease
from ops.health.doctor import Finding, examine
from tests.support.needs import require_tool
from tests.support.postgres_server import PASSWORD, PostgresServer
from tests.support.spark_cluster import SparkCluster, quick_properties
from tests.support.workshop import Workshop
from tests.transform.test_breakdown import checkout_at
from tests.transform.test_history import altered

COMMANDS = "import sys; from ops.cli import main; sys.exit(main())"
LATE, CORRECTED = 2, 4
"""The release that arrives after its successors, and the one that is published again with other bytes."""
TIMEOUT_S = 1500


@dataclass(frozen=True)
class Host:
    """A data directory, its lakehouse on a cluster or in a file, and the commands that run there."""

    workshop: Workshop
    code: Path
    spark: SparkLakehouse | None = None

    def start(self, *arguments: str, code: str = COMMANDS) -> "subprocess.Popen[str]":
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

    def run(self, *arguments: str, code: str = COMMANDS) -> tuple[int, str]:
        """The exit code and the output."""
        process = self.start(*arguments, code=code)
        output, _ = process.communicate(timeout=TIMEOUT_S)
        return process.returncode, output

    @property
    def served(self) -> Path:
        return self.workshop.serving.path(self.workshop.serving.served().number)

    @property
    def logged(self) -> str:
        """What its runs have logged so far."""
        return "".join(path.read_text() for path in (self.workshop.data_dir / "logs").rglob("*") if path.is_file())


def lake_at(cluster: SparkCluster, postgres: PostgresServer, folder: Path) -> SparkLakehouse:
    """A lakehouse on the cluster, with names and SQLMesh's state in PostgreSQL and its tables in a folder."""
    require_tool("postgresql.jar")
    given = {
        "SPARK_MASTER": cluster.url,
        "SPARK_METASTORE": str(postgres.new_catalog()),
        "SPARK_PASSWORD": PASSWORD,
        "SPARK_PROPERTIES": str(quick_properties(folder)),
    }
    return parse_spark(given, folder / "data")


def edited_checkout(folder: Path) -> Path:
    """A copy of this code in which a model differs: `agg_release_summary` has names in capital letters."""
    checkout = checkout_at(folder)
    model = checkout / "transform/sqlmesh_materia/models/serving/agg_release_summary.sql"
    name = "commodity.commodity_name"
    model.write_text(model.read_text().replace(f"{name}::TEXT", f"UPPER({name})::TEXT AS commodity_name"))
    return checkout


def publish_while_a_worker_is_lost(host: Host, cluster: SparkCluster, releases: Sequence[GeneratedRelease]) -> None:
    """Publish all releases but the late one; meanwhile a worker and its executor are killed."""
    assert host.spark is not None
    for number, release in enumerate(releases):
        if number != LATE:
            host.workshop.land(release)
    process = host.start("pipeline", "run", "export_serving")
    while not list(Path(host.spark.warehouse).glob("*staging*/*commodity*/ingest_date=*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    arguments = [" ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"])]
    assert any("--properties-file" in text for text in arguments) and PASSWORD not in "\n".join(arguments)
    cluster.kill_worker()
    output, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, output
    cluster.start_worker()


def land_correction(workshop: Workshop, release: GeneratedRelease) -> None:
    """Land a release that USDA published once more an hour later, with another value."""
    with zipfile.ZipFile(io.BytesIO(release.zip_bytes)) as archive:
        row = archive.read(archive.namelist()[0]).splitlines()[1]
    others, _, value = row.rpartition(b",")
    corrected = altered(release, row, b"%s,%.4f" % (others, float(value) + 1))
    workshop.land(
        corrected, published_at=release.published_at.replace(hour=13, minute=0, second=0, microsecond=0, tzinfo=None)
    )


def lake_finding(host: Host, **differently: str) -> Finding:
    """What the doctor says of the lakehouse."""
    offline = {"MATERIA_MIN_FREE_MB": "0", "PSD_ARCHIVE_URL": "http://127.0.0.1:9"}
    environ: Mapping[str, str] = {**host.workshop.environ, **environ_of(host.spark), **offline, **differently}
    return {finding.name: finding for finding in examine(environ)}["lakehouse"]
