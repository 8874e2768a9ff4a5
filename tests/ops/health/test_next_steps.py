"""Every problem's next step is executed, as an operator would, and solves the problem.

`PROVOKED` has an entry for each problem that the code can report. A problem without one fails the first test.
"""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dataflows.serving.store import ServingStore
from dataflows.source.release import Month
from ops.config.settings import PROJECT_DIR, Settings
from ops.health.doctor import Finding, Verdict, examine
from ops.health.heartbeat import FAILING_AFTER, beat, heartbeat_path, record_tick_failure
from ops.health.memory import Attempts, Memory, Reaping, write_memory
from ops.health.problem import Problem
from ops.health.status import expected_release, take_status
from ops.integrity.record import ScrubRecord, write_record
from ops.integrity.scrub import scrub
from ops.journal.journal import Journal
from ops.journal.run import RunStatus, utc_now
from ops.supervisor.tick import tick
from ops.workers.caps import LEDGER_NAME, Caps, Entry, Ledger
from ops.workers.labels import Labels
from tests.ops.supervisor.conftest import quick
from tests.support.command_line import BIN, materia
from tests.support.fake_hetzner import TOKEN, FakeHetzner
from tests.support.faulty_archive import Fault, FaultyArchive
from tests.support.psd_files import DATASET, release_zip, rows
from tests.support.workshop import Workshop

EXPECTED = expected_release(utc_now())
BEFORE = EXPECTED.back(1)


@dataclass
class Host:
    """A data directory in which everything was well, and its archive."""

    data_dir: Path
    archive: FaultyArchive
    environ: dict[str, str] = field(default_factory=dict)
    servers: ExitStack = field(default_factory=ExitStack)
    """What a problem needs to run on loopback until the end of the test."""

    @property
    def settings(self) -> Settings:
        return Settings.from_environ({**self.settings_environ, **self.environ})

    @property
    def settings_environ(self) -> dict[str, str]:
        return environ_of(self.data_dir, self.archive)

    def problems(self) -> dict[str, Problem]:
        return {each.key: each for each in take_status(self.settings, utc_now()).problems}

    def materia(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return materia(self.data_dir, *arguments, timeout_s=120, **self.settings_environ, **self.environ)


def environ_of(data_dir: Path, archive: FaultyArchive) -> dict[str, str]:
    return {
        "MATERIA_DATA_DIR": str(data_dir),
        "MATERIA_MIN_FREE_MB": "0",
        "PSD_DATASET": DATASET,
        "PSD_ARCHIVE_URL": archive.url,
    }


def post(archive: FaultyArchive, month: Month, facts: int = 40) -> None:
    archive.post(
        month, release_zip(rows(facts)), datetime(month.year, month.month, 11, 16, tzinfo=UTC), dataset=DATASET
    )


@pytest.fixture(scope="module")
def archive() -> Iterator[FaultyArchive]:
    with FaultyArchive(DATASET) as server:
        post(server, BEFORE)
        post(server, EXPECTED, 50)
        yield server


@pytest.fixture(scope="module")
def well(tmp_path_factory: pytest.TempPathFactory, archive: FaultyArchive) -> Path:
    """Two releases landed and served, in two generations; nothing is wrong."""
    data_dir = tmp_path_factory.mktemp("well") / "data"
    environ = environ_of(data_dir, archive)
    for arguments in (("run-all", "--as-of", str(BEFORE)), ("run-all",)):
        done = materia(data_dir, *arguments, timeout_s=120, **environ)
        assert done.returncode == 0, done.stderr
    assert take_status(Settings.from_environ(environ), utc_now()).problems == ()
    return data_dir


@pytest.fixture
def host(well: Path, tmp_path: Path, archive: FaultyArchive) -> Iterator[Host]:
    found = Host(Path(shutil.copytree(well, tmp_path / "data", symlinks=True)), archive)
    with found.servers:
        yield found


# What provokes each problem -------------------------------------------------------------------------------------------


def served(host: Host) -> Path:
    return (host.data_dir / "serving.duckdb").resolve()


def cut(path: Path) -> None:
    path.chmod(0o644)
    os.truncate(path, path.stat().st_size // 2)


def a_zip(host: Host) -> Path:
    return min(host.data_dir.glob("landing/psd/*.zip"))


def lose_everything_computed(host: Host) -> None:
    for path in (*host.data_dir.glob("lakehouse*"), *host.data_dir.glob("serving-*")):
        path.unlink() if path.is_file() else shutil.rmtree(path)


def spoil_marker(host: Host) -> None:
    a_zip(host).with_suffix(".json").write_text('{"key": ')


def serve_nothing(host: Host) -> None:
    for path in host.data_dir.glob("serving*"):
        path.unlink()


def serve_a_foreign_file(host: Host) -> None:
    content = served(host).read_bytes()
    serve_nothing(host)
    (host.data_dir / "serving.duckdb").write_bytes(content)


def roll_back(host: Host) -> None:
    ServingStore(host.data_dir / "serving.duckdb").rollback(1)


def forget_extracts(host: Host) -> None:
    (host.data_dir / "runs.sqlite").unlink()
    for ending in ("-wal", "-shm"):
        (host.data_dir / f"runs.sqlite{ending}").unlink(missing_ok=True)


def fail(host: Host) -> None:
    with Journal(host.settings.journal_path) as journal:
        run = journal.begin("transform")
        journal.finish(run.id, RunStatus.FAILED, error="no luck")


def a_folder(host: Host) -> Path:
    host.settings.supervisor_dir.mkdir(exist_ok=True)
    return host.settings.supervisor_dir


def stop_the_supervisor(host: Host) -> None:
    beat(a_folder(host), utc_now() - timedelta(hours=1), "waiting")


def fail_ticks(host: Host) -> None:
    for _ in range(FAILING_AFTER):
        record_tick_failure(a_folder(host), utc_now(), "OSError: no luck", 60)


def damage_a_kept_generation(host: Host) -> None:
    cut(ServingStore(host.data_dir / "serving.duckdb").path(1))


def leave_a_run_unrecorded(host: Host) -> None:
    attempts = Attempts("schedule:2026-11-21T02:00Z", 1, utc_now() - timedelta(hours=3), "it could not be started")
    write_memory(a_folder(host), Memory(attempts={"run-all": attempts}))


def fail_a_scrub(host: Host) -> None:
    write_record(host.settings, ScrubRecord(attempted_at=utc_now(), error="the bucket did not answer"))


def lose_rows(host: Host) -> None:
    cut(min(host.data_dir.glob("landing/raw/**/*.parquet")))


def lose_the_ducklakes_folder(host: Host) -> None:
    lake = host.data_dir.parent / "lake"
    lake.with_suffix(".sqlite").touch()
    catalog = {"DUCKLAKE_CATALOG": f"sqlite:{lake}.sqlite", "DUCKLAKE_DATA": str(lake)}
    host.environ.update({"MATERIA_GATEWAY": "ducklake", **catalog})


def a_provider(host: Host) -> FakeHetzner:
    hetzner = host.servers.enter_context(FakeHetzner())
    host.environ.update(HETZNER_TOKEN=TOKEN, HETZNER_API_URL=hetzner.url)
    return hetzner


def leave_a_worker(host: Host) -> None:
    hour, now = timedelta(hours=1), utc_now().replace(microsecond=0)
    a_provider(host).foreign("left", labels=Labels("me", None, now - 3 * hour, hour, "k").as_labels())
    ledger = Ledger(host.data_dir / LEDGER_NAME)
    entry = Entry("left", 0.01, now - 3 * hour, now - 2 * hour, provider="hetzner")
    ledger.begin(entry, Caps(2, 1, 1), 0, now - 3 * hour)


def fail_to_reap(host: Host) -> None:
    a_provider(host)
    failed = Reaping(utc_now(), utc_now() - timedelta(hours=1), "Hetzner did not answer")
    write_memory(a_folder(host), Memory(reaping=failed))


# How a next step that is no command is executed -----------------------------------------------------------------------


def run_the_supervisor(host: Host, next_step: str) -> None:
    """`systemctl restart` starts what the unit starts: the loop."""
    assert "systemctl restart materia-supervisor" in next_step
    command = [BIN / "materia", "supervisor", "run"]
    with subprocess.Popen(command, env={**os.environ, **host.settings_environ}, stderr=subprocess.DEVNULL) as loop:
        try:
            until(lambda: "supervisor-late" not in host.problems())
        finally:
            loop.terminate()


def wait_for_a_tick(host: Host, next_step: str) -> None:
    """The loop's next tick succeeds where the cause is gone."""
    assert "the next tick retries" in next_step
    command = [BIN / "materia", "supervisor", "run"]
    with subprocess.Popen(command, env={**os.environ, **host.settings_environ}, stderr=subprocess.DEVNULL) as loop:
        try:
            until(lambda: "supervisor-failing" not in host.problems())
        finally:
            loop.terminate()


def lower_the_limit(host: Host, next_step: str) -> None:
    assert "lower MATERIA_MIN_FREE_MB" in next_step
    host.environ["MATERIA_MIN_FREE_MB"] = "0"


def restore_the_folder(host: Host, next_step: str) -> None:
    assert next_step.startswith("mount or restore it")
    (host.data_dir.parent / "lake").mkdir()


def remove_the_line(host: Host, next_step: str) -> None:
    assert next_step == "repair or remove the line"
    ledger = host.data_dir / LEDGER_NAME
    ledger.write_text("".join(ledger.read_text().splitlines(keepends=True)[1:]))


def tick_later(host: Host, next_step: str) -> None:
    assert "a later tick retries" in next_step
    tick(host.settings, lambda: utc_now() + timedelta(hours=2), quick)


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@dataclass(frozen=True)
class Provoked:
    """How a problem comes about and, where its next step is no command, how that is executed."""

    provoke: Callable[[Host], object]
    solve: Callable[[Host, str], object] | None = None


PROVOKED: dict[str, Provoked] = {
    "serving-missing": Provoked(serve_nothing),
    "serving-broken": Provoked(lose_everything_computed),
    "serving-damaged": Provoked(lambda host: cut(served(host))),
    "generation-damaged": Provoked(damage_a_kept_generation),
    "lakehouse-damaged": Provoked(lambda host: cut(host.data_dir / "lakehouse-state.duckdb")),
    "landing-damaged": Provoked(lambda host: a_zip(host).unlink()),
    "rows-damaged": Provoked(lose_rows),
    "release-unknown": Provoked(serve_a_foreign_file),
    "release-stale": Provoked(roll_back),
    "extract-stale": Provoked(forget_extracts),
    "failed-": Provoked(fail),
    "journal-broken": Provoked(lambda host: (host.data_dir / "runs.sqlite").write_bytes(b"broken" * 1000)),
    "scrub-failed": Provoked(fail_a_scrub),
    "heartbeat-broken": Provoked(lambda host: heartbeat_path(a_folder(host)).write_text("{")),
    "supervisor-failing": Provoked(fail_ticks, wait_for_a_tick),
    "supervisor-late": Provoked(stop_the_supervisor, run_the_supervisor),
    "disk-full": Provoked(lambda host: host.environ.update(MATERIA_MIN_FREE_MB=str(10**9)), lower_the_limit),
    "workers-unknown": Provoked(
        lambda host: (host.data_dir / LEDGER_NAME).write_text("no line\n" + json.dumps({}) + "\n"), remove_the_line
    ),
    "ducklake-data": Provoked(lose_the_ducklakes_folder, restore_the_folder),
    "worker-left-": Provoked(leave_a_worker),
    "workers-not-reaped": Provoked(fail_to_reap),
    "unrecorded-": Provoked(leave_a_run_unrecorded, tick_later),
}

SHOWN_ELSEWHERE = {
    "bucket-damaged": "tests/r2/test_scrub.py::test_a_damaged_generation_in_the_bucket_is_uploaded_again",
    "iceberg-behind": "tests/iceberg/test_runs.py::test_a_run_that_finds_nothing_new_retries_a_failed_publish",
    "update-refused": "tests/ops/supervisor/test_supervisor_sh.py::"
    "test_a_broken_commit_is_refused_and_the_last_good_one_works_on",
    "fetch-stale": "tests/ops/supervisor/test_supervisor_sh.py::test_while_the_remote_is_down_the_host_works_on",
    "wasde-differs": "tests/ops/cli/test_wasde.py::test_a_corrected_report_solves_the_problem_of_a_differing_total",
}
"""Problems of what takes a bucket, a catalog or a git remote: where their next step is executed."""

NOT_EXECUTED = {"lakehouse-packages": "tests/ops/supervisor/test_ducklake.py"}
"""`uv sync --extra ducklake` would change the environment that the tests run in: where the problem is shown."""

FOUND_BY_DOCTOR = {"serving-damaged": "serving", "landing-damaged": "landing"}
"""Problems that the doctor finds, too, and the name of its finding."""

_COMMAND = re.compile(r"\b(?:materia|rm) [^;,`]+")


def reported_keys() -> Iterator[str]:
    """The keys of all problems that the code can report; one that ends in a name, without it."""
    for path in (PROJECT_DIR / "ops" / "health").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            given = [keyword.value for keyword in node.keywords if keyword.arg == "key"]
            if name in ("_problem_of", "problem_of", "_damage_problem"):
                given = [each for each in node.args[1:2] if not isinstance(each, ast.Name)]
            if name in ("Problem", "_problem_of", "problem_of", "_damage_problem"):
                yield from filter(None, map(literal, given))


def literal(node: ast.expr) -> str:
    """A text as it stands in the code, up to its first placeholder."""
    if isinstance(node, ast.JoinedStr):
        node = node.values[0]
    return str(node.value) if isinstance(node, ast.Constant) else ""


def test_every_problem_that_can_be_reported_has_a_tested_next_step() -> None:
    assert set(reported_keys()) == {*PROVOKED, *SHOWN_ELSEWHERE, *NOT_EXECUTED}
    for where in SHOWN_ELSEWHERE.values():
        path, _, name = where.partition("::")
        assert name and f"def {name}(" in (PROJECT_DIR / path).read_text()


@pytest.mark.parametrize("key", PROVOKED)
def test_the_next_step_solves_the_problem(key: str, host: Host) -> None:
    case = PROVOKED[key]
    case.provoke(host)
    problem = next(each for name, each in host.problems().items() if name.startswith(key))
    if case.solve is not None:
        case.solve(host, problem.next_step)
    else:
        found = _COMMAND.search(problem.next_step)
        assert found is not None, problem.next_step
        if key in FOUND_BY_DOCTOR:
            finding = examined(host, FOUND_BY_DOCTOR[key])
            assert finding.verdict is Verdict.WARNING
            assert _COMMAND.search(finding.next_step)[0] == found[0], "the doctor names the same command"
        program, *arguments = shlex.split(found[0])
        done = host.materia(*arguments) if program == "materia" else subprocess.run([program, *arguments])
        assert done.returncode == 0, (problem.next_step, done)
    assert host.problems() == {}
    assert key not in FOUND_BY_DOCTOR or examined(host, FOUND_BY_DOCTOR[key]).verdict is Verdict.OK
    assert not key.startswith(("serving", "lakehouse", "generation")) or whole(host)


def examined(host: Host, name: str) -> Finding:
    """What the doctor finds under a name."""
    return next(each for each in examine(host.settings_environ) if each.name == name)


def whole(host: Host) -> bool:
    """Whether every stored byte is as recorded, and a fresh process can read what is served."""
    store = ServingStore(host.data_dir / "serving.duckdb")
    store.verify(store.served_number() or 0)
    return not [each for each in scrub(host.settings, None, None, utc_now()) if each.damage]


def test_the_doctors_next_step_solves_what_it_found(host: Host) -> None:
    cut(host.data_dir / "lakehouse.duckdb")
    finding = examined(host, "lakehouse")
    assert finding.verdict is Verdict.WARNING
    found = _COMMAND.search(finding.next_step)
    assert found is not None and host.materia(*shlex.split(found[0])[1:]).returncode == 0
    assert examined(host, "lakehouse").verdict is Verdict.OK and host.problems() == {}


def test_a_marker_that_cannot_be_read_is_written_again_from_its_zip(host: Host) -> None:
    before = json.loads(a_zip(host).with_suffix(".json").read_text())
    spoil_marker(host)
    assert host.problems().keys() >= {"landing-damaged"}
    assert host.materia("landing", "repair").returncode == 0
    after = json.loads(a_zip(host).with_suffix(".json").read_text())
    own = {"etag", "last_modified", "landed_at", "published_at"}
    assert {k: v for k, v in after.items() if k not in own} == {k: v for k, v in before.items() if k not in own}
    done = host.materia("run-all")
    assert done.stdout.startswith("nothing new") and host.problems() == {}


def test_a_deleted_lakehouse_is_built_again_by_a_transform(host: Host) -> None:
    before = Workshop(host.data_dir, DATASET).tables()
    (host.data_dir / "lakehouse.duckdb").unlink()
    done = host.materia("pipeline", "run", "transform")
    assert done.returncode == 0 and "releases compared" in done.stdout
    assert Workshop(host.data_dir, DATASET).tables() == before and host.problems() == {}


def test_a_zip_of_which_no_copy_is_left_stays_a_problem_and_keeps_nothing_from_being_served(host: Host) -> None:
    path = a_zip(host)
    cut(path)
    host.archive.misbehave(BEFORE, Fault(status=404), times=None)
    try:
        done = host.materia("landing", "repair")
        assert done.returncode == 1 and "no intact copy of" in done.stderr and "from a backup" in done.stderr
        assert host.materia("run-all").returncode == 0
        assert host.problems().keys() == {"failed-repair", "landing-damaged"}
    finally:
        host.archive.behave()


def test_a_tick_by_hand_is_not_a_running_supervisor(host: Host) -> None:
    assert host.materia("supervisor", "tick").returncode == 0
    assert not heartbeat_path(host.settings.supervisor_dir).exists()
    later = take_status(host.settings, utc_now() + timedelta(hours=1))
    assert "supervisor-late" not in {each.key for each in later.problems}
