"""`materia wasde land`, the report beside the current release, and what `status` says of both."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dataflows.source.release import Month
from ops.config.settings import Settings
from ops.demo.archive_server import ArchiveServer
from ops.host.exits import Exit
from ops.journal.journal import Journal
from ops.pipelines import run as pipelines
from ops.pipelines.job import Request, open_job
from tests.support.command_line import materia
from tests.support.psd_files import DATASET, release_zip, rows
from tests.support.served_demo import ServedDemo
from tests.support.wasde_reports import Printed

TITLES = {"Wheat": "World Wheat", "Corn": "World Corn", "Rice, Milled": "World Rice"}
WORLD = """
    SELECT commodity_name, market_year, attribute_id,
      CASE WHEN attribute_id = '125' THEN implied_use ELSE value END AS value
    FROM serving.agg_world_balance
    WHERE commodity_name IN ('Wheat', 'Corn', 'Rice, Milled')
      AND attribute_id IN ('020', '028', '057', '130', '125', '088', '176')
"""


def printed(demo: ServedDemo) -> Printed:
    """The report of the newest served month, with the world of the served release."""
    figures = {
        (TITLES[str(row["commodity_name"])], "World", row["market_year"], row["attribute_id"]): (
            f"{float(str(row['value'])) / 1000:.2f}"
        )
        for row in demo.rows(WORLD)
    }
    (newest,) = demo.rows("SELECT strftime(max(release_month), '%Y-%m') AS month FROM serving.dim_release")
    return Printed(Month.parse(str(newest["month"])), figures)


def contents(folder: Path) -> dict[str, bytes | int]:
    return {
        str(path): path.read_bytes() if path.stat().st_size < 1 << 20 else path.stat().st_mtime_ns
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_corrected_report_solves_the_problem_of_a_differing_total(served_demo: ServedDemo, tmp_path: Path) -> None:
    """And every command tells how the corrected one compares; landing it again is nothing new."""
    report, data_dir = printed(served_demo), served_demo.copy(tmp_path / "data")
    key = ("World Corn", "World", report.years[1], "057")
    (tmp_path / "wasde.xml").write_text(replace(report, figures={**report.figures, key: "123456.78"}).xml())
    done = materia(data_dir, "wasde", "land", str(tmp_path / "wasde.xml"), timeout_s=300)
    assert done.returncode == Exit.DONE, done.stderr
    assert f"landed WASDE of {report.month} (wasde.xml, " in done.stdout
    shown = materia(data_dir, "status")
    assert shown.returncode == Exit.UNWELL
    assert f"world totals differ from WASDE of {report.month}: Corn {report.years[1]} Imports: PSD " in shown.stdout
    assert "WASDE 123456780 (1000 MT)" in shown.stdout
    assert "next: materia wasde land FILE, if USDA corrected the report" in shown.stdout

    (tmp_path / "wasdev2.xml").write_text(report.xml())
    done = materia(data_dir, "wasde", "land", str(tmp_path / "wasdev2.xml"), timeout_s=300)
    assert done.returncode == Exit.DONE, done.stderr
    assert "world totals differ" not in materia(data_dir, "status").stdout
    compared = len(json.loads(materia(data_dir, "query", "--json", "FROM serving.agg_wasde_check").stdout)["rows"])
    agree = f"WASDE of {report.month}: {compared} of {compared} world totals agree"
    assert compared >= 42
    assert agree in done.stdout
    assert agree in materia(data_dir, "status").stdout
    assert agree in materia(data_dir, "releases").stdout
    assert agree in materia(data_dir, "releases", "show").stdout
    assert agree in materia(data_dir, "releases", "show", "--headline").stdout
    assert "WASDE of" not in materia(data_dir, "releases", "show", str(report.month.back(1))).stdout

    again = materia(data_dir, "wasde", "land", str(tmp_path / "wasdev2.xml"), timeout_s=300)
    assert again.stdout.startswith("nothing new: these reports were landed before; nothing new")
    verified = materia(data_dir, "landing", "verify")
    assert verified.returncode == Exit.DONE
    assert verified.stdout.count("as landed") == 5
    assert f"{report.month}  wasde" in materia(data_dir, "landing", "list").stdout


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ("<Report Name", "<!DOCTYPE Report><Report Name", "it has a DOCTYPE or declares entities"),
        ("World Corn Supply", "World Sugar Supply", "unknown table 'World Sugar Supply and Use'"),
        ('"Production"', '"Exports"', "moved column: 'Exports'"),
    ],
)
def test_a_refused_report_changes_nothing_also_beside_good_ones(
    before: str, after: str, why: str, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good.xml", tmp_path / "bad.xml"
    good.write_text(Printed(Month(2021, 9)).xml())
    bad.write_text(Printed(Month(2021, 10)).xml().replace(before, after, 1))
    data_dir = tmp_path / "data"
    assert materia(data_dir, "wasde", "land", "--land-only", str(good)).returncode == Exit.DONE
    landed = contents(data_dir)
    another = tmp_path / "another.xml"
    another.write_text(Printed(Month(2021, 11)).xml())
    done = materia(data_dir, "wasde", "land", str(another), str(bad))
    assert done.returncode == Exit.FAILED
    assert why in done.stderr
    assert "(bad.xml); no report was landed" in done.stderr
    assert contents(data_dir) == landed


SEPTEMBER = Month(2021, 9)
WHEN = datetime(2021, 9, 10, 16, tzinfo=UTC)


def settings_on(data_dir: Path, archive: ArchiveServer) -> Settings:
    environ = {
        "MATERIA_DATA_DIR": str(data_dir),
        "PSD_ARCHIVE_URL": archive.url,
        "PSD_DATASET": DATASET,
        "MATERIA_WASDE_URL": f"{archive.url}/wasde{{month}}{{year}}_csv.zip",
    }
    return Settings.from_environ(environ)


def extract(data_dir: Path, archive: ArchiveServer) -> str:
    return pipelines.run("extract", settings_on(data_dir, archive), Request(as_of=SEPTEMBER))


def has_work(data_dir: Path, archive: ArchiveServer) -> bool:
    with open_job("extract", settings_on(data_dir, archive), Request(as_of=SEPTEMBER), ()) as job:
        return pipelines.has_work("extract", job)


def test_the_current_report_is_landed_once_where_its_address_is_set(tmp_path: Path) -> None:
    with ArchiveServer(DATASET) as archive:
        archive.post(SEPTEMBER, release_zip(rows(5)), WHEN)
        archive.post(None, Printed(SEPTEMBER.back(1)).xml().encode(), WHEN, dataset="wasde0821")
        assert "; landed WASDE of 2021-08 (wasde0821_csv.zip, " in extract(tmp_path, archive)
        assert not has_work(tmp_path, archive)
        archive.post(None, Printed(SEPTEMBER).xml().encode(), WHEN, dataset="wasde0921")
        assert has_work(tmp_path, archive)
        assert "; landed WASDE of 2021-09 " in extract(tmp_path, archive)
        archive.forget_requests()
        outcome = extract(tmp_path, archive)
        assert outcome.startswith("nothing new")
        assert "WASDE" not in outcome
        asked = [each for each in archive.requests if "wasde" in each.path]
        assert [(each.method, each.body_bytes) for each in asked] == [("HEAD", 0)]


@pytest.mark.parametrize(
    ("posted", "why"),
    [
        (None, "no WASDE report is posted (2021-09: not posted (HTTP 404); 2021-08: not posted (HTTP 404))"),
        ("<!DOCTYPE html><html>The report is delayed.</html>", "2021-09: not XML"),
        ("a report with an unknown table", "unknown table 'World Sugar Supply and Use'"),
    ],
)
def test_a_report_that_cannot_be_landed_stops_no_release_and_is_a_failed_run(
    posted: str | None, why: str, tmp_path: Path
) -> None:
    with ArchiveServer(DATASET) as archive:
        archive.post(SEPTEMBER, release_zip(rows(5)), WHEN)
        if posted:
            unknown = Printed(SEPTEMBER).xml().replace("World Corn", "World Sugar")
            page = unknown if posted.startswith("a report") else posted
            archive.post(None, page.encode(), WHEN, dataset="wasde0921")
        assert extract(tmp_path, archive).startswith("landed 2024-06")
    failures = Journal(tmp_path / "runs.sqlite").last_failure_by_pipeline()
    assert why in (failures["extract_wasde"].error or "")
    shown = materia(tmp_path, "status", PSD_DATASET=DATASET).stdout
    assert "extract_wasde failed" in shown
    assert "next: materia run-all" in shown
    assert not list((tmp_path / "landing" / ".partial").glob("*"))
