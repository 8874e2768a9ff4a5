import json
import os
import time
from pathlib import Path

import pytest

from dataflows.errors import DiskError, DiskSpaceError, LockHeldError
from ops.host.lock import lock_holder, writer_lock
from tests.ops.conftest import Spawn

HOLD = """
import sys
from pathlib import Path
from ops.host.lock import writer_lock
with writer_lock(Path(sys.argv[1]), "extract") as lock:
    lock.name_run(12)
    print("held", flush=True)
    sys.stdin.readline()
"""

HAND_ON_AND_DIE = """
import os, signal, subprocess, sys
from pathlib import Path
from ops.host.lock import writer_lock
with writer_lock(Path(sys.argv[1]), "export_serving") as lock:
    child = subprocess.Popen(["sleep", "600"], pass_fds=[lock.fileno()], stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
    print(child.pid, flush=True)
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_lock_of_another_process_is_refused_by_name_and_free_when_it_ends(tmp_path: Path, spawn: Spawn) -> None:
    path = tmp_path / "data" / "writer.lock"
    holder = spawn(HOLD, path)
    assert holder.stdout and holder.stdout.readline() == "held\n"
    with pytest.raises(LockHeldError) as refused, writer_lock(path, "transform"):
        pass
    message = str(refused.value)
    assert refused.value.exit_code == 4
    assert f"run 12 (extract), pid {holder.pid}, holds it since 20" in message
    assert "`materia runs show 12`" in message and str(path.parent) in message

    holder.communicate("done\n", timeout=30)
    with writer_lock(path, "transform"):
        pass


def test_a_killed_holder_leaves_the_lock_free(tmp_path: Path, spawn: Spawn) -> None:
    path = tmp_path / "writer.lock"
    holder = spawn(HOLD, path)
    assert holder.stdout and holder.stdout.readline() == "held\n"
    holder.kill()
    holder.wait(timeout=30)
    with writer_lock(path, "transform"):
        pass


@pytest.mark.parametrize("end", ["killed", "ended"])
def test_a_child_that_was_given_the_lock_keeps_it_after_its_parent(tmp_path: Path, spawn: Spawn, end: str) -> None:
    path = tmp_path / "writer.lock"
    parent = spawn(HAND_ON_AND_DIE, path, end)
    assert parent.stdout
    child = int(parent.stdout.readline())
    try:
        parent.wait(timeout=30)
        with pytest.raises(LockHeldError, match="export_serving"), writer_lock(path, "transform"):
            pass
    finally:
        os.kill(child, 9)
    for _ in range(1000):
        try:
            with writer_lock(path, "transform"):
                return
        except LockHeldError:
            time.sleep(0.01)
    raise AssertionError("the lock outlived the child")


def test_a_child_that_was_not_given_the_lock_does_not_keep_it(tmp_path: Path, spawn: Spawn) -> None:
    path = tmp_path / "writer.lock"
    with writer_lock(path, "extract"):
        child = spawn("print('up', flush=True); input()", close_fds=False)
        assert child.stdout and child.stdout.readline() == "up\n"
    with writer_lock(path, "transform"):
        assert child.poll() is None


def test_within_a_process_the_lock_is_taken_once_and_passed_on(tmp_path: Path) -> None:
    path = tmp_path / "writer.lock"
    with (
        writer_lock(path, "run-all"),
        pytest.raises(LockHeldError, match=r"run-all, pid .* `materia runs`"),
        writer_lock(path, "extract"),
    ):
        pass


def test_an_unreadable_holder_is_still_a_held_lock(tmp_path: Path) -> None:
    path = tmp_path / "writer.lock"
    with writer_lock(path, "extract"):
        path.write_text("")
        with pytest.raises(LockHeldError, match="another process holds it"), writer_lock(path, "transform"):
            pass


def test_the_lock_names_its_file_and_makes_every_folder_above_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "data" / "writer.lock"
    with writer_lock(path, "extract") as lock:
        assert lock.path == path
        assert path.stat().st_mode & 0o777 == 0o644 & ~_umask()


def test_a_shorter_record_leaves_nothing_of_a_longer_one(tmp_path: Path) -> None:
    path = tmp_path / "writer.lock"
    path.write_text("x" * 3000)
    with writer_lock(path, "extract") as lock:
        lock.name_run(7)
        assert json.loads(path.read_text())["run_id"] == 7


def test_a_disk_that_refuses_the_lock_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(DiskSpaceError), writer_lock(Path("/dev/full"), "extract"):
        pass
    with pytest.raises(DiskError), writer_lock(Path("/sys/writer.lock"), "extract"):
        pass


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_an_exception_frees_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "writer.lock"
    with pytest.raises(KeyError), writer_lock(path, "extract"):
        raise KeyError
    with writer_lock(path, "extract"):
        pass


def test_the_holder_is_read_without_taking_the_lock(tmp_path: Path, spawn: Spawn) -> None:
    path = tmp_path / "writer.lock"
    assert lock_holder(path) is None
    holder = spawn(HOLD, path)
    assert holder.stdout and holder.stdout.readline() == "held\n"
    found = lock_holder(path)
    assert found and (found.holder, found.run_id, found.pid) == ("extract", 12, holder.pid)
    assert found.since.tzinfo is not None
    holder.communicate("\n")
    assert path.exists() and lock_holder(path) is None, "the record stays, the lock does not"
