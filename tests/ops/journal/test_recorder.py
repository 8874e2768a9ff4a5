import json
import os
import signal
import time
import types
from pathlib import Path

import pytest

from dataflows import driver
from dataflows.errors import ArchiveError, JournalError
from ops.host.redact import MASK, Redactor
from ops.journal.journal import Journal
from ops.journal.recorder import Recorder, Terminated, record_run
from ops.journal.run import RunStatus
from ops.journal.steps import step_recorder
from tests.ops.conftest import Spawn

RUN_UNTIL_SIGNALLED = """
import sys, time
from pathlib import Path
from ops.journal.journal import Journal
from ops.journal.recorder import record_run
with Journal(Path(sys.argv[1])) as journal, record_run(journal, "extract") as recorder:
    with recorder.step("download"):
        print("running", flush=True)
        time.sleep(600)
"""

RUN_A_QUERY_UNTIL_SIGNALLED = """
import sys
from pathlib import Path
import duckdb
from ops.journal.journal import Journal
from ops.journal.recorder import record_run
with Journal(Path(sys.argv[1])) as journal, record_run(journal, "extract") as recorder:
    with recorder.step("contents"):
        connection = duckdb.connect()
        print("running", flush=True)
        try:
            connection.execute("SELECT count(*) FROM range(10000000000000) rows(n) WHERE n % 7 = 3")
        finally:
            connection.interrupt()
"""


def test_a_run_that_ends_well_is_done_with_its_result(journal: Journal, tmp_path: Path) -> None:
    with record_run(journal, "extract", trigger="schedule", log_dir=tmp_path / "logs") as recorder:
        with recorder.step("probe") as note:
            note.detail = "4 months asked"
        recorder.result, recorder.snapshots = "nothing new", ("etag1",)
        running = journal.run(recorder.run.id)
        assert running is not None and running.status is RunStatus.RUNNING
    run = journal.run(recorder.run.id)
    assert run is not None
    assert (run.status, run.result, run.snapshots, run.error) == (
        RunStatus.DONE,
        "nothing new",
        ("etag1",),
        None,
    )
    assert run.code_version and run.trigger == "schedule"
    assert [(step.name, step.status, step.detail) for step in journal.steps(run.id)] == [
        ("probe", RunStatus.DONE, "4 months asked")
    ]
    log_text = Path(run.log_path or "").read_text()
    assert f"run={run.id} run began" in log_text and 'result="nothing new"' in log_text


def test_a_failure_is_recorded_and_goes_on_to_the_caller(journal: Journal, tmp_path: Path) -> None:
    error = ArchiveError("https://x/y.zip answered 500; try again later")
    with (
        pytest.raises(ArchiveError) as raised,
        record_run(journal, "extract", log_dir=tmp_path) as recorder,
        recorder.step("download"),
    ):
        raise error
    assert raised.value is error
    [run] = journal.runs()
    assert (run.status, run.error, run.result) == (RunStatus.FAILED, str(error), None)
    assert run.error_detail and "Traceback" in run.error_detail and "test_recorder.py" in run.error_detail
    [step] = journal.steps(run.id)
    assert (step.status, step.detail) == (RunStatus.FAILED, str(error))
    log_text = Path(run.log_path or "").read_text()
    assert f"ERROR run={run.id} run failed: {error}\n" in log_text and "Traceback" not in log_text


def test_the_log_has_the_traceback_of_an_unexpected_error(journal: Journal, tmp_path: Path) -> None:
    with pytest.raises(KeyError), record_run(journal, "extract", log_dir=tmp_path):
        raise KeyError("etag")
    log_text = Path(journal.runs()[0].log_path or "").read_text()
    assert "run failed: KeyError: 'etag'" in log_text and "Traceback" in log_text


def test_an_unexpected_error_is_recorded_with_its_type_in_one_line(journal: Journal) -> None:
    with pytest.raises(ZeroDivisionError), record_run(journal, "transform"):
        raise ZeroDivisionError("one\ntwo")
    assert journal.runs()[0].error == "ZeroDivisionError: one two"


@pytest.mark.parametrize(
    ("interruption", "message"),
    [(KeyboardInterrupt, "interrupted by SIGINT (Ctrl+C)"), (Terminated, "interrupted by SIGTERM")],
)
def test_an_interruption_is_not_a_failure(journal: Journal, interruption: type[BaseException], message: str) -> None:
    with pytest.raises(interruption), record_run(journal, "extract") as recorder, recorder.step("download"):
        raise interruption
    assert [(run.status, run.error) for run in journal.runs()] == [(RunStatus.INTERRUPTED, message)]
    assert [step.status for step in journal.steps(1)] == [RunStatus.INTERRUPTED]


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signalled_process_records_itself_as_interrupted(
    journal: Journal, spawn: Spawn, sent: signal.Signals
) -> None:
    process = spawn(RUN_UNTIL_SIGNALLED, journal.path)
    assert process.stdout and process.stdout.readline() == "running\n"
    process.send_signal(sent)
    assert process.wait(timeout=30) != 0
    assert [run.status for run in journal.runs()] == [RunStatus.INTERRUPTED]
    assert [step.status for step in journal.steps(1)] == [RunStatus.INTERRUPTED]


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_one_that_is_signalled_within_a_query_does_too(journal: Journal, spawn: Spawn, sent: signal.Signals) -> None:
    process = spawn(RUN_A_QUERY_UNTIL_SIGNALLED, journal.path)
    assert process.stdout and process.stdout.readline() == "running\n"
    began = _cpu_ticks(process.pid)
    while _cpu_ticks(process.pid) < began + 20:
        time.sleep(0.01)
    process.send_signal(sent)
    assert process.wait(timeout=30) != 0
    (run,), (step,) = journal.runs(), journal.steps(1)
    assert (run.status, step.status) == (RunStatus.INTERRUPTED, RunStatus.INTERRUPTED)
    assert run.error == step.detail and "SIG" in str(run.error)


def _cpu_ticks(pid: int) -> int:
    """How long a process was at work (proc(5): fields 14 and 15)."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return int(user) + int(system)


def test_sigterm_is_the_programs_own_again_after_the_run(journal: Journal) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated), record_run(journal, "extract"):
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    assert signal.getsignal(signal.SIGTERM) == before


def test_runs_inside_run_all_are_its_children_and_share_its_log(journal: Journal, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError), record_run(journal, "run-all", log_dir=tmp_path) as recorder:
        with recorder.child("extract") as extract:
            extract.result = "landed 2025-11"
        with recorder.child("transform"):
            raise ArchiveError("no")
    children = journal.children(recorder.run.id)
    assert [(run.pipeline, run.status, run.trigger) for run in children] == [
        ("extract", RunStatus.DONE, "run-all"),
        ("transform", RunStatus.FAILED, "run-all"),
    ]
    [whole] = journal.runs(pipeline="run-all")
    assert (whole.status, whole.error) == (RunStatus.FAILED, "no")
    assert "run=2 run began pipeline=extract" in Path(whole.log_path or "").read_text()


def test_no_secret_reaches_the_journal(journal: Journal) -> None:
    redact = Redactor({"HETZNER_TOKEN": "very-secret"})
    with (
        pytest.raises(ValueError, match="very-secret"),
        record_run(journal, "extract", redact=redact, arguments=["--key=very-secret"]) as recorder,
    ):
        recorder.result = "very-secret"
        with recorder.step("download", "very-secret"):
            raise ValueError("very-secret")
    journal.close()
    kept = b"".join(file.read_bytes() for file in journal.path.parent.glob("runs.sqlite*"))
    assert b"very-secret" not in kept
    assert journal.runs()[0].error == f"ValueError: {MASK}"


def test_a_journal_that_breaks_during_a_failure_does_not_hide_the_failure(journal: Journal) -> None:
    with pytest.raises(ArchiveError) as raised, record_run(journal, "extract"):
        journal.close()
        journal.path.write_bytes(b"broken" * 1000)
        raise ArchiveError("the first trouble")
    assert "could not be recorded" in raised.value.__notes__[0]
    assert "runs.sqlite" in raised.value.__notes__[0]


def test_a_journal_that_breaks_during_a_success_is_an_error(journal: Journal) -> None:
    with pytest.raises(JournalError), record_run(journal, "extract"):
        journal.close()
        journal.path.write_bytes(b"broken" * 1000)


def _execute(recorder: Recorder, final: str, **functions: object) -> object:
    # As `dataflows.driver` does: one of Hamilton's extensions does not import beside pyspark and numpy 2.
    os.environ.setdefault("HAMILTON_AUTOLOAD_EXTENSIONS", "0")
    from hamilton import ad_hoc_utils

    module: types.ModuleType = ad_hoc_utils.create_temporary_module(*functions.values())
    return driver.execute(module, final, {"token": "hush-hush"}, adapters=(step_recorder(recorder),))


def test_every_hamilton_node_is_a_step_without_values(journal: Journal) -> None:
    def candidates(token: str) -> list[str]:
        return [token, token]

    def chosen(candidates: list[str]) -> int:
        return len(candidates)

    with record_run(journal, "extract") as recorder:
        _execute(recorder, "chosen", candidates=candidates, chosen=chosen)
    steps = journal.steps(1)
    assert [(step.name, step.status, step.detail) for step in steps] == [
        ("candidates", RunStatus.DONE, "list of 2"),
        ("chosen", RunStatus.DONE, "int"),
    ]
    assert "hush-hush" not in json.dumps([step.detail for step in steps])


@pytest.mark.parametrize(
    ("error", "status", "detail"),
    [
        (ArchiveError("the archive is away"), RunStatus.FAILED, "the archive is away"),
        (KeyboardInterrupt(), RunStatus.INTERRUPTED, "interrupted by SIGINT (Ctrl+C)"),
    ],
)
def test_a_hamilton_node_that_fails_is_a_failed_step(
    journal: Journal, error: BaseException, status: RunStatus, detail: str
) -> None:
    def candidates(token: str) -> int:
        return 1

    def chosen(candidates: int) -> int:
        raise error

    def landed(chosen: int) -> int:
        return chosen

    with pytest.raises(type(error)), record_run(journal, "extract") as recorder:
        _execute(recorder, "landed", candidates=candidates, chosen=chosen, landed=landed)
    assert [(step.name, step.status, step.detail) for step in journal.steps(1)] == [
        ("candidates", RunStatus.DONE, "int"),
        ("chosen", status, detail),
    ]
    assert journal.runs()[0].status is status
