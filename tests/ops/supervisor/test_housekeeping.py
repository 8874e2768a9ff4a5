"""What grows stays bounded, and what USDA served is never touched."""

import os
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from ops.config.settings import Settings
from ops.health.memory import read_memory
from ops.host.lock import writer_lock
from ops.journal.journal import Journal
from ops.journal.run import RunStatus, utc_now
from ops.supervisor.child import run_child
from ops.supervisor.housekeeping import Limits, _size_bytes, clean, clean_up_if_due
from tests.ops.conftest import serve


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    found = Settings.from_environ({"MATERIA_DATA_DIR": str(tmp_path / "data"), "MATERIA_MIN_FREE_MB": "0"})
    found.supervisor_dir.mkdir(parents=True)
    return found


def write(path: Path, size_bytes: int = 10, age_days: float = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size_bytes)
    moment = utc_now().timestamp() - age_days * 86_400
    os.utime(path, (moment, moment))
    return path


def test_generations_logs_and_caches_beyond_their_limits_go(settings: Settings, tmp_path: Path) -> None:
    sqlmesh = tmp_path / "sqlmesh"
    for number in range(1, 9):
        serve(settings.serving_path, number, released_on=utc_now().date())
        os.utime(settings.data_dir / f"serving-{number}.json", (0, 0))  # nobody is opening it any more
        write(settings.log_dir / f"run-{number}.log", age_days=10 - number)
        write(sqlmesh / "logs" / f"sqlmesh_{number}.log", age_days=10 - number)
    old_partial = write(settings.landing_dir / ".partial" / "etag.zip", age_days=30)
    new_partial = write(settings.landing_dir / ".partial" / "new.zip")
    evidence = write(settings.landing_dir / "psd" / "etag.zip", age_days=3000)
    cached = write(sqlmesh / ".cache" / "model", size_bytes=2000)
    foreign = write(settings.log_dir / "notes.txt", age_days=3000)
    limits = Limits(generations=3, logs=4, sqlmesh_logs=2, cache_bytes=1000)
    clean(settings, utc_now(), limits, sqlmesh)
    assert sorted(path.name for path in settings.data_dir.glob("serving-*.duckdb")) == [
        "serving-6.duckdb",
        "serving-7.duckdb",
        "serving-8.duckdb",
    ]
    assert sorted(path.name for path in settings.log_dir.glob("run-*")) == [f"run-{n}.log" for n in (5, 6, 7, 8)]
    assert sorted(path.name for path in (sqlmesh / "logs").iterdir()) == ["sqlmesh_7.log", "sqlmesh_8.log"]
    assert not old_partial.exists() and not cached.exists()
    assert new_partial.exists() and evidence.exists() and foreign.exists()
    assert clean(settings, utc_now(), limits, sqlmesh) == 0


def test_logs_are_bounded_by_size_and_age_and_the_newest_stays(settings: Settings, tmp_path: Path) -> None:
    for number in range(5):
        write(settings.log_dir / f"run-{number}.log", size_bytes=1000, age_days=5 - number)
    clean(settings, utc_now(), Limits(logs_bytes=2500), tmp_path)
    assert len(list(settings.log_dir.iterdir())) == 2
    clean(settings, utc_now(), Limits(log_age=timedelta(hours=1), logs_bytes=1), tmp_path)
    assert [path.name for path in settings.log_dir.iterdir()] == ["run-4.log"]


def test_a_file_that_its_program_deletes_meanwhile_has_no_size(tmp_path: Path) -> None:
    """SQLMesh writes its cache through temporary files, also without our lock."""
    kept = write(tmp_path / "kept", size_bytes=2000)
    assert _size_bytes([tmp_path / "gone", kept]) == 2000


def test_the_uv_cache_of_a_supervisors_host_is_bounded_and_no_other(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, limits = tmp_path / "home", Limits(uv_cache_bytes=1000)
    cache, installed = home / "cache" / "uv", home / "trees" / "abc" / "duckdb.so"
    wheel = write(cache / "archive-v0" / "duckdb.so", size_bytes=2000)
    installed.parent.mkdir(parents=True)
    os.link(wheel, installed)
    monkeypatch.setitem(os.environ, "UV_CACHE_DIR", str(cache))
    monkeypatch.delitem(os.environ, "MATERIA_HOME", raising=False)
    clean(settings, utc_now(), limits, tmp_path)
    monkeypatch.setitem(os.environ, "MATERIA_HOME", str(tmp_path / "other"))
    clean(settings, utc_now(), limits, tmp_path)
    assert wheel.exists()
    monkeypatch.setitem(os.environ, "MATERIA_HOME", str(home))
    clean(settings, utc_now(), Limits(uv_cache_bytes=2000), tmp_path)
    assert wheel.exists()
    clean(settings, utc_now(), limits, tmp_path)
    assert not cache.exists() and installed.stat().st_size == 2000


def test_the_supervisors_log_is_bounded_without_logrotate(settings: Settings, tmp_path: Path) -> None:
    for _ in range(3):
        write(settings.log_dir / "supervisor.log", size_bytes=1500)
        clean(settings, utc_now(), Limits(supervisor_log_bytes=1000), tmp_path)
    assert [path.name for path in settings.log_dir.iterdir()] == ["supervisor.log.1"]


def test_the_journal_forgets_old_runs_and_keeps_what_status_asks_for(settings: Settings, tmp_path: Path) -> None:
    with Journal(settings.journal_path) as journal:
        first = journal.begin("backfill")
        journal.finish(first.id, RunStatus.DONE)
        for _ in range(30):
            whole = journal.begin("run-all")
            inner = journal.begin("extract", parent_id=whole.id)
            journal.finish_step(journal.begin_step(inner.id, "probe").id, RunStatus.DONE)
            journal.finish(inner.id, RunStatus.DONE)
            journal.finish(whole.id, RunStatus.DONE)
        clean(settings, utc_now(), Limits(runs=11), tmp_path)
        kept = journal.runs(100)
        assert len(kept) == 12 and kept[-1].id == first.id
        assert journal.last_success_by_pipeline()["backfill"].id == first.id
        assert journal.steps(kept[1].id) == () or journal.steps(kept[0].id) == ()
        assert clean(settings, utc_now(), Limits(runs=11), tmp_path) == 0


def test_nothing_is_cleaned_while_a_run_writes(settings: Settings, tmp_path: Path) -> None:
    old = write(settings.landing_dir / ".partial" / "etag.zip", age_days=30)
    with writer_lock(settings.lock_path, "run-all"):
        clean_up_if_due(settings, utc_now(), sqlmesh_dir=tmp_path)
    assert old.exists() and read_memory(settings.supervisor_dir).cleaned_at is None
    clean_up_if_due(settings, utc_now(), sqlmesh_dir=tmp_path)
    assert not old.exists() and read_memory(settings.supervisor_dir).cleaned_at is not None


def test_the_house_is_kept_every_few_hours_and_not_at_every_tick(settings: Settings, tmp_path: Path) -> None:
    now = utc_now()
    clean_up_if_due(settings, now, sqlmesh_dir=tmp_path)
    old = write(settings.landing_dir / ".partial" / "etag.zip", age_days=30)
    clean_up_if_due(settings, now + timedelta(hours=1), sqlmesh_dir=tmp_path)
    assert old.exists()
    clean_up_if_due(settings, now + timedelta(hours=7), sqlmesh_dir=tmp_path)
    assert not old.exists()


def test_the_output_of_a_run_that_prints_without_end_is_bounded(tmp_path: Path) -> None:
    code = "import time\nfor n in range(40):\n    print('x' * 500_000, flush=True); time.sleep(0.1)\nprint('the end')"
    sizes, path = [], tmp_path / "scheduled-run-all.log"
    result = run_child(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        environ=os.environ,
        output_path=path,
        deadline_s=60,
        on_alive=lambda: sizes.append(path.stat().st_size),
        alive_every_s=0.5,
        max_output_bytes=1_000_000,
    )
    assert result.exit_code == 0 and result.last_line == "the end"
    assert len(sizes) >= 4 and path.stat().st_size < 5_000_000, "20 MB were printed"
    assert path.read_bytes().startswith(b"(more than 1,000,000 bytes of output")
