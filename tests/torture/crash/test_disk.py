"""Disks that fill or turn read-only, at any step or from the start, and folders that may not be written to.

From a step on, the kernel refuses what a full disk, or one remounted read-only, refuses (tests/support/stage.py): no
privilege is needed, and no step is left out. A real full file system and real permissions are met as well.
"""

import os
import re
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from dataflows.serving import ServingReader
from tests.support.command_line import MATERIA
from tests.support.small_disk import small_disk
from tests.support.stage import Strike
from tests.support.torture import LONG, Figure, count
from tests.torture.crash.chance import places
from tests.torture.crash.conftest import States, World, copy
from tests.torture.crash.invariants import assert_sound, outcome_of, served_number
from tests.torture.crash.scenes import SCENES, Scene, begin

QUICK = {"extract", "publish", "rollback", "journal", "sync-lakehouse"}
assert QUICK.issubset(scene.name for scene in SCENES), "a scene has another name now, and would be left out"
STARVED = [scene for scene in SCENES if scene.name in QUICK or (LONG and not scene.by_chance)]
FAILURES = {"transform": 6, "first-transform": 4}
"""SQLMesh's seconds are not to be spent ten times over."""
_ABOVE_MODES = "-dac_override,-dac_read_search"
NOT_ABOVE_MODES = ["setpriv", f"--inh-caps={_ABOVE_MODES}", f"--bounding-set={_ABOVE_MODES}"]
"""Root without what makes it root: then a folder's mode counts for it too."""


@pytest.mark.parametrize("scene", STARVED, ids=lambda scene: scene.name)
def test_a_disk_error_at_any_step_is_reported_and_the_next_run_gives_the_same_result(
    scene: Scene, world: World, request: pytest.FixtureRequest, tmp_path: Path, figure: Figure
) -> None:
    right = begin(scene, world, request, tmp_path / "right")
    undisturbed = world.stage.play(right.act, right.data_dir)
    assert undisturbed.exit_code == 0, undisturbed.output
    expected = outcome_of(right.data_dir, right.bucket)
    wanted = count(2, FAILURES.get(scene.name, 10))
    troubles = []
    for number, place in enumerate(places(undisturbed.steps, wanted, seed=11)):
        setting = begin(scene, world, request, tmp_path / f"starved-{number}")
        strike = Strike(("full", "read-only")[number % 2], at=place)
        before = served_number(setting.data_dir)
        played = world.stage.play(setting.act, setting.data_dir, strike)
        where = f"{scene.name}, {strike}: {played.struck} after {played.last_steps}\n{played.output[-2500:]}"
        try:
            _assert_told(played.exit_code, played.output)
            assert_sound(setting.data_dir, setting.bucket)
            if scene.name != "rollback":
                assert served_number(setting.data_dir) >= before if before else True
            again = world.stage.play(setting.act, setting.data_dir)
            assert again.exit_code == 0, again.output
            assert_sound(setting.data_dir, setting.bucket)
            assert outcome_of(setting.data_dir, setting.bucket) == expected
            setting.clear()
        except Exception as error:
            troubles.append(f"{where}\n{error}")
    assert not troubles, "\n\n".join([f"{len(troubles)} of {number + 1} failures", *troubles[:5]])
    figure(f"{scene.name}, disk failures", number + 1)


def _assert_told(exit_code: int, output: str) -> None:
    """The error is one of ours; the run is done only if the failed step was no longer needed."""
    assert exit_code in (0, 1), output
    # What SQLMesh said stands in the run's log, whose lines begin with their time: that is no error of ours.
    printed = "\n".join(line for line in output.splitlines() if not re.match(r"\d{4}-\d\d-\d\dT\S+Z [A-Z]+ run=", line))
    assert "Traceback" not in printed
    assert "unexpected" not in printed
    assert printed.count("could not be recorded") <= 1
    if exit_code == 1:
        assert "error: " in printed
        assert any(step in printed for step in ("free some space", "see that", "check that")), "no next step"


def test_a_disk_that_is_too_small_is_reported_before_any_work(world: World, states: States, tmp_path: Path) -> None:
    """Where nothing may be mounted, the first step that needs room is refused instead."""
    with small_disk(tmp_path / "disk", 20 << 20) as mounted:
        data_dir = copy(states.served, tmp_path / "disk" / "data")
        before = outcome_of(data_dir)
        act = world.act(data_dir, "run-all", "--as-of", world.months[2])
        steps = None if mounted else Strike("full", at=1)
        played = world.stage.play(act, data_dir, steps)
        assert played.exit_code == 1
        assert "free some space and run again" in played.output
        assert_sound(data_dir)
        # A download that was begun stays, for the next run to go on from.
        after = outcome_of(data_dir)
        kept = frozenset(name for name in after.files if not name.startswith("landing/.partial/"))
        assert replace(after, files=kept) == before


@contextmanager
def unwritable(data_dir: Path) -> Iterator[list[str]]:
    """Nothing below it may be written; yields what a command must begin with for that to hold for it."""
    paths = [data_dir, *data_dir.rglob("*")]
    modes = {path: path.lstat().st_mode for path in paths if not path.is_symlink()}
    for path, mode in modes.items():
        path.chmod(stat.S_IMODE(mode) & ~0o222)
    try:
        yield NOT_ABOVE_MODES if os.geteuid() == 0 else []
    finally:
        for path, mode in modes.items():
            path.chmod(stat.S_IMODE(mode))


def test_without_permission_nothing_changes_and_reading_goes_on(world: World, states: States, tmp_path: Path) -> None:
    data_dir = copy(states.published, tmp_path / "data")
    before = outcome_of(data_dir)
    environ = {**os.environ, **world.act(data_dir).environ}

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([*prefix, MATERIA, *arguments], env=environ, capture_output=True, text=True, timeout=120)

    with unwritable(data_dir) as prefix:
        for command in ("pipeline run extract", "serving rollback", "pipeline run transform"):
            done = run(*command.split())
            assert done.returncode == 1
            _assert_told(done.returncode, done.stdout + done.stderr)
            assert str(data_dir) in done.stderr
        asked = run("query", "--json", "SELECT count(*) AS n FROM serving.fct_psd")
        assert asked.returncode == 0, asked.stderr
        status = run("status", "--json")
        assert status.returncode == 3, status.stderr
    assert outcome_of(data_dir) == before
    with ServingReader(data_dir / "serving.duckdb") as reader:
        assert reader.query("SELECT 1 AS one").table.num_rows == 1
