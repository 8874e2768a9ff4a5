"""The loop that keeps a host up to date, against a real git remote."""

import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from ops.host.lock import writer_lock
from tests.ops.supervisor.host import SCRIPT, Host, until

TOKEN = "glpat-Canary0123456789"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    created = Host(tmp_path / "host")
    yield created
    created.clear()


def test_shellcheck_finds_nothing() -> None:
    scripts = sorted(SCRIPT.parents[1].rglob("*.sh"))
    done = subprocess.run([Path(sys.executable).with_name("shellcheck"), *scripts], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "") and SCRIPT in scripts


def test_a_good_commit_is_used_and_a_newer_one_takes_its_place(host: Host) -> None:
    first = host.commit("one")
    host.start()
    host.reaches(first)
    second = host.commit("two")
    host.reaches(second)
    assert host.current == second and host.refused == ""
    assert (host.home / "previous").readlink().name == first
    versions = [tick.split()[1] for tick in host.ticks]
    assert versions == sorted(versions, key=["one", "two"].index)


@pytest.mark.parametrize(
    ("mark", "reason"),
    [
        ("doctor-fails", "materia doctor failed: versions: duckdb is broken"),
        ("install-fails", "ops/install.sh failed: no version of duckdb matches"),
        ("status-fails", "materia status failed: error: no such table"),
        ("dry-tick-fails", "materia supervisor tick --dry-run failed: error: TypeError"),
    ],
)
def test_a_broken_commit_is_refused_and_the_last_good_one_works_on(host: Host, mark: str, reason: str) -> None:
    good = host.commit("good")
    host.start()
    host.reaches(good)
    bad = host.commit("bad", mark)
    until(lambda: host.refused, "the commit is refused")
    host.ticks_on()
    assert host.current == good and host.ticks[-1] == f"{good} good"
    assert host.refused == f"{bad}: {reason}\n"
    assert host.output.count("refused") == 1
    fixed = host.commit("fixed")
    host.reaches(fixed)
    until(lambda: host.refused == "", "the refusal is forgotten")


def test_a_commit_whose_ticks_fail_is_left_for_the_one_before(host: Host) -> None:
    good = host.commit("good")
    host.start()
    host.reaches(good)
    bad = host.commit("bad", "tick-fails")
    until(lambda: host.refused, "the commit is refused")
    host.ticks_on()
    assert host.current == good
    assert host.refused == f"{bad}: materia supervisor tick failed three times: error: a column is missing\n"
    assert host.output.count("a column is missing") == 4, "three ticks and the refusal"
    fixed = host.commit("fixed")
    host.reaches(fixed)
    until(lambda: host.refused == "", "the refusal is forgotten")
    # What is refused is tried again later, and stays refused until a tick of it succeeds.
    again = host.commit("bad again", "tick-fails")
    until(lambda: host.refused.startswith(again), "the next one is refused")
    os.utime(host.data / "supervisor" / "refused", (0, 0))
    refusals = host.output.count(f"refused {again}")
    until(lambda: host.output.count(f"refused {again}") > refusals, "it is tried again")
    assert host.current == fixed and host.refused.startswith(again)


def test_a_commit_whose_ticks_hang_is_left_for_the_one_before(host: Host) -> None:
    good = host.commit("good")
    host.start(MATERIA_TICK_SILENT_S="1")
    host.reaches(good)
    bad = host.commit("bad", "tick-hangs")
    until(lambda: host.refused, "the commit is refused", timeout_s=60)
    host.ticks_on()
    assert host.current == good
    reason = "materia supervisor tick failed three times: killed after 2 s without progress"
    assert host.refused == f"{bad}: {reason}\n"


def test_a_tick_that_takes_long_and_shows_progress_is_not_ended(host: Host) -> None:
    commit = host.commit("one")
    (host.data / "seconds").write_text("1 " * 12)
    host.start(MATERIA_TICK_SILENT_S="1")
    until(lambda: host.ticks, "the long tick ends")
    assert host.ticks[0] == f"{commit} one" and "killed" not in host.output


def test_ticks_that_fail_for_a_while_without_a_commit_before_cost_nothing(host: Host) -> None:
    only = host.commit("only")
    host.start()
    host.reaches(only)
    (host.data / "ticks-fail").touch()
    until(lambda: "no previous commit is ready" in host.output, "three ticks failed")
    (host.data / "ticks-fail").unlink()
    host.ticks_on()
    assert host.current == only and host.refused == ""


def test_failed_ticks_count_across_a_restart(host: Host) -> None:
    """A watchdog that kills a tick that hangs restarts the whole; SIGTERM is no failure."""
    good = host.commit("good")
    host.start()
    host.reaches(good)
    host.stop()
    failing = host.data / "supervisor" / "failing"
    assert not failing.exists()
    bad = host.commit("bad", "tick-fails")
    host.start(MATERIA_TICK_S="600")
    until(lambda: host.current == bad and failing.exists(), "the bad commit ticks")
    until(lambda: "a column is missing" in host.output, "the first tick failed")
    for _ in range(2):
        host.stop(signal.SIGKILL)
        lines = len(failing.read_text().splitlines())
        host.start(MATERIA_TICK_S="600")
        until(lambda n=lines: host.current == good or len(failing.read_text().splitlines()) > n, "the next tick failed")
    until(lambda: host.current == good and host.refused.startswith(bad), "the commit before is back")


def _empty_refs(repo: Path) -> None:
    for path in (repo / "refs").rglob("*"):
        path.is_dir() or path.write_bytes(b"")


def _empty_head(repo: Path) -> None:
    (repo / "HEAD").write_bytes(b"")


def _cut_objects(repo: Path) -> None:
    for path in (repo / "objects").rglob("*"):
        if path.is_file():
            path.chmod(0o644)
            os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("damage", [_empty_refs, _empty_head, _cut_objects, shutil.rmtree])
def test_a_damaged_repository_is_fetched_again(host: Host, damage: Callable[[Path], None]) -> None:
    host.commit("one")
    host.start()
    host.reaches(host.commit("two"))
    host.stop()
    damage(host.home / "repo.git")
    third = host.commit("three")
    host.start()
    host.reaches(third)
    assert host.refused == "" and not (host.home / "repo.git.old").exists()
    described = subprocess.run(["git", "-C", host.home / "current", "describe", "--always"], capture_output=True)
    assert described.returncode == 0, "the tree in use still knows its commit"


def test_while_the_remote_is_away_a_damaged_repository_is_no_reason_to_stop(host: Host) -> None:
    first = host.commit("one")
    host.start()
    host.reaches(first)
    host.stop()
    _empty_head(host.home / "repo.git")
    host.remote.rename(host.root / "away")
    host.start()
    host.ticks_on()
    assert host.current == first


def test_a_tree_that_lost_its_venv_is_installed_again(host: Host) -> None:
    first = host.commit("one")
    host.start()
    host.reaches(first)
    shutil.rmtree(host.home / "trees" / first / ".venv")
    until((host.home / "trees" / first / ".venv/bin/materia").exists, "it is installed again")
    host.ticks_on()
    # Also when the branch's newest commit is another one, which is refused.
    host.commit("bad", "doctor-fails")
    until(lambda: host.refused, "the newest is refused")
    shutil.rmtree(host.home / "trees" / first / ".venv")
    until((host.home / "trees" / first / ".venv/bin/materia").exists, "it is installed again")
    host.ticks_on()
    assert host.current == first


def test_a_refusal_dated_in_the_future_is_ignored(host: Host) -> None:
    first = host.commit("one")
    host.start()
    host.reaches(first)
    host.stop()
    second = host.commit("two")
    refused = host.data / "supervisor" / "refused"
    refused.write_text(f"{second}: materia doctor failed: an old reason\n")
    os.utime(refused, (time.time() + 864_000,) * 2)
    host.start()
    host.reaches(second)
    until(lambda: host.refused == "", "the refusal is forgotten")


def test_the_repository_stays_bounded(host: Host) -> None:
    """After a forced push the objects that nothing needs any more are removed with the next commit."""
    host.commit("base")
    host.start()
    (host.remote / "large").write_bytes(os.urandom(3_000_000))
    host.reaches(host.commit("large"))
    (host.remote / "large").unlink()
    host.reaches(host.commit("small", amend=True))
    host.reaches(host.commit("smaller"))
    host.reaches(host.commit("smallest"))
    objects = host.home / "repo.git" / "objects"
    until(lambda: sum(path.stat().st_size for path in objects.rglob("*") if path.is_file()) < 1_000_000, "it is small")


def test_a_forced_push_is_followed(host: Host) -> None:
    host.commit("base")
    first = host.commit("one")
    host.start()
    host.reaches(first)
    rewritten = host.commit("one-again", amend=True)
    host.reaches(rewritten)
    assert host.current == rewritten != first


def test_while_the_remote_is_down_the_host_works_on(host: Host) -> None:
    first = host.commit("one")
    host.start()
    host.reaches(first)
    away = host.root / "away"
    host.remote.rename(away)
    until(lambda: "cannot fetch" in host.output, "the remote is missed")
    fetched = (host.data / "supervisor" / "fetched").stat().st_mtime_ns
    host.ticks_on()
    assert (host.data / "supervisor" / "fetched").stat().st_mtime_ns == fetched
    away.rename(host.remote)
    host.reaches(host.commit("two"))


def test_a_half_written_checkout_is_created_again(host: Host) -> None:
    first = host.commit("one")
    host.start()
    host.reaches(first)
    host.stop()
    second = host.commit("two")
    tree = host.home / "trees" / second
    tree.mkdir()
    (tree / "materia.sh").write_text("half")
    # As git leaves it when it is killed while it checks out: registered, locked, with lock files about.
    registered = host.home / "repo.git" / "worktrees" / second
    shutil.copytree(host.home / "repo.git" / "worktrees" / first, registered)
    (registered / "gitdir").write_text(f"{tree}/.git\n")
    (registered / "locked").write_text("initializing")
    (registered / "index.lock").touch()
    (host.home / "repo.git" / "refs" / "materia" / "newest.lock").touch()
    host.start()
    host.reaches(second)
    assert host.refused == ""


def test_a_removed_tree_is_created_again(host: Host) -> None:
    first = host.commit("one")
    host.start()
    host.reaches(first)
    shutil.rmtree(host.home / "trees" / first)
    until(lambda: (host.home / "current" / ".good").exists(), "the tree is back")
    host.ticks_on()


def test_nothing_is_switched_under_a_running_pipeline(host: Host) -> None:
    first = host.commit("one")
    host.start()
    host.reaches(first)
    with writer_lock(host.data / "writer.lock", "run-all"):
        second = host.commit("two")
        until(lambda: (host.home / "trees" / second / ".good").exists(), "the commit is ready")
        host.ticks_on()
        assert host.current == first and host.refused == ""
    host.reaches(second)


def test_a_pinned_commit_is_used_until_the_pin_is_gone(host: Host) -> None:
    first = host.commit("one")
    second = host.commit("two")
    host.start()
    host.reaches(second)
    (host.home / "pin").write_text(first[:12])
    host.reaches(first)
    host.commit("three")
    host.ticks_on()
    assert host.current == first
    (host.home / "pin").unlink()
    until(lambda: host.ticks[-1].endswith(" three"), "the branch is followed again")


def test_only_the_commit_in_use_and_the_one_before_are_kept(host: Host) -> None:
    commits = []
    host.commit("zero")
    host.start()
    for version in ("one", "two", "three"):
        commits.append(host.commit(version))
        host.reaches(commits[-1])
    assert {path.name for path in (host.home / "trees").iterdir()} == set(commits[-2:])


@pytest.mark.parametrize("moment", ["sleep", "install"])
def test_a_signal_lands_at_once(host: Host, moment: str) -> None:
    commit = host.commit("one", *(["install-hangs"] if moment == "install" else []))
    host.start(MATERIA_TICK_S="600")
    if moment == "install":
        until((host.home / "trees" / commit / "install-hangs").exists, "the installation runs")
        time.sleep(0.2)
    else:
        host.reaches(commit)
    # Both sleep for ten minutes: that it ends at all within `stop`'s minute is the proof.
    assert host.stop() == 143


def test_two_supervisors_do_not_work_at_once(host: Host) -> None:
    commit = host.commit("one")
    host.start()
    host.reaches(commit)
    first, host.process = host.process, None
    second = host.start()
    assert second.wait(30) == 4 and "another supervisor" in host.output
    host.process = first
    host.ticks_on()


def test_a_restart_waits_briefly_for_processes_of_the_previous_supervisor(host: Host) -> None:
    commit = host.commit("one")
    with (host.home / "supervisor.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        started = host.start()
        with pytest.raises(subprocess.TimeoutExpired):
            started.wait(1)
    host.reaches(commit)


def test_killed_anywhere_it_takes_up_where_it_was(host: Host) -> None:
    """At every moment the commit in use is one that passed its smoke test, and in the end the newest is."""
    rng = random.Random(6)
    commit = host.commit("v0")
    for number in range(12):
        if number % 2:
            commit = host.commit(f"v{number}")
        host.start()
        time.sleep(rng.uniform(0.0, 0.5))
        host.stop(signal.SIGKILL)
        if host.current:
            assert (host.home / "current" / ".good").exists()
    host.start()
    host.reaches(commit)
    assert host.refused == ""


class _Git(SimpleHTTPRequestHandler):
    """A git repository over HTTP for those who know the token; notes every command line that shows it."""

    seen: list[str]

    def do_GET(self) -> None:
        wanted = b64encode(f"oauth2:{TOKEN}".encode()).decode()
        self.seen.extend(
            path.parent.name for path in Path("/proc").glob("[0-9]*/cmdline") if TOKEN.encode() in _read(path)
        )
        if self.headers.get("Authorization") != f"Basic {wanted}":
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        super().do_GET()

    def log_message(self, *_: object) -> None:
        return


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_private_remote_is_read_and_the_token_is_written_nowhere(tmp_path: Path) -> None:
    handler = type("Handler", (_Git,), {"seen": []})
    host = Host(tmp_path / "host", extra={"GITLAB_READ_TOKEN": TOKEN})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(host.remote))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            commit = host.commit("one")
            host.remote_url = f"http://127.0.0.1:{server.server_address[1]}/.git"
            host.start()
            host.reaches(commit)
            host.ticks_on()
        finally:
            server.shutdown()
            thread.join()
    host.stop()
    written = [path for path in host.root.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert written == [] and handler.seen == []
    host.clear()


def test_a_wrong_token_is_no_reason_to_stop(host: Host) -> None:
    first = host.commit("one")
    host.start()
    host.reaches(first)
    host.stop()
    handler = type("Handler", (_Git,), {"seen": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(host.remote))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            host.remote_url = f"http://127.0.0.1:{server.server_address[1]}/.git"
            host.start(GITLAB_READ_TOKEN="wrong")
            host.ticks_on()
            until(lambda: "cannot fetch" in host.output, "the refusal is reported")
        finally:
            host.stop()
            server.shutdown()
            thread.join()
