"""The settings of a DuckLake, what doctor and status say of one, and how house is kept in it."""

import json
import logging
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from dataflows.errors import SettingsError
from dataflows.lakehouse.ducklake import DuckLake
from dataflows.lakehouse.maintenance import FILES_KEPT_FOR
from ops.config.lakehouse import environ_of
from ops.config.settings import Settings
from ops.config.table import names_of
from ops.health.doctor import Finding, Verdict, examine
from ops.health.status import Severity, take_status
from ops.host.lakehouse_lock import lakehouse_lock
from ops.journal.run import utc_now
from ops.supervisor.ducklake_maintenance import run_maintenance
from ops.supervisor.housekeeping import maintain_ducklake
from ops.workers.secrets import check, worker_environ
from tests.support.command_line import HEAVY, materia, modules_of
from tests.support.postgres_server import PASSWORD, PostgresServer

R2 = {
    "R2_ENDPOINT": "https://account.r2.cloudflarestorage.com",
    "R2_BUCKET": "raw",
    "R2_ACCESS_KEY": "an-access-key",
    "R2_SECRET_KEY": "c4n4ry-of-the-bucket",
}
POSTGRES = {
    "DUCKLAKE_CATALOG": "postgres:host=db.example dbname=lake user=materia",
    "DUCKLAKE_PASSWORD": PASSWORD,
    "DUCKLAKE_DATA": "s3://lake/parquet/",
}


def sqlite_in(folder: Path) -> dict[str, str]:
    return {
        "MATERIA_DATA_DIR": str(folder / "data"),
        "MATERIA_GATEWAY": "ducklake",
        "DUCKLAKE_CATALOG": f"sqlite:{folder}/lake.sqlite",
        "DUCKLAKE_DATA": str(folder / "lake"),
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"MATERIA_GATEWAY": "trino"}, "not one of duckdb, ducklake"),
        ({"MATERIA_GATEWAY": "ducklake"}, "needs DUCKLAKE_CATALOG and DUCKLAKE_DATA"),
        ({"DUCKLAKE_DATA": "/lake"}, "DUCKLAKE_CATALOG is missing"),
        ({"DUCKLAKE_CATALOG": "sqlite:/lake"}, "DUCKLAKE_DATA is missing"),
        ({"DUCKLAKE_CATALOG": "mysql:lake", "DUCKLAKE_DATA": "/lake"}, "neither sqlite"),
        ({**POSTGRES, **R2, "DUCKLAKE_CATALOG": "postgres:host=db user=materia"}, "lacks dbname"),
        (
            {**POSTGRES, **R2, "DUCKLAKE_CATALOG": f"postgres:host=db password={PASSWORD}"},
            "belongs in DUCKLAKE_PASSWORD",
        ),
        ({**POSTGRES, **R2, "DUCKLAKE_CATALOG": "postgres:host=db options=x"}, "not options"),
        ({**POSTGRES, **R2, "DUCKLAKE_PASSWORD": ""}, "needs DUCKLAKE_PASSWORD"),
        (POSTGRES, "needs R2_ENDPOINT"),
        ({**POSTGRES, **R2, "DUCKLAKE_DATA": "gs://lake"}, "neither a folder nor s3"),
        ({**POSTGRES, **R2, "DUCKLAKE_DATA": "s3://"}, "names no bucket"),
        ({"DUCKLAKE_KEEP_DAYS": "0"}, "from 1 to 3650"),
    ],
)
def test_settings_by_halves_are_refused_without_a_secret(given: Mapping[str, str], expected: str) -> None:
    with pytest.raises(SettingsError, match=expected) as refused:
        Settings.from_environ(given)
    assert PASSWORD not in str(refused.value) and R2["R2_SECRET_KEY"] not in str(refused.value)


def test_a_named_ducklake_is_used_only_where_the_gateway_says_so() -> None:
    named = Settings.from_environ({**POSTGRES, **R2})
    assert named.gateway == "duckdb" and named.lake is None and named.ducklake is not None
    used = Settings.from_environ({**POSTGRES, **R2, "MATERIA_GATEWAY": "ducklake", "DUCKLAKE_KEEP_DAYS": "30"})
    lake = used.lake
    assert lake is not None and lake.is_shared and lake.data == "s3://lake/parquet"
    assert used.ducklake_kept_for == timedelta(days=30)
    assert PASSWORD not in repr(used) and R2["R2_SECRET_KEY"] not in repr(used)
    assert Settings.from_environ(environ_of(lake)).lake == lake, "the environment names the same lake"


def test_a_worker_gets_what_its_pipeline_needs_of_the_lakehouse() -> None:
    environ = {**POSTGRES, **R2, "MATERIA_GATEWAY": "ducklake"}
    assert POSTGRES.items() <= worker_environ("transform", environ).items()
    assert not worker_environ("extract", environ).keys() & (POSTGRES.keys() | {"MATERIA_GATEWAY"})
    ours = {name for name in names_of("lakehouse") if name.startswith(("MATERIA_", "DUCKLAKE_"))} - {
        "DUCKLAKE_KEEP_DAYS"
    }
    assert {each.name for each in check(environ)} - {each.name for each in check(R2)} == ours
    assert next(each for each in check(environ) if each.name == "DUCKLAKE_PASSWORD").is_secret


def lake_finding(environ: Mapping[str, str]) -> Finding:
    offline = {"MATERIA_MIN_FREE_MB": "0", "PSD_ARCHIVE_URL": "http://127.0.0.1:9"}
    return {finding.name: finding for finding in examine({**environ, **offline})}["lakehouse"]


def test_the_doctor_looks_at_catalog_and_data(tmp_path: Path, postgres: PostgresServer) -> None:
    environ = sqlite_in(tmp_path)
    assert "does not exist yet" in lake_finding(environ).what
    filled(Settings.from_environ(environ).ducklake)
    assert "opens, 1 tables" in lake_finding(environ).what

    catalog = postgres.new_catalog()
    served = {**environ, "DUCKLAKE_CATALOG": str(catalog), "DUCKLAKE_PASSWORD": PASSWORD}
    assert "does not exist yet" in lake_finding(served).what
    wrong = lake_finding({**served, "DUCKLAKE_PASSWORD": "wrong-Passw0rd"})
    assert wrong.verdict is Verdict.FAILED and "DUCKLAKE_PASSWORD" in wrong.next_step
    gone = lake_finding({**served, "DUCKLAKE_CATALOG": str(catalog).replace(str(catalog.port), "9")})
    assert gone.verdict is Verdict.FAILED
    assert not any(text in finding.what for finding in (wrong, gone) for text in ("wrong-Passw0rd", PASSWORD))


def test_status_names_the_gateway_and_what_is_missing(tmp_path: Path) -> None:
    settings = Settings.from_environ(sqlite_in(tmp_path))
    assert [problem.key for problem in take_status(settings, utc_now()).problems] == ["serving-missing"]
    (tmp_path / "lake.sqlite").touch()
    lacking = take_status(settings, utc_now()).problems
    assert ("ducklake-data", Severity.MISSING) in [(problem.key, problem.severity) for problem in lacking]
    done = materia(tmp_path / "data", "status", "--json", **sqlite_in(tmp_path))
    status = json.loads(done.stdout)
    assert status["gateway"] == "ducklake" and str(tmp_path / "lake.sqlite") in status["lakehouse"]


def test_status_imports_nothing_heavy_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in sqlite_in(tmp_path).items():
        monkeypatch.setenv(name, value)
    assert modules_of(tmp_path / "data", "status", "--json") & {*HEAVY, "psycopg2"} == set()


def filled(lake: DuckLake | None) -> DuckLake:
    """The lake with a table of many small files, of which some rows are gone again."""
    assert lake is not None
    with duckdb.connect() as connection:
        lake.attach(connection, read_only=False)
        connection.execute("CREATE TABLE lakehouse.facts AS SELECT range AS number FROM range(100)")
        for first in range(100, 1000, 100):
            connection.execute(f"INSERT INTO lakehouse.facts FROM range({first}, {first + 100})")
        connection.execute("DELETE FROM lakehouse.facts WHERE number < 100")
    return lake


def numbers(connection: duckdb.DuckDBPyConnection) -> tuple[int, int]:
    ((count, total),) = connection.execute("SELECT COUNT(*), SUM(number) FROM lakehouse.facts").fetchall()
    return count, total


def files(lake: DuckLake) -> int:
    return len(list(Path(lake.data).rglob("*.parquet")))


def test_housekeeping_takes_nothing_from_a_running_reader(tmp_path: Path) -> None:
    settings = Settings.from_environ(sqlite_in(tmp_path))
    lake = filled(settings.lake)
    now, many = utc_now(), files(lake)
    with duckdb.connect() as reader:
        lake.attach(reader, read_only=True)
        reader.execute("BEGIN")
        seen = numbers(reader)
        first = run_maintenance(lake, now, settings.ducklake_kept_for)
        assert first.files_merged > 1 and first.snapshots_expired == first.files_removed == 0
        assert files(lake) > many
        assert numbers(reader) == seen
        # Whatever the time of day, what is to be kept for a day is there almost a day later.
        almost = timedelta(minutes=1)
        assert run_maintenance(lake, now + FILES_KEPT_FOR - almost, settings.ducklake_kept_for).files_removed == 0
        assert numbers(reader) == seen
    week_later = run_maintenance(lake, now + settings.ducklake_kept_for - almost, settings.ducklake_kept_for)
    assert week_later.files_removed > 0 == week_later.snapshots_expired
    with duckdb.connect() as connection:
        lake.attach(connection, read_only=False)
        old = connection.execute("FROM ducklake_snapshots('lakehouse') SELECT MIN(snapshot_id)").fetchone()
        assert connection.execute(f"SELECT COUNT(*) FROM lakehouse.facts AT (VERSION => {old[0] + 1})").fetchone()


def test_files_replaced_long_ago_are_removed_and_the_tables_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings.from_environ(sqlite_in(tmp_path))
    lake = filled(settings.lake)
    caplog.set_level(logging.INFO)
    a_day = timedelta(days=1)
    later = utc_now() + settings.ducklake_kept_for + a_day
    for moment in (utc_now(), later, later + FILES_KEPT_FOR + a_day):
        maintain_ducklake(settings, moment)
    assert len([record for record in caplog.records if record.getMessage() == "DuckLake maintenance done"]) == 3
    with duckdb.connect() as connection:
        lake.attach(connection, read_only=True)
        assert numbers(connection) == (900, sum(range(100, 1000)))
        snapshots = connection.execute("SELECT COUNT(*) FROM ducklake_snapshots('lakehouse')").fetchone()
    assert snapshots == (1,)
    assert files(lake) <= 2


def test_housekeeping_leaves_a_lake_alone_that_is_written_to(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings.from_environ(sqlite_in(tmp_path))
    caplog.set_level(logging.INFO)
    with lakehouse_lock(settings.lake, "transform"):
        maintain_ducklake(settings, utc_now())
    assert [record.getMessage() for record in caplog.records] == ["DuckLake maintenance skipped"]
