import json
import os
import subprocess
from pathlib import Path

import pytest

from ops.config.settings import PROJECT_DIR
from tests.support.command_line import BIN

JUST = BIN / "just"
VENV = str(BIN.parent)


def just(*arguments: str, cwd: Path = PROJECT_DIR, **environ: str) -> str:
    """What `just` prints, recipes and output alike."""
    inherited = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    done = subprocess.run(
        [JUST, *arguments],
        cwd=cwd,
        env={**inherited, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def test_every_recipe_has_a_description() -> None:
    recipes = json.loads(just("--dump", "--dump-format", "json"))["recipes"]
    public = {name: recipe["doc"] for name, recipe in recipes.items() if not recipe["private"]}
    assert {
        "demo",
        "run-all",
        "extract",
        "status",
        "test",
        "lint",
        "format",
        "dag",
        "bench",
        "sqlmesh",
        "torture",
        "mutants",
    } <= public.keys()
    assert all(public.values())
    assert all(name in just() for name in public)


@pytest.mark.parametrize("recipe", ["demo", "run-all", "status", "sqlmesh"])
def test_recipes_work_inside_and_outside_uv_run(recipe: str) -> None:
    inside, outside = just("-n", recipe, VIRTUAL_ENV=VENV), just("-n", recipe)
    assert outside.startswith("uv run ") and inside == outside.removeprefix("uv run ")


def test_arguments_go_through_as_they_are(tmp_path: Path) -> None:
    environ = {"VIRTUAL_ENV": VENV, "PATH": f"{BIN}:{os.environ['PATH']}", "MATERIA_DATA_DIR": str(tmp_path)}
    assert just("run-all", "--help", cwd=PROJECT_DIR / "docs", **environ).startswith("Usage: materia run-all")
    with pytest.raises(subprocess.CalledProcessError) as refused:
        just("run-all", "--as-of", "two words; false", **environ)
    assert "'two words; false' is not a month" in refused.value.output
