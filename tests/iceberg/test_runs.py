"""Runs publish to Iceberg: after serving, with a record in the journal, and again until the catalog has it."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from datetime import date
from email.utils import parsedate_to_datetime
from pathlib import Path

import duckdb
import pytest

from dataflows.serving.build import SERVING_TABLES
from dataflows.source.release import Month
from ops.config.settings import Settings
from ops.health.status import Problem, Severity, take_status
from ops.journal.journal import Journal
from ops.journal.run import RunStatus, utc_now
from tests.iceberg.publishing import Host, host_with, next_generation
from tests.support.command_line import MATERIA
from tests.support.faulty_archive import FaultyArchive
from tests.support.lake import Lake
from tests.support.object_server import CANARY, CANARY_ID
from tests.support.served_demo import ServedDemo

DEAD = "http://127.0.0.1:9"
TIMEOUT_S = 120


class Machine:
    """A data directory, and an environment with a catalog's settings and no key of an object storage."""

    def __init__(self, data_dir: Path, lake: Lake) -> None:
        self.data_dir = data_dir
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self.environ = {**kept, "MATERIA_DATA_DIR": str(data_dir), "PYTHONUTF8": "1", **lake.environ}
        assert not any(name.startswith(("R2_", "AWS_", "S3_")) for name in self.environ)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen([MATERIA, *arguments], env=self.environ, stderr=subprocess.DEVNULL, text=True)

    def run(self, *arguments: str, **change: str) -> "subprocess.CompletedProcess[str]":
        environ: Mapping[str, str] = {**self.environ, **change}
        done = subprocess.run(
            [MATERIA, *arguments], env=environ, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        assert CANARY not in done.stdout + done.stderr
        return done

    def problems(self, **change: str) -> dict[str, Problem]:
        """Return the problems that `materia status` finds, by key."""
        settings = Settings.from_environ({**self.environ, **change})
        return {each.key: each for each in take_status(settings, utc_now()).problems}

    def assert_no_secret(self) -> None:
        for path in (path for path in self.data_dir.rglob("*") if path.is_file()):
            data = path.read_bytes()
            assert CANARY.encode() not in data and CANARY_ID.encode() not in data, path


@pytest.fixture
def machine(lake: Lake, tmp_path: Path) -> Machine:
    """Two generations of ten facts that differ in every table."""
    host = host_with(tmp_path / "machine")
    next_generation(
        host,
        "UPDATE serving.dim_country SET country_name = country_name || '.'",
        "UPDATE serving.dim_release SET row_count = row_count + 1",
        "UPDATE serving.fct_psd SET value = value + 1",
        "UPDATE serving.fct_psd_revision SET value = value + 1",
        "UPDATE serving.agg_release_summary SET facts_new = facts_new + 1",
    )
    return Machine(host.data_dir, lake)


def post_landed(archive: FaultyArchive, data_dir: Path) -> None:
    """Post the landed snapshots on the archive, with the same bytes and headers."""
    for marker in (data_dir / "landing" / "psd").glob("*.json"):
        snapshot = json.loads(marker.read_text())
        month = Month(snapshot["release_year"], snapshot["release_month"])
        modified = parsedate_to_datetime(snapshot["last_modified"])
        archive.post(month, marker.with_suffix(".zip"), modified, etag=snapshot["etag"])


def test_a_run_that_finds_nothing_new_retries_a_failed_publish(
    lake: Lake, served_demo: ServedDemo, archive: FaultyArchive, tmp_path: Path
) -> None:
    machine = Machine(served_demo.copy(tmp_path / "machine"), lake)
    post_landed(archive, machine.data_dir)
    assert machine.problems()["iceberg-behind"].severity is Severity.STALE

    failed = machine.run("pipeline", "run", "export_serving", ICEBERG_CATALOG_URI=DEAD)
    assert failed.returncode == 0
    assert "Iceberg is behind" in failed.stdout and "Iceberg is behind" in failed.stderr
    problem = machine.problems(ICEBERG_CATALOG_URI=DEAD)["iceberg-behind"]
    assert problem.severity is Severity.FAILED
    assert f"Connection refused (the Iceberg catalog at {DEAD})" in problem.what
    assert problem.next_step.startswith("materia iceberg publish")
    journal = Journal(machine.data_dir / "runs.sqlite")
    failed_run = journal.last_by_pipeline()["publish_iceberg"]
    outer = journal.run(failed_run.parent_id)
    assert (failed_run.status, outer.pipeline, outer.status) == (RunStatus.FAILED, "export_serving", RunStatus.DONE)

    caught_up = machine.run("run-all", PSD_ARCHIVE_URL=archive.url)
    assert caught_up.returncode == 0 and "nothing new" in caught_up.stdout, caught_up.stderr
    assert "iceberg-behind" not in machine.problems()
    assert lake.differing(machine.data_dir / "serving-3.duckdb") == {}
    published = journal.last_by_pipeline()["publish_iceberg"]
    assert published.result.startswith("generation 3 is in Iceberg: 14 of 14 tables changed")
    steps = {step.name: step.detail for step in journal.steps(published.id)}
    assert [*steps] == ["iceberg_published"]
    assert steps["iceberg_published"].startswith("generation 3 is in Iceberg: 14 of 14 tables changed")
    assert "dim_release: 1 slice, 3 rows" in Path(str(published.log_path)).read_text()

    machine.run("run-all", PSD_ARCHIVE_URL=archive.url)
    assert journal.last_by_pipeline()["publish_iceberg"].id == published.id
    machine.assert_no_secret()


def test_the_commands_show_and_publish_what_is_missing_and_follow_a_rollback(lake: Lake, machine: Machine) -> None:
    before = machine.run("iceberg", "status")
    assert before.returncode == 3
    assert "no table yet" in before.stdout and "the served generation 2 is not yet in Iceberg" in before.stdout
    done = machine.run("iceberg", "publish")
    assert (done.returncode, done.stdout.split(":")[0]) == (0, "generation 2 is in Iceberg")
    status = json.loads(machine.run("iceberg", "status", "--json").stdout)
    assert status["ok"] and {each["generation"] for each in status["tables"]} == {2}

    rolled_back = machine.run("serving", "rollback", "1")
    assert rolled_back.returncode == 0, rolled_back.stderr
    assert lake.differing(machine.data_dir / "serving-1.duckdb") == {}
    assert "iceberg-behind" not in machine.problems()

    refused = machine.run("iceberg", "publish", ICEBERG_CREDENTIAL=f"nobody:{CANARY}")
    assert refused.returncode == 1
    assert "Invalid client credentials" in refused.stderr and "materia iceberg publish" in refused.stderr
    machine.assert_no_secret()


def test_after_a_kill_every_table_is_complete_and_the_next_publish_finishes(lake: Lake, machine: Machine) -> None:
    Host(machine.data_dir).store.rollback(1)
    Host(machine.data_dir).publish(lake.address)
    first = lake.heads()
    Host(machine.data_dir).store.rollback(2)
    publisher = machine.start("iceberg", "publish")
    try:
        deadline = time.monotonic() + TIMEOUT_S
        while lake.heads() == first and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        publisher.send_signal(signal.SIGKILL)
        publisher.wait()
    # No table is between the two generations.
    behind = set(lake.differing(machine.data_dir / "serving-2.duckdb"))
    assert behind & set(lake.differing(machine.data_dir / "serving-1.duckdb")) == set()
    again = machine.run("iceberg", "publish")
    assert again.returncode == 0, again.stderr
    assert lake.differing(machine.data_dir / "serving-2.duckdb") == {}


def changed_slices(before: Path, after: Path) -> set[date]:
    """Return the `last_seen_on` of facts in `before` that differ in `after`."""
    with duckdb.connect() as connection:
        for name, path in (("before", before), ("after", after)):
            connection.execute(f"ATTACH '{path}' AS {name} (READ_ONLY)")
        rows = connection.execute(
            "SELECT DISTINCT last_seen_on FROM (FROM before.serving.fct_psd EXCEPT FROM after.serving.fct_psd)"
        ).fetchall()
    return {day for (day,) in rows}


def test_every_generation_equals_the_catalog_in_pyiceberg_and_duckdb(
    lake: Lake, served_demo: ServedDemo, tmp_path: Path
) -> None:
    host = Host(served_demo.copy(tmp_path / "host"))
    closed: dict[int, set[str]] = {}
    for number in (1, 2, 3):
        generation = host.store.rollback(number)
        outcome = host.publish(lake.address)
        assert set(outcome.tables) == set(SERVING_TABLES)
        assert lake.differing(host.path()) == {}
        closed[number] = lake.files("fct_psd")
        for table in lake.tables().values():
            assert len(table.snapshots()) <= number
        properties = lake.table("fct_psd").current_snapshot().summary.additional_properties
        assert properties["materia.generation"] == str(number)
        assert properties["materia.code-version"] == generation.code_version
        assert properties["materia.newest-released-on"] == str(generation.newest_released_on)
    # Only two slices are replaced: that of the newest release, and one in which the re-keying of the third release
    # changed `market_year_now`.
    changed = changed_slices(host.store.path(2), host.store.path(3))
    assert len(closed[2] - closed[3]) == len(changed) == 2
    written = host.publish(lake.address).tables
    assert not any(done.changed for done in written.values())
