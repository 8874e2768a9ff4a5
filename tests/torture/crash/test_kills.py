"""The crash matrix: every durable step of every pipeline, a kill there, and the next run.

No step is listed anywhere: the first, undisturbed performance counts them, call by call (tests/support/stage.py).
"""

import signal
from pathlib import Path

import pytest

from ops.journal.journal import Journal
from ops.journal.run import RunStatus
from tests.support.stage import Played, Strike
from tests.support.torture import Figure
from tests.torture.crash.chance import places
from tests.torture.crash.conftest import World
from tests.torture.crash.invariants import Outcome, assert_sound, outcome_of
from tests.torture.crash.scenes import SCENES, Scene, Setting, begin


@pytest.mark.parametrize("scene", [scene for scene in SCENES if scene.kills], ids=lambda scene: scene.name)
def test_a_run_killed_at_any_step_damages_nothing_and_the_next_run_gives_the_same_result(
    scene: Scene, world: World, request: pytest.FixtureRequest, tmp_path: Path, figure: Figure
) -> None:
    right = begin(scene, world, request, tmp_path / "right")
    undisturbed = world.stage.play(right.act, right.data_dir)
    assert undisturbed.exit_code == 0, undisturbed.output
    expected = outcome_of(right.data_dir, right.bucket)
    struck, troubles = 0, []
    for number, strike in enumerate(_strikes(scene, undisturbed)):
        setting = begin(scene, world, request, tmp_path / f"struck-{number}")
        try:
            struck += _killed_and_taken_up(scene, world, setting, strike, expected)
            setting.clear()
        except AssertionError as trouble:  # the others are worth knowing as well
            troubles.append(str(trouble))
    assert not troubles, "\n\n".join([f"{len(troubles)} of {number + 1} kills", *troubles[:5]])
    assert struck >= scene.kills * 0.8, "too many strikes came after the end"
    figure(f"{scene.name}, steps", len(undisturbed.steps))
    figure(f"{scene.name}, kills", struck)


def _strikes(scene: Scene, undisturbed: Played) -> list[Strike]:
    if scene.by_chance:
        shares = [(number + 0.5) / scene.kills for number in range(scene.kills)]
        return [Strike("all", after_s=share * undisturbed.took_s) for share in shares]
    strikes = []
    for turn, how in enumerate(scene.hows):
        wanted = len(range(turn, scene.kills, len(scene.hows)))
        steps = [step if how != "child" or step.by_child else None for step in undisturbed.steps]
        strikes += [Strike(how, at=place) for place in places(steps, wanted, seed=turn)]
    return strikes


def _killed_and_taken_up(scene: Scene, world: World, setting: Setting, strike: Strike, expected: Outcome) -> bool:
    """Kill, look, run again, look; whether the kill came before the end."""
    data_dir, act, bucket = setting.data_dir, setting.act, setting.bucket
    world.watcher.watch(data_dir / "serving.duckdb")
    try:
        killed = world.stage.play(act, data_dir, strike)
        where = f"{scene.name}, {strike}: {killed.struck} after {killed.last_steps}\n{killed.output[-2000:]}"
        assert killed.exit_code in _exit_codes(scene, strike, killed), where
        try:
            assert_sound(data_dir, bucket)
            _assert_told_as_ended(data_dir, killed, strike)
            again = world.stage.play(act, data_dir)
            assert again.exit_code == 0, again.output
            assert_sound(data_dir, bucket)
            assert outcome_of(data_dir, bucket) == expected
        except Exception as error:
            raise AssertionError(f"{where}\n{error}") from error
    finally:
        seen = world.watcher.seen()
    assert seen.wrong == (), where
    # Two queries may have been on their way when the link moved, but no reader goes back unless a rollback does.
    ordered = sorted(seen.numbers, reverse=scene.name == "rollback")
    assert list(seen.numbers) == ordered, f"{where}\n{seen}"
    return killed.struck is not None


def _exit_codes(scene: Scene, strike: Strike, killed: Played) -> set[int]:
    if killed.struck is None:
        return {0}
    if strike.how == "child":
        return {1}
    # At a time that only chance chose, the run itself may be through.
    return {-signal.SIGKILL, 0} if scene.by_chance else {-signal.SIGKILL}


def _assert_told_as_ended(data_dir: Path, killed: Played, strike: Strike) -> None:
    """The newest run says how it ended: died, failed when its child was killed, done when it was through."""
    with Journal(data_dir / "runs.sqlite") as journal:
        statuses = {run.status for run in journal.runs(3)}
    if killed.struck is not None and strike.how == "child":
        assert statuses & {RunStatus.FAILED, RunStatus.DONE}
    assert RunStatus.RUNNING not in statuses
