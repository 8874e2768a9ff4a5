"""Data directories with a transformed lakehouse, built once and copied: SQLMesh needs seconds for each run."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from dataflows import export
from dataflows.lakehouse import transform
from dataflows.source.release import Month
from ops.demo.generator import GeneratedRelease, generate
from ops.demo.history import HistorySpec
from tests.support.once import build_once
from tests.support.workshop import Workshop

Copied = Callable[[Workshop], Workshop]

REKEYED_IN = 3
HISTORY = HistorySpec(
    rows=2_500,
    releases=5,
    first_month=Month(2025, 3),
    rekey_in=REKEYED_IN,
    new_country_every=2,
    vanish_every=2,
)
"""Five releases: May opens a market year, the second and fourth gain a country and lose a sheet, one is re-keyed."""
ROWS_A_BATCH = 3 * HISTORY.rows + 1_500
"""Three releases in the first batch, two in the second."""


@pytest.fixture(scope="session")
def releases() -> tuple[GeneratedRelease, ...]:
    return tuple(generate(HISTORY))


@pytest.fixture(scope="session")
def served(releases: tuple[GeneratedRelease, ...], tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """All five releases landed, transformed in order in two batches, and published. Copy it to change it."""

    def build(folder: Path) -> None:
        workshop = Workshop(folder / "data")
        for release in releases:
            workshop.land(release)
        landed = export.landed(workshop.landing, workshop.lakehouse)
        transform.run(workshop.lakehouse, landed, rows_a_batch=ROWS_A_BATCH)
        workshop.publish()

    return Workshop(build_once(tmp_path_factory, "transform", build) / "data")


@pytest.fixture
def copied(tmp_path: Path) -> Copied:
    """Copies a workshop into the test's own folder."""
    numbers = count()
    return lambda workshop: workshop.copy(tmp_path / f"data-{next(numbers)}")
