import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dataflows.errors import MateriaError, SettingsError
from dataflows.landing.local import LocalLanding
from dataflows.source.archive import RetryPolicy
from dataflows.source.release import Month
from ops.config.settings import Settings
from ops.host.exits import Exit
from ops.host.lock import writer_lock
from ops.journal.journal import Journal
from ops.journal.run import RunStatus
from ops.pipelines import backfill as backfilling
from ops.pipelines.backfill import AT_A_TIME, Outcome, backfill
from ops.pipelines.job import Request
from tests.support.faulty_archive import Fault, FaultyArchive
from tests.support.psd_files import DATASET, release_zip, rows

FIRST, LAST = Month(2025, 5), Month(2025, 10)
HASTE = RetryPolicy(attempts=2, first_pause_s=0.01, longest_pause_s=0.05, idle_s=5)
MATERIA = Path(sys.executable).with_name("materia")


@pytest.fixture
def coffee():
    """An archive with six releases, each a row longer than the one before."""
    with FaultyArchive(DATASET) as server:
        for number, month in enumerate(FIRST.through(LAST)):
            server.post(month, release_zip(rows(5 + number)), datetime(2025, month.month, 12, 16, tzinfo=UTC))
        yield server


@pytest.fixture
def environ(coffee, tmp_path) -> dict[str, str]:
    return {"MATERIA_DATA_DIR": str(tmp_path / "data"), "PSD_ARCHIVE_URL": coffee.url, "PSD_DATASET": DATASET}


@pytest.fixture
def land(environ):
    """Land a range of months without serving them; returns what became of each."""

    def run(first: Month = FIRST, last: Month = LAST) -> dict[Month, Outcome]:
        done: list[backfilling.MonthDone] = []
        request = Request(retry_policy=HASTE)
        try:
            backfill(Settings.from_environ(environ), first, last, request, serve=False, report=done.append)
        finally:
            run.outcomes = {each.month: each.outcome for each in done}
        return run.outcomes

    return run


def landed(environ: dict[str, str]) -> list[tuple[Month, int]]:
    landing = LocalLanding(Path(environ["MATERIA_DATA_DIR"]) / "landing")
    return [(snapshot.month, snapshot.row_count) for snapshot in landing.snapshots()]


ALL_LANDED = [(month, 5 + number) for number, month in enumerate(FIRST.through(LAST))]


def test_every_month_of_the_range_is_landed(land, environ):
    assert land() == dict.fromkeys(FIRST.through(LAST), Outcome.LANDED)
    assert landed(environ) == ALL_LANDED


def test_repeating_a_backfill_downloads_nothing(coffee, land):
    land()
    coffee.forget_requests()
    assert set(land().values()) == {Outcome.KNOWN}
    assert [request.method for request in coffee.requests] == ["HEAD"] * 6


def test_the_order_of_landing_does_not_show(land, environ):
    land(Month(2025, 9), LAST)
    land(FIRST, Month(2025, 6))
    land()
    assert landed(environ) == ALL_LANDED


def test_months_that_are_not_posted_are_no_failure(coffee, land):
    coffee.remove(Month(2025, 6))
    done = land(FIRST.back(2), LAST)
    missing = {month for month, outcome in done.items() if outcome is Outcome.NOT_POSTED}
    assert missing == {Month(2025, 3), Month(2025, 4), Month(2025, 6)}
    assert list(done.values()).count(Outcome.LANDED) == 5


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_month_is_reported_and_no_failure_where_others_are_posted(coffee, land, environ, status):
    coffee.misbehave(Month(2025, 7), Fault(status=status), times=None)
    outcomes = land()
    assert outcomes.pop(Month(2025, 7)) is Outcome.REFUSED
    assert set(outcomes.values()) == {Outcome.LANDED}
    assert landed(environ) == [each for each in ALL_LANDED if each[0] != Month(2025, 7)]


def test_a_backfill_fails_where_the_archive_refuses_every_month_that_it_does_not_miss(coffee, land):
    for month in FIRST.through(LAST):
        coffee.misbehave(month, Fault(status=403), times=None)
    with pytest.raises(MateriaError, match=r"6 of 7 months failed \(1 not posted, 6 refused\).* PSD_USER_AGENT"):
        land(FIRST.back(1), LAST)


@pytest.mark.parametrize("fault", [Fault(body=release_zip()[:-40]), Fault(status=503)])
def test_a_failing_month_is_reported_after_the_others_have_landed(coffee, land, environ, fault):
    coffee.misbehave(Month(2025, 7), fault, times=None)
    with pytest.raises(MateriaError, match=r"1 of 6 months failed .* the first, 2025-07: ") as failed:
        land()
    assert failed.value.exit_code == Exit.FAILED
    assert land.outcomes.pop(Month(2025, 7)) is Outcome.FAILED
    assert set(land.outcomes.values()) == {Outcome.LANDED}
    assert landed(environ) == [each for each in ALL_LANDED if each[0] != Month(2025, 7)]


def test_nothing_is_published_when_a_month_failed(coffee, environ, tmp_path):
    coffee.misbehave(Month(2025, 7), Fault(body=release_zip()[:-40]), times=None)
    done = subprocess.run(
        [MATERIA, "backfill", "--from", str(FIRST), "--to", str(LAST)],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == Exit.FAILED
    assert "error: 1 of 6 months failed" in done.stderr and "Traceback" not in done.stderr
    assert "Node inputs" not in done.stderr and "slack" not in done.stderr
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == sorted(
        ["landing", "logs", "runs.sqlite", "writer.lock", *(p.name for p in (tmp_path / "data").glob("runs.sqlite-*"))]
    )


def test_no_more_than_a_few_requests_are_under_way(coffee, land, monkeypatch):
    lock, busy, most = threading.Lock(), 0, 0
    record, take = coffee.record, coffee.take_fault

    def started(path, method):
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        time.sleep(0.05)
        return take(path, method)

    def ended(request):
        nonlocal busy
        with lock:
            busy -= 1
        record(request)

    monkeypatch.setattr(coffee, "take_fault", started)
    monkeypatch.setattr(coffee, "record", ended)
    land()
    # The server may still be noting the end of an answer whose client has gone on to its next question.
    assert 2 <= most <= 2 * AT_A_TIME


@pytest.mark.parametrize(
    ("first", "last"), [(LAST, FIRST), (Month(1900, 1), Month(2025, 1)), (Month(1, 1), Month(9999, 12))]
)
def test_a_range_that_is_none_is_wrong_usage(coffee, land, first, last):
    with pytest.raises(SettingsError, match="is no range of at most"):
        land(first, last)
    assert coffee.requests == ()


def test_an_interrupted_backfill_ends_quickly_and_is_taken_up_again(coffee, land, environ):
    for month in (Month(2025, 6), Month(2025, 8)):
        coffee.misbehave(month, Fault(drip_bytes_per_s=20, method="GET"), times=None)
    child = subprocess.Popen(
        [MATERIA, "backfill", "--from", str(FIRST), "--to", str(LAST), "--land-only"],
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        outcomes = [child.stdout.readline() for _ in range(4)]  # the drips would take half a minute
        child.send_signal(signal.SIGINT)
        child.wait(15)
        output, errors = child.communicate(timeout=15)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == Exit.INTERRUPTED, errors
    assert all("landed" in line for line in outcomes) and output == ""
    with Journal(Path(environ["MATERIA_DATA_DIR"]) / "runs.sqlite") as journal:
        (run,) = journal.runs()
        assert run.status is RunStatus.INTERRUPTED
        steps = {step.name: step.status for step in journal.steps(run.id)}
    assert steps["2025-06"] is steps["2025-08"] is RunStatus.INTERRUPTED
    coffee.behave()
    coffee.forget_requests()
    done = land()
    assert {month for month, outcome in done.items() if outcome is Outcome.LANDED} == {Month(2025, 6), Month(2025, 8)}
    fetched = {request.path for request in coffee.requests if request.method == "GET"}
    assert fetched == {coffee.path(Month(2025, 6)), coffee.path(Month(2025, 8))}
    assert landed(environ) == ALL_LANDED


def test_an_interrupted_extract_does_not_wait_for_its_probes(coffee, environ):
    for month in (LAST, LAST.back(1), LAST.back(2), LAST.back(3)):
        coffee.misbehave(month, Fault(status=503, retry_after="30"), times=None)
    child = subprocess.Popen(
        [MATERIA, "pipeline", "run", "extract", "--as-of", str(LAST)],
        env={**os.environ, **environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        while len(coffee.requests) < 4:
            assert time.monotonic() < deadline and child.poll() is None
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        assert child.wait(15) == Exit.INTERRUPTED
    finally:
        child.kill()
        child.wait()


def test_the_second_of_two_concurrent_extracts_is_refused(coffee, environ):
    coffee.misbehave(LAST, Fault(drip_bytes_per_s=400, method="GET"), times=None)
    command = [MATERIA, "pipeline", "run", "extract", "--as-of", str(LAST)]
    children = [
        subprocess.Popen(command, env={**os.environ, **environ}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    try:
        codes = sorted(child.wait(60) for child in children)
        errors = b"".join(child.communicate()[1] for child in children)
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert codes == [Exit.DONE, Exit.LOCKED], errors
    assert b"another run is writing" in errors
    assert landed(environ) == ALL_LANDED[-1:]


def test_a_backfill_is_turned_away_while_another_run_writes(environ, land):
    data_dir = Path(environ["MATERIA_DATA_DIR"])
    with writer_lock(data_dir / "writer.lock", "extract"), pytest.raises(MateriaError) as refused:
        land()
    assert refused.value.exit_code == Exit.LOCKED
    assert landed(environ) == []


def test_the_log_of_a_failed_run_contains_no_inputs(coffee, environ, land):
    coffee.misbehave(Month(2025, 7), Fault(status=503), times=None)
    with pytest.raises(MateriaError):
        land()
    logs = "".join(path.read_text() for path in (Path(environ["MATERIA_DATA_DIR"]) / "logs").iterdir())
    assert "outcome=failed" in logs
    assert "Node inputs" not in logs and "LocalLanding" not in json.dumps(logs)
