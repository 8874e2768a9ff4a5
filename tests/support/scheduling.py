"""Which tests run, in which order and where, decided by what they took when they were last recorded.

`tests/durations.json` holds the seconds of every test and fixture that took long. `just test-durations` renews it:
what it does not name counts as quick. With `--fast` a test is left out when it, or a fixture of it, is not quick.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

RECORD = Path(__file__).parents[1] / "durations.json"
QUICK_TEST_S = 0.3
QUICK_FIXTURE_S = 0.5
RECORDED_S = 0.2
"""What takes less is not recorded."""
SHARED_FOLDERS = ("tests/torture/crash/",)
"""Folders whose files share a fixture of one process that is costly; xdist gives each folder to one worker."""

_FIXTURE = "fixture"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("materia")
    group.addoption("--fast", action="store_true", help="only tests that were quick when they were last recorded")
    group.addoption("--record-durations", action="store_true", help="write what tests take to tests/durations.json")


class Durations:
    """The recorded seconds of slow tests (without their parameters) and fixtures."""

    def __init__(self, path: Path = RECORD) -> None:
        recorded = json.loads(path.read_text()) if path.exists() else {}
        self.tests: dict[str, float] = recorded.get("tests", {})
        self.fixtures: dict[str, float] = recorded.get("fixtures", {})

    def is_quick(self, item: pytest.Item) -> bool:
        if self.tests.get(name_of(item.nodeid), 0.0) > QUICK_TEST_S:
            return False
        return all(self.fixtures.get(name, 0.0) <= QUICK_FIXTURE_S for name in fixture_names(item))

    def by_scope(self) -> dict[str, float]:
        """The seconds of each file's, or shared folder's, recorded tests."""
        seconds: dict[str, float] = defaultdict(float)
        for name, taken in self.tests.items():
            seconds[scope_of(name)] += taken
        return seconds


class Recorder:
    """Collects what tests and fixtures take, in the process that runs them or, with xdist, in the one that reports."""

    def __init__(self) -> None:
        self._tests: dict[str, float] = defaultdict(float)
        self._fixtures: dict[str, float] = defaultdict(float)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> Iterator[Any]:
        begun_at = perf_counter()
        try:
            return (yield)
        finally:
            taken = perf_counter() - begun_at
            request._pyfuncitem.user_properties.append((_FIXTURE, [fixture_name(fixturedef), taken]))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            name = name_of(report.nodeid)
            self._tests[name] = max(self._tests[name], report.duration)
        if report.when == "teardown":
            for kind, value in report.user_properties:
                if kind == _FIXTURE:
                    name, taken = value
                    self._fixtures[name] = max(self._fixtures[name], taken)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workerinput"):
            return
        known = Durations()
        merged = {"tests": known.tests | self._tests, "fixtures": known.fixtures | self._fixtures}
        rounded = {
            kind: {name: round(taken, 1) for name, taken in sorted(each.items()) if taken >= RECORDED_S}
            for kind, each in merged.items()
        }
        RECORD.write_text(json.dumps(rounded, indent=1) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--record-durations"):
        config.pluginmanager.register(Recorder(), "materia-durations")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files that take longest come first, so that no worker begins one when the others have nothing left to do."""
    durations = Durations()
    if config.getoption("--fast"):
        slow = [item for item in items if not durations.is_quick(item)]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in set(slow)]
    seconds = durations.by_scope()
    items.sort(key=lambda item: -seconds.get(scope_of(item.nodeid), 0.0))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """xdist's `--dist loadfile`, but a shared folder counts as one file."""
    from xdist.scheduler import LoadFileScheduling

    if config.getvalue("dist") != "loadfile":
        return None

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return scope_of(nodeid)

    return Scheduling(config, log)


def scope_of(nodeid: str) -> str:
    """The shared folder that a test is in, or else its file."""
    return next((folder for folder in SHARED_FOLDERS if nodeid.startswith(folder)), nodeid.split("::", 1)[0])


def name_of(nodeid: str) -> str:
    """A test's name without its parameters."""
    return nodeid.split("[", 1)[0]


def fixture_name(fixture: pytest.FixtureDef[Any]) -> str:
    return f"{fixture.baseid}::{fixture.argname}"


def fixture_names(item: pytest.Item) -> Iterator[str]:
    """Every fixture that a test uses, directly or through others."""
    info = getattr(item, "_fixtureinfo", None)
    for definitions in info.name2fixturedefs.values() if info else ():
        yield fixture_name(definitions[-1])
