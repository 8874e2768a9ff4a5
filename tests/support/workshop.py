"""A data directory at work without a command line: land generated releases, transform, export, look at the tables."""

import dataclasses
import hashlib
import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from dataflows import export
from dataflows.lakehouse import transform
from dataflows.lakehouse.ducklake import DuckLake
from dataflows.lakehouse.spark import SparkLakehouse
from dataflows.lakehouse.transform import Lakehouse, Transformed
from dataflows.landing.local import LocalLanding
from dataflows.landing.report import ReportFile, land_report
from dataflows.landing.snapshot import Snapshot, content_key
from dataflows.serving.build import SERVING_TABLES
from dataflows.serving.gate import Gate
from dataflows.serving.generation import Generation
from dataflows.serving.store import ServingStore
from dataflows.source import psd_zip
from dataflows.source.formats import WASDE
from dataflows.source.release import Month
from dataflows.source.release_dates import newest_stamp
from ops.config.lakehouse import environ_of
from ops.demo.generator import GeneratedRelease

LANDED_AT = datetime(2026, 1, 1, tzinfo=UTC)


CAREFUL = Gate(max_row_loss=0.02)


@dataclass(frozen=True)
class Workshop:
    """One data directory and the dataset that its lakehouse serves."""

    data_dir: Path
    dataset: str = "psd_alldata"
    lake: DuckLake | SparkLakehouse | None = None
    """What takes the place of the lakehouse's file."""

    @property
    def landing(self) -> LocalLanding:
        return LocalLanding(self.data_dir / "landing")

    @property
    def serving(self) -> ServingStore:
        return ServingStore(self.data_dir / "serving.duckdb")

    @property
    def environ(self) -> dict[str, str]:
        overriding = ("LAKEHOUSE_DUCKDB_PATH", "SERVING_DUCKDB_PATH")
        inherited = {name: value for name, value in os.environ.items() if name not in overriding}
        return inherited | {"MATERIA_DATA_DIR": str(self.data_dir), "PSD_DATASET": self.dataset}

    @property
    def lakehouse(self) -> Lakehouse:
        secrets = environ_of(self.lake) if self.lake else {}
        path = self.data_dir / "lakehouse.duckdb"
        return Lakehouse(path, self.dataset, self.environ, secrets, lake=self.lake)

    def copy(self, data_dir: Path) -> "Workshop":
        shutil.copytree(self.data_dir, data_dir, symlinks=True)
        return Workshop(data_dir, self.dataset)

    def copy_landing(self, other: "Workshop") -> None:
        """Give another data directory what is landed here."""
        shutil.copytree(self.data_dir / "landing", other.data_dir / "landing")

    def land(self, release: GeneratedRelease, **differently: Any) -> Snapshot:
        """Land a generated release as an extract would, but for the fields named in `differently`."""
        self.landing.workspace.mkdir(parents=True, exist_ok=True)
        zip_path = self.landing.workspace / "release.zip"
        zip_path.write_bytes(release.zip_bytes)
        rows_path = zip_path.with_suffix(".parquet")
        contents = psd_zip.unpack(zip_path, f"{release.dataset}.csv", rows_path)
        sha256 = hashlib.sha256(release.zip_bytes).hexdigest()
        stamp = newest_stamp(rows_path, Month.of(release.published_at.date()))
        snapshot = Snapshot(
            dataset=release.dataset,
            url=f"http://archive.invalid/{release.month}/{release.file_name}",
            etag=release.etag,
            last_modified=release.last_modified,
            release_year=release.month.year,
            release_month=release.month.month,
            released_on=release.published_at.date(),
            size_bytes=len(release.zip_bytes),
            sha256=sha256,
            member=contents.member,
            row_count=contents.row_count,
            landed_at=LANDED_AT,
            key=content_key(release.month, sha256),
            published_at=release.published_at.replace(hour=12, minute=0, second=0, microsecond=0, tzinfo=None),
            newest_stamp=str(stamp) if stamp else None,
        )
        snapshot = dataclasses.replace(snapshot, **differently)
        self.landing.land(snapshot, zip_path, rows_path)
        return snapshot

    def remove(self, snapshot: Snapshot) -> None:
        """Take a snapshot out of the landing, marker first."""
        self.landing.marker_path(snapshot.key).unlink()
        self.landing.zip_path(snapshot.key).unlink()
        shutil.rmtree(self.landing.rows_path(snapshot).parent)

    def land_report(self, report: str, name: str = "report.xml") -> Snapshot:
        """Land a WASDE report."""
        file = ReportFile.read(name, report.encode())
        return land_report(self.landing.of(WASDE), file, LANDED_AT)[0]

    def transform(self) -> Transformed:
        """Bring the lakehouse up to date, in SQLMesh's own process."""
        return transform.run(self.lakehouse, export.landed(self.landing, self.lakehouse))

    def export(self) -> Generation:
        """The whole export dataflow, node by node."""
        landed = export.landed(self.landing, self.lakehouse)
        export.transformed(landed, export.reports(self.landing), None, self.lakehouse)
        return self.publish()

    def publish(self, gate: Gate = CAREFUL) -> Generation:
        """Publish the lakehouse as it stands."""
        landed = export.landed(self.landing, self.lakehouse)
        reports = export.reports(self.landing)
        ready = export.ReadyLakehouse(landed, Transformed(0, models_changed=False), pushed=None, reports=reports)
        built = export.built(ready, self.lakehouse, self.landing, self.serving, gate, "test", LANDED_AT)
        faults = export.gate_faults(built, self.serving, gate)
        return export.generation(built, export.verified(built), faults, self.serving, gate)

    def query(self, sql: str, *parameters: Any) -> list[tuple]:
        """Rows from the lakehouse, read-only, under the name that its views spell out."""
        with duckdb.connect() as connection:
            self.lakehouse.store.attach(connection, read_only=True)
            connection.execute("USE lakehouse")
            return connection.execute(sql, list(parameters)).fetchall()

    def tables(self, schema: str = "serving") -> dict[str, list[tuple]]:
        """Every serving table's rows, sorted."""
        return {table: sorted(self.query(f"FROM {schema}.{table}"), key=repr) for table in SERVING_TABLES}
