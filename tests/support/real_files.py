"""Files of others that some tests read: USDA's real releases, and Hetzner's published API description.

They are looked for in `../shared`, or in the folder that MATERIA_REAL_FILES names;
docs/explanation/tests.md names the sources.
"""

import os
import zipfile
from datetime import UTC, datetime
from pathlib import Path

from dataflows.source.release import Month
from ops.demo.archive_server import ArchiveServer

REAL_FILES = Path(os.environ.get("MATERIA_REAL_FILES") or Path(__file__).resolve().parents[3] / "shared")
SHARED_PSD = REAL_FILES / "psd"
HETZNER_DESCRIPTION = REAL_FILES / "hetzner" / "hcloud-openapi.json"
MISSING = "real file missing"
"""How the reason of each such skip begins."""

GRAINS = "psd_grains_pulses"
EU_AREA = "psd_eu_area_prod"
GRAINS_MONTHS = (Month(2021, 8), Month(2022, 3), Month(2025, 11))
EU_AREA_MONTH = Month(2025, 11)


def required(path: Path) -> Path:
    """The file or folder; skips the test with the reason where it is missing."""
    import pytest

    if not path.exists():
        where = "neither in ../shared nor in MATERIA_REAL_FILES (docs/explanation/tests.md)"
        pytest.skip(f"{MISSING}: {path.relative_to(REAL_FILES)} is {where}")
    return path


def real_zip(dataset: str, month: Month) -> Path:
    return SHARED_PSD / f"{dataset}_csv-{month}.zip"


def inner_date(path: Path) -> datetime:
    """The day that the zip gives its first member, at 16:00 UTC: when USDA publishes."""
    with zipfile.ZipFile(path) as archive:
        year, month, day, *_ = archive.infolist()[0].date_time
    return datetime(year, month, day, 16, tzinfo=UTC)


def post_real(server: ArchiveServer, dataset: str, month: Month) -> str:
    """Post one real file with its own day as Last-Modified and an ETag that is always the same."""
    path = required(real_zip(dataset, month))
    etag = f'"{dataset}-{month}:0"'
    return server.post(month, path, inner_date(path), etag=etag, dataset=dataset)


def post_real_grains(server: ArchiveServer, months: tuple[Month, ...] = GRAINS_MONTHS) -> list[str]:
    """Post the grains releases of 2021-08, 2022-03 and 2025-11 (or some of them); returns their URLs."""
    return [post_real(server, GRAINS, month) for month in months]


def post_real_eu_area(server: ArchiveServer) -> str:
    return post_real(server, EU_AREA, EU_AREA_MONTH)
