"""USDA's own grains and WASDE reports on Spark: every serving table is the one of the file.

Wheat and corn since market year 2019, each row as USDA served it: these are what the reports are about.
"""

import io
import re
import zipfile
from pathlib import Path

import duckdb
import pytest

from dataflows.lakehouse.spark_settings import parse_spark
from dataflows.source.release import Month
from ops.demo.generator import GeneratedRelease
from tests.support.real_files import GRAINS, GRAINS_MONTHS, inner_date, real_zip, required
from tests.support.spark_cluster import quick_properties
from tests.support.table_by_table import differences
from tests.support.workshop import Workshop

pytestmark = pytest.mark.needs("pyspark", "java")
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


def test_real_releases_and_reports_give_what_the_file_gives(shared_psd: Path, tmp_path: Path) -> None:
    on_file = Workshop(tmp_path / "file", GRAINS)
    releases = [release_of(month) for month in GRAINS_MONTHS]
    assert min(release.row_count for release in releases) > 8_000
    for release in releases:
        on_file.land(release)
    with zipfile.ZipFile(required(shared_psd / REPORTS)) as archive:
        for name in archive.namelist():
            on_file.land_report(archive.read(name).decode(), name)
    given = {"SPARK_MASTER": "local[2]", "SPARK_PROPERTIES": str(quick_properties(tmp_path))}
    on_spark = Workshop(tmp_path / "spark", GRAINS, parse_spark(given, tmp_path / "spark"))
    on_file.copy_landing(on_spark)
    served = [workshop.serving.path(workshop.export().number) for workshop in (on_file, on_spark)]
    assert set(differences(*served)) <= {"serving.generation"}
    with duckdb.connect(str(served[1]), read_only=True) as connection:
        count = "SELECT COUNT(*), (SELECT COUNT(*) FROM serving.fct_wasde) FROM serving.fct_psd"
        versions, figures = connection.execute(count).fetchall()[0]
    assert versions > releases[0].row_count and figures > 10_000
