"""The supervisor's machine: a stand-in for Hetzner, whose machines are real OpenSSH servers."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from dataflows.errors import SettingsError
from ops.health.heartbeat import record_tick_failure, record_tick_success
from ops.journal.journal import Journal
from ops.journal.run import utc_now
from ops.supervisor.up import NAME, Plan, client_key_of, host_key_of, plan_of, up
from ops.workers.errors import HostKeyError, WorkerError
from ops.workers.hiring import reap
from ops.workers.keys import new_key
from ops.workers.provider import Provider
from ops.workers.providers import hetzner
from ops.workers.settings import WorkerSettings
from tests.ops.supervisor.host import QUIET_GIT, SCRIPT
from tests.support.needs import require_tool
from tests.support.worker_world import WorkerWorld

READ_TOKEN = "glpat-Canary0123456789"
KEY = new_key()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[WorkerWorld]:
    require_tool("sshd", "git")
    with WorkerWorld(tmp_path / "world", storage={}) as created:
        yield created
        for machine in created.machines.values():
            machine.stop()
        assert created.hetzner.violations == []


@pytest.fixture
def plan(tmp_path: Path, world: WorkerWorld) -> Plan:
    """A plan whose host is laid out under a scratch root, from a repository that holds what is installed."""
    remote = tmp_path / "remote"
    shutil.copytree(SCRIPT.parent, remote / "ops" / "supervisor", ignore=shutil.ignore_patterns("__pycache__", "*.py"))
    for command in (["init", "--quiet", "--initial-branch=main"], ["add", "--all"], ["commit", "--quiet", "-m", "one"]):
        subprocess.run(["git", "-C", remote, *command], env=os.environ | QUIET_GIT, check=True)
    environ = {
        **world.environ,
        "MATERIA_REMOTE": str(remote),
        "MATERIA_SUPERVISOR_SSH_PRIVATE_KEY": KEY.private,
        "GITLAB_READ_TOKEN": READ_TOKEN,
    }
    found = plan_of(WorkerSettings.from_environ(environ), environ)
    return replace(found, prefix=str(tmp_path / "root"), pause_s=0.05, alive_within_s=30)


def lay(plan: Plan, commit: str, **state: str) -> None:
    """What supervisor.sh and a tick leave on the host: the commit in use, and files of the supervisor's directory."""
    home, data = Path(plan.prefix) / "opt/materia", Path(plan.prefix) / "data/materia/supervisor"
    (home / "current.new").symlink_to(f"trees/{commit}")
    (home / "current.new").replace(home / "current")
    data.mkdir(exist_ok=True)
    for name in ("refused", "pin"):
        ((home if name == "pin" else data) / name).unlink(missing_ok=True)
    for name, text in state.items():
        ((home if name == "pin" else data) / name).write_text(text)
    record_tick_success(data, utc_now() + timedelta(seconds=1), 60.0)


def newest(plan: Plan) -> str:
    """The commit at the head of the remote's branch."""
    command = ["git", "-C", plan.remote, "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def lives(plan: Plan) -> Iterator[threading.Event]:
    """What systemd does on a real host: once supervisor.sh is installed, the newest commit ticks; until set."""
    ended = threading.Event()

    def live() -> None:
        while not ended.wait(0.05):
            if (Path(plan.prefix) / "opt/materia/supervisor.sh").exists():
                lay(plan, newest(plan))
                return

    thread = threading.Thread(target=live)
    thread.start()
    yield ended
    ended.set()
    thread.join()


def provider(world: WorkerWorld) -> Provider:
    return hetzner.provider(world.hetzner.values(), pause_s=0.01)


def test_the_host_is_created_and_bootstrapped_once_and_then_only_checked(world, plan, lives) -> None:
    lines: list[str] = []
    assert up(provider(world), plan, lines.append) == newest(plan)
    assert any(line.startswith(f"created {NAME}") for line in lines) and any("ready" in line for line in lines)
    created = [each.id for each in provider(world).list_instances()]
    lines.clear()
    assert up(provider(world), plan, lines.append) == newest(plan)
    assert lines == [f"{NAME} is alive, at {newest(plan)}"]
    assert [each.id for each in provider(world).list_instances()] == created and len(created) == 1


def test_a_machine_without_bootstrap_is_adopted(world, plan, lives) -> None:
    up(provider(world), plan, lambda line: None)
    lives.set()
    shutil.rmtree(plan.prefix)
    lines: list[str] = []
    with pytest.raises(WorkerError, match="is silent, after 0 s"):
        up(provider(world), replace(plan, alive_within_s=0.1), lines.append)
    assert "bootstrapping" in lines[0] and len(provider(world).list_instances()) == 1


def test_the_token_is_on_the_host_in_the_one_file_and_nowhere_else(world, plan, lives) -> None:
    lines: list[str] = []
    up(provider(world), plan, lines.append)
    holders = [p for p in Path(plan.prefix).rglob("*") if p.is_file() and READ_TOKEN.encode() in p.read_bytes()]
    assert holders == [Path(plan.prefix) / "etc/materia/materia.env"]
    logs = [machine.log.read_text() for machine in world.machines.values()]
    assert not any(READ_TOKEN in text for text in (*logs, *world.user_data, *lines, repr(plan)))
    assert KEY.private.splitlines()[3] not in "".join(world.user_data)


def test_nothing_that_reaps_workers_takes_it(world, plan, lives, tmp_path) -> None:
    up(provider(world), plan, lambda line: None)
    machines = set(world.machines)
    assert reap(world.hire(), Journal(tmp_path / "runs.sqlite"), utc_now()) == ()
    assert set(world.machines) == machines != set()


def test_it_fails_while_the_commit_that_was_pushed_does_not_work_there(world, plan, lives) -> None:
    up(provider(world), plan, lambda line: None)
    impatient, good = replace(plan, alive_within_s=0.1), newest(plan)

    def failure(commit: str = "") -> str:
        with pytest.raises(WorkerError) as raised:
            up(provider(world), replace(impatient, commit=commit), lambda line: None)
        return str(raised.value)

    lay(plan, "0" * 40, refused=f"{good}: materia doctor failed: versions: duckdb is missing\n")
    assert f"refused {good[:12]}: materia doctor failed: versions: duckdb is missing" in failure()
    lay(plan, "0" * 40)
    assert f"not at {good}" in failure()
    lay(plan, "0" * 40, pin="0" * 12)
    assert "pinned to 000000000000" in failure(good)
    lay(plan, good)
    assert up(provider(world), replace(impatient, commit=good), lambda line: None) == good
    assert f"not at {'1' * 40}" in failure("1" * 40)
    state = Path(plan.prefix) / "data/materia/supervisor"
    for _ in range(2):
        record_tick_failure(state, utc_now(), "TypeError: an argument too many", 60.0)
    assert "failing: TypeError: an argument too many" in failure()
    # The commit in use contains the one that was pushed: a newer one overtook it.
    newer = ["git", "-C", plan.remote, "commit", "--quiet", "--allow-empty", "-m", "two"]
    subprocess.run(newer, env=os.environ | QUIET_GIT, check=True)
    repo = Path(plan.prefix) / "opt/materia/repo.git"
    subprocess.run(["git", f"--git-dir={repo}", "fetch", "-q", plan.remote, "main:refs/materia/newest"], check=True)
    lay(plan, newest(plan))
    assert up(provider(world), replace(impatient, commit=good), lambda line: None) == newest(plan)


def test_a_tick_of_the_commit_before_does_not_count_for_a_new_one(world, plan, lives) -> None:
    up(provider(world), plan, lambda line: None)
    state = Path(plan.prefix) / "data/materia/supervisor"
    record_tick_success(state, utc_now() - timedelta(hours=1), 60.0)
    with pytest.raises(WorkerError, match="no tick of which has succeeded"):
        up(provider(world), replace(plan, alive_within_s=0.1), lambda line: None)


def test_another_key_meets_a_refusal_and_no_connection(world, plan, lives) -> None:
    up(provider(world), plan, lambda line: None)
    with pytest.raises(HostKeyError, match="another MATERIA_SUPERVISOR_SSH_PRIVATE_KEY"):
        up(provider(world), replace(plan, client_key=new_key()), lambda line: None)


def test_a_machine_above_the_price_limit_is_not_created(world, plan) -> None:
    with pytest.raises(WorkerError, match="the caps allow"):
        up(provider(world), replace(plan, max_eur_per_hour=0.0001), lambda line: None)
    assert world.left() == []


def test_the_host_key_follows_from_ours_and_from_no_other() -> None:
    assert host_key_of(KEY).public == host_key_of(client_key_of(KEY.private)).public
    assert host_key_of(KEY).public not in (KEY.public, host_key_of(new_key()).public)


@pytest.mark.parametrize("key", ["", "no key at all"])
def test_a_missing_or_wrong_key_is_named_and_not_shown(key: str) -> None:
    environ = {"MATERIA_REMOTE": "/somewhere", "MATERIA_SUPERVISOR_SSH_PRIVATE_KEY": key}
    with pytest.raises(SettingsError, match="MATERIA_SUPERVISOR_SSH_PRIVATE_KEY"):
        plan_of(WorkerSettings.from_environ({}), environ)
