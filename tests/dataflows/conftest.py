"""Helpers for the dataflows that fetch and keep releases."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dataflows import driver, extract
from dataflows.landing.local import LocalLanding
from dataflows.source.archive import Archive, RetryPolicy
from dataflows.source.release import Month, release_of
from tests.support.faulty_archive import FaultyArchive
from tests.support.psd_files import DATASET

MONTH = Month(2025, 11)
POSTED_AT = datetime(2025, 11, 14, 17, tzinfo=UTC)
HASTE = RetryPolicy(attempts=4, first_pause_s=0.01, longest_pause_s=0.05, idle_s=5, probe_s=10, download_s=20)
"""A retry_policy for tests: the same rules, shorter waits."""


@pytest.fixture
def coffee() -> Iterator[FaultyArchive]:
    """An empty archive of the small dataset."""
    with FaultyArchive(DATASET) as server:
        yield server


@pytest.fixture
def landing(tmp_path: Path) -> LocalLanding:
    return LocalLanding(tmp_path / "landing")


@pytest.fixture
def extracted(coffee: FaultyArchive, landing: LocalLanding) -> Callable[..., Any]:
    """Run the extract dataflow against `coffee` up to its `final` node; keywords replace its inputs."""

    def run(
        newest: Month = MONTH,
        retry_policy: RetryPolicy = HASTE,
        only: Month | None = None,
        final: str = "snapshot",
        **inputs: object,
    ) -> Any:
        archive = Archive(retry_policy)
        given = {"candidates": (release_of(coffee.url, DATASET, only),)} if only else {}
        standard = {
            "archive": archive,
            "archive_url": coffee.url,
            "live_url": None,
            "dataset": DATASET,
            "newest_month": newest,
            "landing": landing,
            "landed_at": datetime(2025, 11, 15, tzinfo=UTC),
        }
        try:
            return driver.execute(extract, final, standard | inputs, overrides=given)
        finally:
            archive.close()

    return run


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, and what is in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
