"""The fault tests exist in two lengths, and `just torture` chooses the long one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ops.config.settings import PROJECT_DIR
from tests.support.command_line import BIN
from tests.support.torture import VARIABLE

HOOKS = "from tests.support.torture import *  # the hooks among others"
CASES = """
import pytest
from tests.support.torture import count

@pytest.mark.parametrize("number", range(count(quick=2, long=5)))
def test_a_fault_repeats_the_given_number_of_times(number, figure):
    figure("reached", number)

@pytest.mark.long
def test_long_only():
    pass
"""


@pytest.mark.parametrize(("length", "passed"), [("", "2 passed, 1 deselected"), ("long", "6 passed")])
def test_counts_and_selection_follow_the_length(tmp_path: Path, length: str, passed: str) -> None:
    (tmp_path / "conftest.py").write_text(HOOKS)
    (tmp_path / "test_cases.py").write_text(CASES)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", os.devnull, f"--rootdir={tmp_path}", tmp_path],
        env={**os.environ, VARIABLE: length, "PYTHONPATH": str(PROJECT_DIR), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert passed in done.stdout
    assert (f"{tmp_path.name}: reached  4" in done.stdout) == (length == "long")


def test_an_area_that_is_none_is_refused() -> None:
    command = [BIN / "just", "torture", "crush"]
    done = subprocess.run(command, cwd=PROJECT_DIR, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "there is no area 'crush'; there are " in done.stderr
