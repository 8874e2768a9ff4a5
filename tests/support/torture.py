"""Fault tests in two lengths: quick in `just test`, long in `just torture`. Counts are chosen with `count`."""

import os
from collections.abc import Callable
from typing import TypeVar

import pytest

VARIABLE = "MATERIA_TORTURE"
LONG = os.environ.get(VARIABLE) == "long"
"""Whether this session runs the long forms; an environment variable, so that child processes know it too."""

Figure = Callable[[str, object], None]

_Count = TypeVar("_Count")
_FIGURES = pytest.StashKey[dict[str, object]]()


def count(quick: _Count, long: _Count) -> _Count:
    """How often, how many, how long: one answer for `just test`, another for `just torture`."""
    return long if LONG else quick


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """Remember a figure that a test reached; `just torture` ends with a table of them."""
    area = request.path.parent.name

    def remember(name: str, value: object) -> None:
        request.config.stash[_FIGURES][f"{area}: {name}"] = value

    return remember


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_FIGURES] = {}
    config.addinivalue_line("markers", "long: exists in the long form only (`just torture`)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what exists in the long form only; it is not skipped, since nothing is missing."""
    if LONG:
        return
    left_out = [item for item in items if item.get_closest_marker("long")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    figures = config.stash[_FIGURES]
    if not LONG or not figures:
        return
    terminalreporter.section("figures")
    width = max(map(len, figures))
    for name, value in figures.items():
        terminalreporter.write_line(f"{name:<{width}}  {value}")
