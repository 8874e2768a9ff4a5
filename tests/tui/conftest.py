"""Fixtures: data directories in three states (empty, healthy, failing), and one with served data."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.served import Served, serve, served_console
from tests.tui.building import failing, healthy

STATES: dict[str, Callable[[Path], Path]] = {"empty": lambda folder: folder, "healthy": healthy, "failing": failing}


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HETZNER_TOKEN", "NO_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    # The process that reads the headline takes a second; tests that need it shorten the delay.
    monkeypatch.setattr("tui.shell.release_watch.DELAY_S", 3600.0)


@pytest.fixture
def healthy_dir(tmp_path: Path) -> Path:
    return healthy(tmp_path)


@pytest.fixture
def failing_dir(tmp_path: Path) -> Path:
    return failing(tmp_path)


@pytest.fixture(scope="session")
def served_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a generation of fixed facts; read it, or copy it."""
    folder = tmp_path_factory.mktemp("served-once")
    serve(folder)
    return folder


@pytest.fixture
def homeless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Store the console's user files in the test's folder."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def served(served_once: Path, tmp_path: Path, homeless: None) -> Iterator[Served]:
    """A console's surroundings in a data directory of its own, where generation 1 is served."""
    shutil.copytree(served_once, tmp_path, symlinks=True, dirs_exist_ok=True)
    console = served_console(tmp_path)
    yield console
    console.context.reader().close()
