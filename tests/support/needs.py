"""Tests that need a system tool or a large package: `@pytest.mark.needs("tmux")`, `require_tool("sshd")` in a fixture.

Where the tool is missing they are skipped, and the run ends with a list of what was not tested and why. With `CI=true`
a skip makes the run fail; only `MATERIA_REAL_FILES=none` allows those of tests that read files of others.
"""

import os
import shutil
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.system_tools import TOOLS

_TOOLS = {tool.program: tool for tool in TOOLS}
_GROUPS = {"pyspark": "spark"}
"""Python packages that `uv sync` leaves out because of their size, and the dependency group that brings each."""


def require_tool(*names: str) -> None:
    """Skip the test that asks unless these are installed; a name that is not declared is an error."""
    for name in names:
        if group := _GROUPS.get(name):
            if find_spec(name) is None:
                pytest.skip(f"{name} is missing; install it with: uv sync --group {group}")
        elif not _TOOLS[name].is_installed:
            pytest.skip(_TOOLS[name].reason)


def is_ci() -> bool:
    """Whether a skipped test is a failure."""
    return os.environ.get("CI", "").lower() in ("1", "true")


def _is_allowed(reason: str) -> bool:
    """Whether a test may be skipped in CI: for a real file, where the settings say that there are none."""
    return os.environ.get("MATERIA_REAL_FILES") == "none" and reason.startswith("real file missing")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(name, …): system tools of tests/support/system_tools.py, pyspark")
    # `python3 -m uv run` works without uv on the PATH; tests that start uv need it there.
    if (uv := os.environ.get("UV")) and shutil.which("uv") is None:
        os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}{os.pathsep}{Path(uv).parent}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        require_tool(*mark.args)


def _skipped(config: pytest.Config) -> Counter[str]:
    """How many tests were skipped for each reason."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    reports = reporter.stats.get("skipped", []) if reporter else []
    return Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in reports)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    # The processes that xdist starts know their own tests only; the one that started them knows all.
    if not is_ci() or hasattr(session.config, "workerinput"):
        return
    if not all(map(_is_allowed, _skipped(session.config))):
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not (skipped := _skipped(config)):
        return
    terminalreporter.section("not tested here", red=is_ci(), yellow=not is_ci())
    for reason, number in skipped.most_common():
        why, _, step = reason.partition("; ")
        tests = "1 test" if number == 1 else f"{number} tests"
        terminalreporter.write_line(f"{tests}, because {why}{f'; {step}' if step else ''}")
    if is_ci() and not all(map(_is_allowed, skipped)):
        terminalreporter.write_line("CI=true: a skipped test is a failure", red=True)
