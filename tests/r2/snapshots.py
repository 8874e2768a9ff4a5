"""Small landed snapshots for these tests: generated releases, unpacked as an extract leaves them."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dataflows.landing.snapshot import Snapshot, content_key
from dataflows.source import psd_zip
from ops.demo.generator import generate
from ops.demo.history import HistorySpec

DATASET = "psd_coffee"
LANDED_AT = datetime(2025, 11, 21, 20, 42, tzinfo=UTC)


@dataclass(frozen=True)
class Prepared:
    """A snapshot that is ready to be landed."""

    snapshot: Snapshot
    zip_bytes: bytes

    def files(self, folder: Path) -> tuple[Path, Path]:
        """The zip and the rows in a workspace, as `Landing.land` takes them."""
        folder.mkdir(parents=True, exist_ok=True)
        zip_path = folder / f"{self.snapshot.key}.zip"
        zip_path.write_bytes(self.zip_bytes)
        rows_path = zip_path.with_suffix(".parquet")
        psd_zip.unpack(zip_path, self.snapshot.member, rows_path)
        return zip_path, rows_path


def prepared(releases: int = 1, rows: int = 500) -> Iterator[Prepared]:
    for each in generate(HistorySpec(dataset=DATASET, rows=rows, releases=releases)):
        sha256 = hashlib.sha256(each.zip_bytes).hexdigest()
        yield Prepared(
            Snapshot(
                dataset=DATASET,
                url=f"http://archive/{each.month}/{each.file_name}",
                etag=each.etag,
                last_modified=each.last_modified,
                release_year=each.month.year,
                release_month=each.month.month,
                released_on=each.published_at.date(),
                size_bytes=len(each.zip_bytes),
                sha256=sha256,
                member=f"{DATASET}.csv",
                row_count=each.row_count,
                landed_at=LANDED_AT,
                key=content_key(each.month, sha256),
            ),
            each.zip_bytes,
        )
