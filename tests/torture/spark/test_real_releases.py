"""USDA's own grains and WASDE reports on Spark, also after a loss: every serving table is the one of the file.

Wheat and corn since market year 2019, each row as USDA served it: these are what the reports are about. On a standalone
cluster, with embedded Derby in the driver; generated releases are in `tests/transform/test_spark.py`, with PostgreSQL.
"""

import io
import re
import zipfile
from pathlib import Path

import duckdb
import pytest

from dataflows.lakehouse.spark_settings import parse_spark
from dataflows.source.release import Month
from ops.config.lakehouse import environ_of
from ops.config.settings import Settings
from ops.demo.generator import GeneratedRelease
from ops.health.status import take_status
from ops.journal.run import utc_now
from tests.support.command_line import materia
from tests.support.real_files import GRAINS, GRAINS_MONTHS, inner_date, real_zip, required
from tests.support.spark_cluster import SparkCluster, quick_properties
from tests.support.table_by_table import differences
from tests.support.workshop import Workshop

pytestmark = [pytest.mark.long, pytest.mark.needs("pyspark", "java")]
REPORTS = "wasde_xml_2021-09_2022-02.zip"
_KEPT = re.compile(rb'^(?:Commodity_Code,|(?:0410000|0440000),"[^"]*",\w+,"[^"]*",20(?:19|2\d),).*\n', re.MULTILINE)


def release_of(month: Month) -> GeneratedRelease:
    """The real release of a month, wheat and corn only."""
    path = required(real_zip(GRAINS, month))
    with zipfile.ZipFile(path) as archive:
        member = archive.infolist()[0]
        rows = _KEPT.findall(archive.read(member))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member.filename, b"".join(rows))
    return GeneratedRelease(GRAINS, month, inner_date(path), len(rows) - 1, buffer.getvalue(), f'"{month}"')


@pytest.fixture(scope="module")
def on_file(shared_psd: Path, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Three real releases and six real reports, landed and published from the file."""
    workshop = Workshop(tmp_path_factory.mktemp("file") / "data", GRAINS)
    releases = [release_of(month) for month in GRAINS_MONTHS]
    assert min(release.row_count for release in releases) > 8_000
    for release in releases:
        workshop.land(release)
    with zipfile.ZipFile(required(shared_psd / REPORTS)) as archive:
        for name in archive.namelist():
            workshop.land_report(archive.read(name).decode(), name)
    workshop.export()
    return workshop


@pytest.fixture(scope="module")
def on_spark(on_file: Workshop, cluster: SparkCluster, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """The same landing, published from the cluster."""
    folder = tmp_path_factory.mktemp("spark")
    given = {"SPARK_MASTER": cluster.url, "SPARK_PROPERTIES": str(quick_properties(folder))}
    workshop = Workshop(folder / "data", GRAINS, parse_spark(given, folder / "data"))
    on_file.copy_landing(workshop)
    workshop.export()
    return workshop


def served(workshop: Workshop) -> Path:
    return workshop.serving.path(workshop.serving.served().number)


def test_real_releases_and_reports_give_what_the_file_gives(on_file: Workshop, on_spark: Workshop) -> None:
    assert set(differences(served(on_file), served(on_spark))) <= {"serving.generation"}
    with duckdb.connect(str(served(on_spark)), read_only=True) as connection:
        count = "SELECT COUNT(*), (SELECT COUNT(*) FROM serving.fct_wasde) FROM serving.fct_psd"
        versions, figures = connection.execute(count).fetchall()[0]
    assert versions > on_file.landing.snapshots()[0].row_count and figures > 10_000


def test_a_lost_file_of_the_warehouse_is_a_problem_and_the_next_run_builds_it_again(on_spark: Workshop) -> None:
    before, environ = served(on_spark), {**on_spark.environ, **environ_of(on_spark.lake), "MATERIA_MIN_FREE_MB": "0"}
    cleaned = Path(on_spark.lake.warehouse, "sqlmesh__cleaned.db")
    lost = max(cleaned.rglob("*.parquet"), key=lambda path: path.stat().st_size)

    def problems() -> list[str]:
        found = take_status(Settings.from_environ(environ), utc_now()).problems
        return [f"{each.what}; {each.next_step}" for each in found if each.key == "lakehouse-damaged"]

    assert problems() == []
    lost.unlink()
    step = "materia run-all, which builds it again from the landing"
    assert problems() == [f"lakehouse file is damaged: {lost.name}: it is missing; {step}"]
    healed = materia(on_spark.data_dir, "pipeline", "run", "transform", timeout_s=1500, **environ)
    assert healed.returncode == 0, healed.stderr
    assert "the lakehouse was emptied and is built again" in healed.stdout + healed.stderr
    assert problems() == []
    on_spark.publish()
    assert served(on_spark) != before and set(differences(before, served(on_spark))) == {"serving.generation"}
