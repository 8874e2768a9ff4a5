"""Tests that need a system tool say so, and a run without it says what was not tested."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.needs import require_tool
from tests.support.system_tools import TOOLS, SystemTool, missing_tools, root_prefix

PROJECT = Path(__file__).resolve().parents[1]
TEST = """
import pytest
from tests.support.needs import require_tool

@pytest.fixture
def terminal():
    require_tool("tmux")

@pytest.mark.needs("tmux")
def test_marked(): pass

def test_by_fixture(terminal): pass

def test_without(): pass
"""


def program(folder: Path, name: str, text: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def run(tmp_path: Path, *options: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run the three tests with nothing on the PATH but the folder `bin`."""
    (tmp_path / "bin").mkdir(exist_ok=True)
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["tests.support.needs"]\n')
    (tmp_path / "test_it.py").write_text(TEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    inherited = {name: value for name, value in os.environ.items() if name not in ("CI", "UV")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options],
        cwd=tmp_path,
        env={**inherited, "PATH": str(tmp_path / "bin"), "PYTHONPATH": str(PROJECT), **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("options", [(), ("-n", "2")])
def test_without_the_tool_its_tests_are_skipped_and_listed(tmp_path: Path, options: tuple[str, ...]) -> None:
    done = run(tmp_path, *options)
    assert done.returncode == 0, done.stdout
    assert "1 passed, 2 skipped" in done.stdout
    assert "2 tests, because tmux is missing; install it with: apt-get install tmux" in done.stdout


@pytest.mark.parametrize("options", [(), ("-n", "2")])
def test_in_ci_a_skip_fails_the_run(tmp_path: Path, options: tuple[str, ...]) -> None:
    done = run(tmp_path, *options, CI="true")
    assert done.returncode == 1 and "a skipped test is a failure" in done.stdout
    program(tmp_path / "bin", "tmux")
    done = run(tmp_path, *options, CI="true")
    assert done.returncode == 0 and "3 passed" in done.stdout and "not tested here" not in done.stdout


def test_a_missing_package_is_named_with_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what only its tests use is not installed: Java takes 200 MB."""
    monkeypatch.setitem(sys.modules, "pyspark", None)
    with pytest.raises(pytest.skip.Exception, match="pyspark is missing; install it with: uv sync --group spark"):
        require_tool("pyspark", "java")
    assert not {"java", "postgresql.jar"} & {tool.program for tool in missing_tools()}
    monkeypatch.setattr(SystemTool, "is_needed", True)
    monkeypatch.setattr(SystemTool, "is_installed", False)
    assert {"java", "postgresql.jar"} <= {tool.program for tool in missing_tools()}


def test_a_tool_that_is_not_declared_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text("import pytest\n@pytest.mark.needs('tmuks')\ndef test(): pass\n")
    assert run(tmp_path, "test_other.py").returncode == 1


def test_sudo_is_used_only_where_it_asks_for_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert root_prefix(is_root=False) is None
    program(tmp_path / "bin", "sudo", '[ "$1" = -n ] || exit 0; echo "a password is required" >&2; exit 1')
    assert root_prefix(is_root=False) is None
    program(tmp_path / "bin", "sudo", '[ "$1" = -n ]')
    assert root_prefix(is_root=False) == ["sudo", "-n"]
    assert root_prefix(is_root=True) == []


def test_a_failed_installation_prints_its_reason_and_the_tests_continue(tmp_path: Path) -> None:
    """Only apt-get is missing here, so nothing on this machine changes."""
    done = subprocess.run(
        [sys.executable, PROJECT / "tests" / "support" / "system_tools.py", "install"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert "not installed, because this machine has no apt-get; the tests that need them are skipped" in done.stderr


def test_the_list_is_used_by_just_and_by_ci() -> None:
    for name in ("justfile", ".ci/run", ".gitlab-ci.yml"):
        text = (PROJECT / name).read_text()
        assert "tests/support/system_tools.py install" in text, name
        named = [tool.package for tool in TOOLS if re.search(rf"apt-get install -.*\b{tool.package}\b", text)]
        assert named in ([], ["git"]), name
