"""Which tests run, in which order and where, decided by what they took when they were last recorded.

`tests/durations.json` holds the seconds of every test (of all its parameters together) and of every fixture that took
long; `just test-durations` renews it. With `--fast` the quickest tests run that take `FAST_S` together, and none that
uses a slow fixture. What is not recorded counts as quick.
"""

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate, takewhile
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

RECORD = Path(__file__).parents[1] / "durations.json"
FAST_S = 100.0
"""What the tests of `--fast` take together; two cores run them side by side."""
QUICK_FIXTURE_S = 0.5
UNRECORDED_S = 0.05
"""What a test takes that is not recorded."""
RECORDED_S = 0.1
"""What takes less is not recorded."""
SHARED_FOLDERS = ("tests/torture/crash/",)
"""Folders whose files share a fixture of one process that is costly; xdist gives each folder to one worker."""

_FIXTURE = "fixture"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("materia")
    group.addoption("--fast", action="store_true", help="only the tests that were quickest when recorded")
    group.addoption("--record-durations", action="store_true", help="write what tests take to tests/durations.json")


class Durations:
    """The recorded seconds of slow tests (without their parameters) and fixtures."""

    def __init__(self, path: Path = RECORD) -> None:
        recorded = json.loads(path.read_text()) if path.exists() else {}
        self.tests: dict[str, float] = recorded.get("tests", {})
        self.fixtures: dict[str, float] = recorded.get("fixtures", {})

    def fast(self, items: list[pytest.Item]) -> list[pytest.Item]:
        """The quickest tests that fit into `FAST_S` together, in their order."""
        by_name: dict[str, list[pytest.Item]] = defaultdict(list)
        for item in items:
            if all(self.fixtures.get(name, 0.0) <= QUICK_FIXTURE_S for name in fixture_names(item)):
                by_name[name_of(item.nodeid)].append(item)
        costs = {name: self.tests.get(name, UNRECORDED_S * len(each)) for name, each in by_name.items()}
        names = sorted(costs, key=lambda name: costs[name])
        fitting = takewhile(
            lambda pair: pair[1] <= FAST_S, zip(names, accumulate(map(costs.__getitem__, names)), strict=True)
        )
        chosen = {name for name, _ in fitting}
        return [item for item in items if name_of(item.nodeid) in chosen]

    def by_scope(self) -> dict[str, float]:
        """The seconds of each file's, or shared folder's, recorded tests and of the fixtures that are its own."""
        seconds: dict[str, float] = defaultdict(float)
        for name, taken in (*self.tests.items(), *self.fixtures.items()):
            seconds[scope_of(name)] += taken
        return seconds


class Recorder:
    """Collects what tests and fixtures take, in the process that runs them or, with xdist, in the one that reports."""

    def __init__(self) -> None:
        self._tests: dict[str, float] = defaultdict(float)
        self._fixtures: dict[str, float] = defaultdict(float)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> Iterator[Any]:
        started_at = perf_counter()
        try:
            return (yield)
        finally:
            taken = perf_counter() - started_at
            request._pyfuncitem.user_properties.append((_FIXTURE, [fixture_name(fixturedef), taken]))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            name = name_of(report.nodeid)
            self._tests[name] += report.duration
        if report.when == "teardown":
            for kind, value in report.user_properties:
                if kind == _FIXTURE:
                    name, taken = value
                    self._fixtures[name] = max(self._fixtures[name], taken)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workerinput"):
            return
        known = Durations()
        merged = {"tests": self._of_others(known.tests) | self._tests}
        merged["fixtures"] = self._of_others(known.fixtures) | self._fixtures
        rounded = {
            kind: {name: round(taken, 1) for name, taken in sorted(each.items()) if taken >= RECORDED_S}
            for kind, each in merged.items()
        }
        RECORD.write_text(json.dumps(rounded, indent=1) + "\n")

    def _of_others(self, known: dict[str, float]) -> dict[str, float]:
        """What was recorded of files that are still there and did not run now."""
        ran = {file_of(name) for name in self._tests}
        kept = {file for file in map(file_of, known) if file not in ran and Path(file).exists()}
        return {name: taken for name, taken in known.items() if file_of(name) in kept}


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--record-durations"):
        config.pluginmanager.register(Recorder(), "materia-durations")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files that take longest come first, so that no worker begins one when the others have nothing left to do."""
    durations = Durations()
    if config.getoption("--fast"):
        fast = durations.fast(items)
        config.hook.pytest_deselected(items=list(set(items) - set(fast)))
        items[:] = fast
    seconds = durations.by_scope()
    items.sort(key=lambda item: -seconds.get(scope_of(item.nodeid), 0.0))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two for each core: a test waits for other processes for almost half of its time."""
    return 2 * (os.cpu_count() or 1)


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
    return next((folder for folder in SHARED_FOLDERS if nodeid.startswith(folder)), file_of(nodeid))


def file_of(name: str) -> str:
    """The file of a test or fixture; the folder of a fixture that is shared by files."""
    return name.split("::", 1)[0]


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
