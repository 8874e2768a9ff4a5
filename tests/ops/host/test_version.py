import subprocess
from pathlib import Path

import pytest

from ops.host import version
from ops.host.version import code_version, distribution_version
from tests.support.needs import require_tool


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.com", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    require_tool("git")
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.setattr(version, "PROJECT_DIR", project)
    monkeypatch.setattr(version, "code_version", code_version.__wrapped__)
    return project


def test_the_code_version_names_the_commit_and_marks_changes(project: Path) -> None:
    _git(project, "init")
    (project / "file").write_text("one")
    _git(project, "add", "file")
    _git(project, "commit", "-m", "one")
    commit = _git(project, "rev-parse", "HEAD")
    assert version.code_version() == commit[:12]
    (project / "untracked").write_text("data")
    assert version.code_version() == commit[:12]
    (project / "file").write_text("two")
    assert version.code_version() == f"{commit[:12]}-dirty"
    _git(project, "checkout", "file")

    worktree = project.parent / "worktree"
    _git(project, "worktree", "add", str(worktree))
    version.PROJECT_DIR = worktree
    assert version.code_version() == commit[:12]


def test_without_git_the_distribution_is_named(project: Path) -> None:
    assert version.code_version() == distribution_version() == "0.2.0"
