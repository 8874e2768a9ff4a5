import os
import shutil
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC
from pathlib import Path

import pytest

from dataflows.errors import JournalError
from ops.host.process import Process, this_process
from ops.journal import file as journal_file
from ops.journal.journal import NEWEST_OF_EACH, Journal
from ops.journal.run import DIED, RunStatus, utc_now
from tests.ops.conftest import Spawn

WRITE_RUNS = """
import sys
from pathlib import Path
from ops.journal.journal import Journal
from ops.journal.run import RunStatus
path, name = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
journal = Journal(path)
for n in range(25):
    run = journal.begin("extract", trigger=name)
    step = journal.begin_step(run.id, "download")
    journal.finish_step(step.id, RunStatus.DONE)
    journal.finish(run.id, RunStatus.DONE, f"run {n}")
"""

BEGIN_AND_HANG = """
import sys, time
from pathlib import Path
from ops.journal.journal import Journal
journal = Journal(Path(sys.argv[1]))
run = journal.begin("transform")
journal.begin_step(run.id, "audit")
print(run.id, flush=True)
time.sleep(600)
"""


def test_a_run_and_its_steps_are_stored_unchanged(journal: Journal, tmp_path: Path) -> None:
    run = journal.begin(
        "extract",
        trigger="schedule",
        arguments=["--as-of", "2025-11"],
        worker="w1",
        code_version="abc123",
        log_dir=tmp_path / "logs",
    )
    step = journal.begin_step(run.id, "download")
    journal.finish_step(step.id, RunStatus.DONE, "2.8 MB")
    journal.finish(run.id, RunStatus.DONE, "landed 2025-11", snapshots=["etag1"])

    kept = journal.run(run.id)
    assert kept is not None
    assert kept == replace(
        run, status=RunStatus.DONE, ended_at=kept.ended_at, result="landed 2025-11", snapshots=("etag1",)
    )
    assert (kept.arguments, kept.worker, kept.code_version) == (("--as-of", "2025-11"), "w1", "abc123")
    assert kept.log_path == str(tmp_path / "logs" / f"run-{run.id}.log")
    assert kept.process == this_process()
    assert kept.started_at.tzinfo == UTC and kept.ended_at is not None and kept.ended_at >= kept.started_at
    [kept_step] = journal.steps(run.id)
    assert (kept_step.name, kept_step.status, kept_step.detail) == ("download", RunStatus.DONE, "2.8 MB")


def test_a_missing_journal_reads_as_empty_and_is_not_created(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "nowhere" / "runs.sqlite")
    assert journal.runs() == () and journal.run(1) is None and journal.steps(1) == ()
    assert journal.last_by_pipeline() == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"this is no database" * 100, None], ids=["garbage", "torn page"])
def test_a_corrupt_journal_is_a_typed_error_that_names_the_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "runs.sqlite"
    if content is None:
        with Journal(path) as journal:
            journal.begin("extract")
        content = path.read_bytes()[:4096] + b"\xff" * (path.stat().st_size - 4096)
    path.write_bytes(content)
    with pytest.raises(JournalError, match=r"runs\.sqlite.*run `materia run-all`"):
        Journal(path).runs()
    with Journal(path) as broken, pytest.raises(JournalError, match=r"runs\.sqlite"):
        broken.begin("extract")


def test_a_journal_that_cannot_be_created_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(JournalError, match="check that its directory"):
        Journal(tmp_path / "file" / "runs.sqlite").begin("extract")


def test_a_full_disk_is_a_typed_error_and_writing_goes_on_after_it(journal: Journal) -> None:
    run = journal.begin("extract")
    assert journal._writer is not None
    [pages] = journal._writer.execute("PRAGMA page_count").fetchone()
    journal._writer.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own way to a full disk.
    with pytest.raises(JournalError, match="disk is not full"):
        journal.begin_step(run.id, "download", "x" * 100_000)
    journal._writer.execute("PRAGMA max_page_count = 1000000")
    journal.begin_step(run.id, "download")
    assert [step.detail for step in journal.steps(run.id)] == [""]


def test_an_empty_file_becomes_a_journal(tmp_path: Path) -> None:
    (tmp_path / "runs.sqlite").touch()
    with Journal(tmp_path / "runs.sqlite") as journal:
        assert journal.runs() == ()
        assert journal.begin("extract").id == 1


def test_a_journal_of_a_newer_materia_is_refused(journal: Journal) -> None:
    journal.begin("extract")
    journal.close()
    connection = sqlite3.connect(journal.path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(JournalError, match="newer Materia"):
        journal.runs()
    with pytest.raises(JournalError, match="newer Materia"):
        journal.begin("extract")


@pytest.mark.parametrize("first", ["reader", "writer"])
def test_an_older_journal_is_brought_forward_with_its_runs(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    journal.begin("extract")
    journal.close()
    newer = (*journal_file.MIGRATIONS, "CREATE TABLE notes (text TEXT) STRICT")
    monkeypatch.setattr(journal_file, "MIGRATIONS", newer)
    if first == "writer":
        journal.begin("transform")
    assert [run.pipeline for run in journal.runs()][-1] == "extract"
    connection = sqlite3.connect(journal.path)
    assert connection.execute("SELECT count(*) FROM notes").fetchone() == (0,)
    connection.close()


def test_a_migration_that_fails_changes_nothing(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.begin("extract")
    journal.close()
    broken = (*journal_file.MIGRATIONS, "CREATE TABLE notes (text TEXT); CREATE TABLE runs (id INTEGER)")
    with monkeypatch.context() as patched:
        patched.setattr(journal_file, "MIGRATIONS", broken)
        with pytest.raises(JournalError, match="already exists"):
            journal.begin("extract")
    assert [run.id for run in journal.runs()] == [1]
    assert journal.begin("extract").id == 2


def test_processes_that_begin_at_once_all_get_their_runs_into_one_journal(tmp_path: Path, spawn: Spawn) -> None:
    path = tmp_path / "runs.sqlite"
    writers = [spawn(WRITE_RUNS, path, f"w{n}") for n in range(4)]
    for writer in writers:
        assert writer.stdout and writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin
        writer.stdin.write("go\n")
        writer.stdin.flush()
    reader = Journal(path)
    while any(writer.poll() is None for writer in writers):
        assert all(run.status in (RunStatus.RUNNING, RunStatus.DONE) for run in reader.runs(200))
    assert [writer.wait() for writer in writers] == [0] * 4, [w.communicate()[1] for w in writers]

    runs = reader.runs(200)
    assert sorted(run.id for run in runs) == list(range(1, 101))
    assert {(run.trigger, run.result) for run in runs} == {(f"w{n}", f"run {m}") for n in range(4) for m in range(25)}
    assert all(len(reader.steps(run.id)) == 1 for run in runs)
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


def test_a_reader_never_waits_for_a_writer_nor_blocks_one(journal: Journal) -> None:
    journal.begin("extract")
    blocker = sqlite3.connect(journal.path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    blocker.execute("UPDATE runs SET result = 'half'")
    assert journal.runs()[0].result is None
    blocker.execute("ROLLBACK")
    with journal_file.open_to_read(journal.path) as reading:
        assert reading is not None
        reading.execute("BEGIN")
        assert reading.execute("SELECT count(*) FROM runs").fetchone() == (1,)
        journal.begin("extract")
        assert reading.execute("SELECT count(*) FROM runs").fetchone() == (1,)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reading.execute("DELETE FROM runs")
    blocker.close()


def test_a_killed_run_is_seen_as_died_and_recorded_so_by_the_next_run(journal: Journal, spawn: Spawn) -> None:
    process = spawn(BEGIN_AND_HANG, journal.path)
    assert process.stdout
    run_id = int(process.stdout.readline())
    alive = journal.run(run_id)
    assert alive is not None and alive.status is RunStatus.RUNNING and alive.pid == process.pid

    process.kill()
    for _ in range(3000):
        if not alive.process.is_alive():
            break
        time.sleep(0.01)  # Nobody waits for the process, so it ends as a zombie: dead all the same.
    died = journal.run(run_id)
    assert died is not None and (died.status, died.error, died.ended_at) == (RunStatus.DIED, DIED, None)
    assert died.duration_s(utc_now()) is None
    assert [step.status for step in journal.steps(run_id)] == [RunStatus.DIED]
    assert [run.id for run in journal.runs(status=RunStatus.DIED)] == [run_id]
    assert journal.runs(status=RunStatus.RUNNING) == ()
    assert journal.last_failure_by_pipeline()["transform"].id == run_id
    assert _stored_status(journal.path, run_id) == "running"

    journal.begin("transform")
    assert _stored_status(journal.path, run_id) == "died"
    assert journal.run(run_id) == died
    assert [step.status for step in journal.steps(run_id)] == [RunStatus.DIED]


def test_a_run_that_ends_well_while_it_is_looked_at_is_not_seen_as_died(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = journal.begin("extract")

    def ends_after_it_was_read(_: Process) -> bool:
        journal.finish(run.id, RunStatus.DONE, "nothing new")
        return False

    monkeypatch.setattr(Process, "is_alive", ends_after_it_was_read)
    [seen] = journal.runs()
    assert (seen.status, seen.result) == (RunStatus.DONE, "nothing new")


def test_a_recycled_pid_is_not_mistaken_for_the_run(journal: Journal) -> None:
    run = journal.begin("extract")
    boot, ticks = run.process_started.split("/")
    for other in (f"{boot}/{int(ticks) - 1}", f"another-boot/{ticks}"):
        connection = sqlite3.connect(journal.path)
        connection.execute("UPDATE runs SET process_started = ?", (other,))
        connection.commit()
        connection.close()
        seen = journal.run(run.id)
        assert seen is not None and seen.pid == run.pid and seen.status is RunStatus.DIED


def test_without_proc_the_pid_alone_decides() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert Process(this_process().pid, "").is_alive()
    assert not Process(ended.pid, "").is_alive()


def test_the_newest_run_of_each_pipeline_is_found_whatever_came_after(journal: Journal) -> None:
    def record(pipeline: str, status: RunStatus) -> int:
        run = journal.begin(pipeline)
        if status is not RunStatus.RUNNING:
            journal.finish(run.id, status)
        return run.id

    done = record("extract", RunStatus.DONE)
    failed = record("extract", RunStatus.FAILED)
    interrupted = record("extract", RunStatus.INTERRUPTED)
    running = record("transform", RunStatus.RUNNING)
    assert {name: run.id for name, run in journal.last_by_pipeline().items()} == {
        "extract": interrupted,
        "transform": running,
    }
    assert {name: run.id for name, run in journal.last_success_by_pipeline().items()} == {"extract": done}
    assert {name: run.id for name, run in journal.last_failure_by_pipeline().items()} == {"extract": failed}
    assert [run.id for run in journal.runs(2)] == [running, interrupted]
    assert [run.id for run in journal.runs(pipeline="extract", status=RunStatus.FAILED)] == [failed]


def test_runs_inside_a_run_are_its_children(journal: Journal) -> None:
    parent = journal.begin("run-all")
    children = [journal.begin(name, parent_id=parent.id).id for name in ("extract", "transform")]
    journal.begin("extract")
    assert [run.id for run in journal.children(parent.id)] == children
    assert parent.parent_id is None


def test_a_run_that_ends_takes_along_what_it_left_running(journal: Journal) -> None:
    """A signal that arrives when a child run has just begun leaves it running."""
    parent = journal.begin("run-all")
    child, other = journal.begin("extract", parent_id=parent.id), journal.begin("transform")
    step = journal.begin_step(parent.id, "landed")
    journal.finish(parent.id, RunStatus.INTERRUPTED)
    found = {run.id: run.status for run in journal.runs()}
    assert found == {
        parent.id: RunStatus.INTERRUPTED,
        child.id: RunStatus.INTERRUPTED,
        other.id: RunStatus.RUNNING,
    }
    assert [(each.id, each.status) for each in journal.steps(parent.id)] == [(step.id, RunStatus.INTERRUPTED)]


def test_an_overview_of_ten_thousand_runs_reads_a_handful_of_rows(journal: Journal) -> None:
    journal.begin("extract")
    connection = sqlite3.connect(journal.path, isolation_level=None)
    connection.execute(
        """
        WITH RECURSIVE series (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM series WHERE n < 10000)
        INSERT INTO runs (pipeline, status, "trigger", arguments, started_at, ended_at, pid, process_started,
                          host, code_version)
        SELECT 'pipeline ' || (n % 4), CASE WHEN n % 10 THEN 'done' ELSE 'failed' END, 'schedule', '[]',
               '2026-11-01T00:00:00+00:00', '2026-11-01T00:00:0' || (n % 10) || '+00:00', 1, '', 'h', 'v'
        FROM series
        """
    )
    assert len(journal.last_by_pipeline()) == 5
    assert {run.id for run in journal.last_by_pipeline().values()} == {1, 10001, 10000, 9999, 9998}
    assert len(journal.runs(50, status=RunStatus.FAILED)) == 50

    # SQLite counts its own work: virtual machine steps, where a look at every run would take 10,000 and more.
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 100
        return 0

    connection.set_progress_handler(count, 100)
    connection.execute(NEWEST_OF_EACH).fetchall()
    assert 0 < steps < 5_000
    connection.close()


def test_a_copied_journal_names_the_logs_beside_it(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    with Journal(old / "runs.sqlite") as journal:
        journal.finish(journal.begin("extract", log_dir=old / "logs").id, RunStatus.DONE)
        assert [run.log_path for run in journal.runs()] == [str(old / "logs" / "run-1.log")]
    shutil.copytree(old, new)
    with Journal(new / "runs.sqlite") as copy:
        assert [run.log_path for run in copy.runs()] == [str(new / "logs" / "run-1.log")]


def _stored_status(path: Path, run_id: int) -> str:
    connection = sqlite3.connect(path)
    try:
        return str(connection.execute("SELECT status FROM runs WHERE id = ?", (run_id,)).fetchone()[0])
    finally:
        connection.close()


DYING_WITH_A_DRAFT = """
import os, signal, sys
from pathlib import Path
from ops.journal.journal import Journal
link = os.link
os.link = lambda *arguments, **options: os.kill(os.getpid(), signal.SIGKILL)
Journal(Path(sys.argv[1])).begin("extract")
"""


def test_the_drafts_of_a_process_that_died_creating_the_journal_are_deleted(tmp_path: Path, spawn: Spawn) -> None:
    path = tmp_path / "runs.sqlite"
    spawn(DYING_WITH_A_DRAFT, path).wait(30)
    assert [each.name.startswith(".runs.sqlite-") for each in tmp_path.iterdir()] == [True]
    under_way = tmp_path / f".runs.sqlite-{os.getpid()}-alive"
    under_way.touch()
    with Journal(path) as journal:
        journal.begin("extract")
    assert {each.name for each in tmp_path.iterdir()} == {"runs.sqlite", under_way.name}
