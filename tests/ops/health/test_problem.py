"""Tests of the command that solves a problem, as the console offers it."""

import pytest

from ops.health.problem import Problem, Severity


@pytest.mark.parametrize(
    ("next_step", "command"),
    [
        ("materia run-all", ("run-all",)),
        ("materia run-all; if USDA has not posted it, wait", ("run-all",)),
        ("materia serving rollback 4, if it is good; a run ends it", ("serving", "rollback", "4")),
        ("materia run-all --force 'a; b, c'; `materia runs show 3` says why", ("run-all", "--force", "a; b, c")),
        ("free some space, or lower MATERIA_MIN_FREE_MB", ()),
        ("it isn't here; materia doctor", ()),
        ("see `materia serving list`", ()),
        ("", ()),
    ],
)
def test_the_command_is_what_the_next_step_begins_with(next_step: str, command: tuple[str, ...]) -> None:
    assert Problem(Severity.STALE, "it is old", None, next_step).command == command
