"""WASDE reports in a bucket: landed on one host, served by another."""

import subprocess
from pathlib import Path

from dataflows.landing.bucket import R2Landing
from dataflows.landing.local import LocalLanding
from dataflows.landing.report import ReportFile, land_report
from dataflows.landing.verify import sync, verify
from dataflows.objects.store import ObjectStore
from dataflows.serving import ServingReader
from dataflows.source.formats import WASDE
from dataflows.source.release import Month
from ops.demo.generator import GeneratedRelease, generate
from ops.demo.history import HistorySpec
from tests.r2.snapshots import LANDED_AT
from tests.r2.test_main_job import DATASET, WRITER, environ_of, materia, post
from tests.support.faulty_archive import FaultyArchive
from tests.support.faulty_proxy import FaultyProxy
from tests.support.wasde_reports import Printed

AUGUST = Month(2021, 8)


def reports_of(store: ObjectStore, folder: Path) -> R2Landing:
    return R2Landing(store, LocalLanding(folder)).of(WASDE)


def test_a_report_landed_by_two_machines_is_one_object_that_each_sees_and_verifies(
    store: ObjectStore, other_store: ObjectStore, tmp_path: Path
) -> None:
    here, there = reports_of(store, tmp_path / "here"), reports_of(other_store, tmp_path / "there")
    file = ReportFile.read("wasde0821.xml", Printed(AUGUST).xml().encode())
    snapshot, is_new = land_report(here, file, LANDED_AT)
    assert is_new
    assert land_report(there, file, LANDED_AT) == (snapshot, False)
    assert [each.key for each in store.list("wasde/")] == [f"wasde/{snapshot.key}.json", f"wasde/{snapshot.key}.zip"]
    assert list(store.list("psd/")) == []
    there.ready_rows("wasde")
    assert there.cache.rows_path(snapshot).read_bytes() == here.cache.rows_path(snapshot).read_bytes()
    assert [verdict.problem for verdict in verify(there, there.cache)] == [None]
    copy = LocalLanding(tmp_path / "copy").of(WASDE)
    assert [each.to for each in sync(copy, here)] == ["local folder"]
    assert copy.snapshots() == (snapshot,)


def test_a_report_landed_on_one_host_is_served_by_another(
    store: ObjectStore, proxy: FaultyProxy, bucket_name: str, archive: FaultyArchive, tmp_path: Path
) -> None:
    releases: list[GeneratedRelease] = list(generate(HistorySpec(dataset=DATASET, rows=500, releases=1)))
    post(archive, releases[0])
    (tmp_path / "wasde0821.xml").write_text(Printed(AUGUST).xml())

    def on(host: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        done = materia(environ_of(tmp_path / host, archive, proxy.url, bucket_name, WRITER), *arguments)
        assert done.returncode == 0, done.stderr
        return done

    on("a", "wasde", "land", str(tmp_path / "wasde0821.xml"))
    on("b", "run-all", "--as-of", str(releases[0].month))
    with ServingReader(tmp_path / "b" / "serving.duckdb") as reader:
        figures = reader.query("SELECT COUNT(*) AS figures FROM serving.fct_wasde").table.to_pylist()[0]["figures"]
    coarse_grain = sum(1 for title, *_ in Printed(AUGUST).cells() if "Coarse" in title)
    assert figures == len(set(Printed(AUGUST).cells())) - coarse_grain
    assert "nothing new" in on("b", "run-all", "--as-of", str(releases[0].month)).stdout
