"""The linter of the SQLMesh project notices a column that does not exist, also after runs that do not check columns."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dataflows.lakehouse.transform import PROJECT_DIR


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with a misspelled column."""
    project = tmp_path_factory.mktemp("edited") / PROJECT_DIR.name
    shutil.copytree(PROJECT_DIR, project, ignore=shutil.ignore_patterns(".cache", "logs", "tests"))
    model = project / "models" / "serving" / "agg_release_summary.sql"
    model.write_text(model.read_text().replace("release.released_on::DATE", "release.released_at::DATE", 1))
    return project


def lint(project: Path, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [Path(sys.executable).with_name("sqlmesh"), "-p", project, "lint"],
        env={**os.environ, "MATERIA_DATA_DIR": str(project.parent / "data"), "PYTHONPATH": str(PROJECT_DIR.parents[1])}
        | environ,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_column_that_does_not_exist_is_found(edited: Path) -> None:
    assert lint(edited).returncode == 0, "a transform leaves columns to the engine, and fills the cache"
    checked = lint(edited, SQLMESH_CHECK_COLUMNS="1")
    assert checked.returncode == 1 and "released_at" in checked.stdout + checked.stderr
