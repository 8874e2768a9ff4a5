"""A worker's whole life, from one call to nothing left: a fake provider, real OpenSSH servers."""

import re
import signal
import threading
import time
from pathlib import Path

import pytest

from dataflows.errors import SettingsError
from ops.config.settings import Settings
from ops.health.status import Problem, take_status
from ops.journal.journal import Journal
from ops.journal.run import RunStatus, utc_now
from ops.pipelines.job import Request
from ops.workers.connection import WorkerTimeouts
from ops.workers.errors import HostKeyError, RemoteFailedError, UnreachableError
from ops.workers.hiring import reap
from ops.workers.keys import new_key
from ops.workers.lifecycle import run_on
from tests.support.fake_cloud import Fault
from tests.support.object_server import CANARY
from tests.support.seen_secrets import secrets_in_processes
from tests.support.worker_world import WorkerWorld

STEPS = ["has_work", "worker_created", "worker_reached", "code_sent", "generations_synced"]
PATIENCE = WorkerTimeouts(boot_s=5, code_s=60, reconnect_s=5, pause_s=0.05, quiet_s=10, stop_s=3, losses=3)


def run(world: WorkerWorld, patience: WorkerTimeouts = PATIENCE, pipeline: str = "run-all", **environ: str) -> str:
    return run_on(world.hire(**environ), pipeline, world.settings, Request(), world.environ, patience)


def found_in_files(root: Path, text: str) -> list[str]:
    return [str(path) for path in root.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def test_a_run_on_a_worker_shows_like_a_local_one_and_leaves_nothing(world: WorkerWorld):
    assert run(world) == "landed 2021-08"
    assert world.left() == []
    journal = Journal(world.settings.journal_path)
    inner, outer = journal.runs()
    assert (outer.pipeline, outer.status, outer.snapshots) == ("run-all", RunStatus.DONE, ("e1",))
    assert (inner.pipeline, inner.status, inner.result, inner.parent_id) == (
        "extract",
        RunStatus.DONE,
        "landed",
        outer.id,
    )
    assert outer.worker == inner.worker is not None
    assert [step.name for step in journal.steps(outer.id)] == STEPS
    assert [(step.name, step.detail) for step in journal.steps(inner.id)] == [("candidates", "tuple of 4")]
    for log_path in (outer.log_path, inner.log_path):
        assert f"run={inner.id} step=candidates probed order_bytes=" in Path(log_path).read_text()


def test_without_work_no_machine_is_created(world: WorkerWorld):
    """Extract lands here what the archive has; then nothing is left to extract, and everything to publish."""
    from ops.pipelines.run import run as run_here

    run_here("extract", world.settings, Request())
    assert run(world, pipeline="extract").startswith("nothing new: ")
    assert (world.hetzner.creations, world.left()) == (0, [])
    last = Journal(world.settings.journal_path).runs(1)[0]
    assert (last.status, last.worker, last.arguments) == (RunStatus.DONE, None, ("--on", "hetzner"))
    assert run(world) == "landed 2021-08"
    assert world.hetzner.creations == 1


def test_only_declared_names_reach_the_worker_and_no_secret_is_written_anywhere(world: WorkerWorld):
    copied = world.root / "order"
    script = (world.tools / "pipeline").read_text()
    # Outside the searched folders: what the worker's process itself was given.
    world.pipeline(script=script.replace("read -r order", f'read -r order; printf %s "$order" >{copied}'))
    seen = _secrets_in_processes_during(world)
    import json

    given = json.loads(copied.read_text())["environ"]
    copied.unlink()
    assert given == world.storage
    assert seen == set()
    assert found_in_files(world.root, CANARY) == []
    assert not any(CANARY in each for each in world.user_data)


def _secrets_in_processes_during(world: WorkerWorld) -> set[str]:
    """Runs, and looks at every process but this one all the while."""
    seen: set[str] = set()
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.02):
            seen.update(secrets_in_processes((CANARY,)))

    looking = threading.Thread(target=look)
    looking.start()
    run(world)
    done.set()
    looking.join()
    return seen


def test_without_object_storage_nothing_is_created(world: WorkerWorld):
    settings = Settings.from_environ({"MATERIA_DATA_DIR": str(world.data_dir)})
    with pytest.raises(SettingsError, match="R2_ENDPOINT"):
        run_on(world.hire(), "extract", settings, Request(), {}, PATIENCE)
    assert world.hetzner.creations == 0


def test_a_failure_there_is_a_failure_here_with_its_exit_code(world: WorkerWorld):
    event = '{"event": "run_ended", "run": 1, "status": "failed", "result": null, "error": "no room", "snapshots": []}'
    world.pipeline(f"say '{event}'; exit 4")
    with pytest.raises(RemoteFailedError, match="exit code 4: no room") as failed:
        run(world)
    assert failed.value.exit_code == 4
    assert world.left() == []
    assert [each.status for each in Journal(world.settings.journal_path).runs()] == [RunStatus.FAILED] * 2


def test_a_pipeline_killed_on_the_worker_is_reported_as_killed(world: WorkerWorld):
    world.pipeline("kill -KILL $$")
    with pytest.raises(RemoteFailedError, match="137: it was killed"):
        run(world)
    assert world.left() == []


def test_a_worker_with_a_wrong_host_key_receives_nothing(world: WorkerWorld):
    world.wrong_host_key = new_key().private
    with pytest.raises(HostKeyError):
        run(world, WorkerTimeouts(boot_s=1, pause_s=0.05))
    assert world.left() == []
    assert not any((machine.home / "materia").exists() for machine in world.machines.values())


def test_a_worker_that_never_answers_is_given_up_and_destroyed(world: WorkerWorld):
    boot = world.hetzner._boots
    world.hetzner._boots = lambda number, body, keys: "127.0.1.1" if boot(number, body, keys) else ""
    with pytest.raises(UnreachableError):
        run(world, WorkerTimeouts(boot_s=0.5, pause_s=0.05))
    assert world.left() == []


@pytest.mark.parametrize("cuts", [2])
def test_a_run_survives_a_lost_connection_and_records_no_event_twice(world: WorkerWorld, cuts: int):
    lines = "\n".join(
        f'say \'{{"event": "step_began", "step": {n}, "run": 2, "name": "part{n}", "detail": ""}}\'; sleep 0.6'
        for n in range(2, 2 + cuts)
    )
    world.pipeline(lines)
    seen: list[str] = []
    import threading

    done = threading.Event()

    def cut() -> None:
        journal = Journal(world.settings.journal_path)
        while not done.wait(0.05):
            runs = journal.runs(1)
            if runs and runs[0].pipeline == "extract":
                new = [step.name for step in journal.steps(runs[0].id) if step.name.startswith("part")]
                if len(new) > len(seen):
                    seen.append(new[-1])
                    for machine in list(world.machines.values()):
                        machine.cut()

    cutting = threading.Thread(target=cut)
    cutting.start()
    try:
        assert run(world) == "landed 2021-08"
    finally:
        done.set()
        cutting.join()
    assert len(seen) == cuts
    journal = Journal(world.settings.journal_path)
    names = [step.name for step in journal.steps(journal.runs(1)[0].id)]
    assert names == ["candidates", *(f"part{n}" for n in range(2, 2 + cuts))]
    assert world.left() == []


def cut_once(world: WorkerWorld, mark: Path) -> threading.Thread:
    """Cuts every connection as soon as a file is there."""

    def cut() -> None:
        for _ in range(1200):
            if mark.exists():
                break
            time.sleep(0.05)
        for machine in list(world.machines.values()):
            machine.cut()

    thread = threading.Thread(target=cut)
    thread.start()
    return thread


def test_a_retry_after_a_cut_ends_what_the_first_session_left_running(world: WorkerWorld):
    uv, installs, overlap = world.tools / "uv", world.root / "installs", world.root / "overlap"
    # The first install never ends, and writes into the very folder that the retry has to replace.
    endless = 'while :; do mkdir -p "$HOME/materia/code/.venv/$RANDOM/$RANDOM"; done'
    preamble = f"""#!/bin/bash
if [ ! -e {installs} ]; then echo $$ >{installs}; {endless}; fi
# The command line of a process that has ended, and nobody has waited for, is empty.
if grep -q . "/proc/$(cat {installs})/cmdline" 2>/dev/null; then touch {overlap}; fi
"""
    uv.write_text(preamble + uv.read_text())
    cutting = cut_once(world, installs)
    assert run(world) == "landed 2021-08"
    cutting.join()
    assert installs.exists() and not overlap.exists()
    assert world.left() == []


def test_a_retry_after_a_cut_does_not_start_the_pipeline_twice(world: WorkerWorld):
    started = world.root / "started"
    script = (world.tools / "pipeline").read_text()
    world.pipeline(script=script.replace("read -r order", f"read -r order; echo $$ >>{started}; sleep 1.5"))
    cutting = cut_once(world, started)
    assert run(world) == "landed 2021-08"
    cutting.join()
    assert len(started.read_text().split()) == 1
    assert world.left() == []


def test_a_machine_that_is_gone_for_good_is_given_up(world: WorkerWorld):
    world.pipeline("sleep 0.2; (sleep 0.1; kill -KILL $(cat $HOME/../sshd.pid)) & sleep 30")
    import threading

    def vanish() -> None:
        journal = Journal(world.settings.journal_path)
        for _ in range(400):
            if len(journal.runs(2)) == 2:
                break
            time.sleep(0.05)
        for machine in list(world.machines.values()):
            machine.refuse()

    vanishing = threading.Thread(target=vanish)
    vanishing.start()
    with pytest.raises(UnreachableError):
        run(world, WorkerTimeouts(boot_s=5, reconnect_s=0.5, pause_s=0.05, stop_s=1, losses=2))
    vanishing.join()
    assert world.left() == []
    assert {each.status for each in Journal(world.settings.journal_path).runs()} == {RunStatus.FAILED}


def test_when_its_time_is_up_the_remote_tree_is_ended(world: WorkerWorld):
    import ops.workers.lifecycle as lifecycle

    world.pipeline("sleep 100 & sleep 101")
    reserve, lifecycle._RESERVE_S = lifecycle._RESERVE_S, 5 * 60 - 3.0
    try:
        with pytest.raises(RemoteFailedError, match="timeout"):
            run(world, MATERIA_WORKER_TTL_MINUTES="5")
    finally:
        lifecycle._RESERVE_S = reserve
    assert world.left() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_supervisor_ends_the_remote_run_and_destroys_its_worker(world: WorkerWorld, number: int):
    asked = world.root / "asked"
    world.pipeline(f"trap 'touch {asked}; sleep 1; touch {asked}.ended; exit 130' TERM; sleep 60 & wait")
    process = world.spawn("pipeline", "run", "run-all", "--on", "hetzner")
    _until_running(world)
    process.send_signal(number)
    while not asked.exists() and process.poll() is None:
        time.sleep(0.02)
    # A second one, while the remote run is given time to end.
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert asked.with_name("asked.ended").exists()
    assert world.left() == []
    assert {each.status for each in Journal(world.settings.journal_path).runs()} <= {
        RunStatus.INTERRUPTED,
        RunStatus.FAILED,
    }
    assert CANARY not in errors


def test_leftovers_of_a_killed_supervisor_are_deleted_at_the_next_start(world: WorkerWorld):
    world.pipeline("sleep 60")
    process = world.spawn("pipeline", "run", "run-all", "--on", "hetzner")
    _until_running(world)
    process.kill()
    process.communicate(timeout=30)
    assert world.left() != []
    world.pipeline()
    assert run(world) == "landed 2021-08"
    assert world.left() == []
    entries = world.hire().ledger.entries()
    assert len(entries) == 2
    assert all(entry.ended_at for entry in entries)


def left_problems(world: WorkerWorld) -> list[Problem]:
    return [each for each in take_status(world.settings, utc_now()).problems if each.key.startswith("worker-")]


def test_a_worker_that_cannot_be_destroyed_is_named_with_its_price_and_does_not_change_the_run(
    world: WorkerWorld, caplog: pytest.LogCaptureFixture
):
    world.hetzner.misbehave(Fault("DELETE", r"/servers/\d+", code="unauthorized"))
    assert run(world) == "landed 2021-08"
    (outer,) = [each for each in Journal(world.settings.journal_path).runs() if each.parent_id is None]
    assert (outer.status, outer.error) == (RunStatus.DONE, None)
    (problem,) = left_problems(world)
    name = outer.worker
    assert re.search(rf"^Hetzner did not delete the server {name}: .*check HETZNER_TOKEN; ", problem.what)
    assert f"worker {name} may still exist and costs 0.0270 EUR/h (0.65 EUR/day)" in problem.what
    assert problem.next_step == f"materia worker destroy {name}"
    assert problem.what in caplog.text
    # The next step ends it.
    process = world.spawn("worker", "destroy", str(name))
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert (left_problems(world), world.left()) == ([], [])


def test_a_worker_that_was_removed_elsewhere_is_no_problem_after_the_next_reaping(world: WorkerWorld):
    world.hetzner.misbehave(Fault("DELETE", r"/servers/\d+", code="unauthorized"))
    run(world)
    assert len(left_problems(world)) == 1
    for machine in world.machines.values():
        machine.stop()
    for kind in ("servers", "ssh_keys", "firewalls"):
        getattr(world.hetzner.state, kind).clear()
    reap(world.hire(), Journal(world.settings.journal_path), utc_now())
    assert left_problems(world) == []


def test_a_run_that_failed_keeps_its_own_error_when_its_worker_is_left_as_well(world: WorkerWorld):
    world.hetzner.misbehave(Fault("DELETE", r"/servers/\d+", code="unauthorized"))
    world.pipeline("exit 4")
    with pytest.raises(RemoteFailedError, match="exit code 4") as failed:
        run(world)
    assert failed.value.exit_code == 4
    assert any("may still exist and costs" in note for note in failed.value.__notes__)
    assert len(left_problems(world)) == 1


def _until_running(world: WorkerWorld) -> None:
    journal = Journal(world.settings.journal_path)
    for _ in range(600):
        runs = journal.runs(1)
        if runs and runs[0].pipeline == "extract" and journal.steps(runs[0].id):
            return
        time.sleep(0.05)
    raise AssertionError("the pipeline did not begin")
