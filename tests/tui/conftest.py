"""Data directories in the three states that every screen is looked at in."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tui.building import failing, healthy

STATES: dict[str, Callable[[Path], Path]] = {"empty": lambda folder: folder, "healthy": healthy, "failing": failing}


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HETZNER_TOKEN", "NO_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def healthy_dir(tmp_path: Path) -> Path:
    return healthy(tmp_path)


@pytest.fixture
def failing_dir(tmp_path: Path) -> Path:
    return failing(tmp_path)
