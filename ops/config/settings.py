"""Settings: read once from the environment, checked, and passed on as one frozen value."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ops.config.iceberg import iceberg_of
from ops.config.lakehouse import parse_ducklake, parse_spark
from ops.config.object_storage import bucket_of
from ops.config.supervision import Supervision, supervision_of
from ops.config.table import Values

if TYPE_CHECKING:
    from dataflows.iceberg.catalog import CatalogAddress
    from dataflows.lakehouse.ducklake import DuckLake
    from dataflows.lakehouse.spark import SparkLakehouse
    from dataflows.objects.store import Bucket

PROJECT_DIR = Path(__file__).resolve().parents[2]
IS_CHECKOUT = (PROJECT_DIR / "pyproject.toml").is_file()
"""Whether this code runs from a checkout; otherwise it is an installed wheel."""
USDA_ARCHIVE_URL = "https://apps.fas.usda.gov/psdonline/downloads/archives"
USDA_LIVE_URL = "https://apps.fas.usda.gov/psdonline/downloads/{dataset}_csv.zip"


@dataclass(frozen=True)
class Settings:
    """The settings of a host."""

    data_dir: Path
    lakehouse_path: Path
    serving_path: Path
    archive_url: str
    live_url: str | None
    """The current file's URL, with `{dataset}` for the name; None if it is not probed."""
    user_agent: str
    dataset: str
    max_row_loss: float
    r2: "Bucket | None"
    supervision: Supervision = field(default_factory=Supervision)
    iceberg: "CatalogAddress | None" = None
    gateway: str = "duckdb"
    """Where transforms write and exports read: `duckdb`, the file, `ducklake` or `spark`."""
    ducklake: "DuckLake | None" = None
    """The configured DuckLake, even if it is not the gateway."""
    spark: "SparkLakehouse | None" = None
    """Spark as the settings and their defaults have it; None if it is not the gateway and has no settings."""
    ducklake_kept_for: timedelta = timedelta(days=7)
    wasde_url: str | None = None
    """The URL of the current WASDE report, with `{month}` and `{year}`; None if it is not probed."""

    @property
    def lake(self) -> "DuckLake | SparkLakehouse | None":
        """What takes the lakehouse file's place, if that is the gateway."""
        return {"ducklake": self.ducklake, "spark": self.spark}.get(self.gateway)

    @property
    def landing_dir(self) -> Path:
        return self.data_dir / "landing"

    @property
    def sqlmesh_state_path(self) -> Path:
        from dataflows.lakehouse.stores import LakehouseFile

        return LakehouseFile(self.lakehouse_path).state_path

    @property
    def journal_path(self) -> Path:
        return self.data_dir / "runs.sqlite"

    @property
    def log_dir(self) -> Path:
        return self.data_dir / "logs"

    @property
    def lock_path(self) -> Path:
        return self.data_dir / "writer.lock"

    @property
    def supervisor_dir(self) -> Path:
        return self.data_dir / "supervisor"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Read and check all settings; raises SettingsError naming the wrong one."""
        values = Values.from_environ(environ)
        data_dir = values["MATERIA_DATA_DIR"] or default_data_dir()
        archive_url = values["PSD_ARCHIVE_URL"] or USDA_ARCHIVE_URL
        return cls(
            data_dir=data_dir,
            lakehouse_path=values["LAKEHOUSE_DUCKDB_PATH"] or data_dir / "lakehouse.duckdb",
            serving_path=values["SERVING_DUCKDB_PATH"] or data_dir / "serving.duckdb",
            archive_url=archive_url,
            live_url=_live_url(values, environ, archive_url),
            user_agent=values["PSD_USER_AGENT"],
            dataset=values["PSD_DATASET"],
            max_row_loss=values["MATERIA_MAX_ROW_LOSS"],
            r2=bucket_of(values.given),
            supervision=supervision_of(values),
            iceberg=iceberg_of(values),
            gateway=values["MATERIA_GATEWAY"],
            ducklake=parse_ducklake(values),
            spark=parse_spark(values, data_dir),
            ducklake_kept_for=timedelta(days=values["DUCKLAKE_KEEP_DAYS"]),
            wasde_url=values["MATERIA_WASDE_URL"],
        )


def default_data_dir() -> Path:
    """`data/` in a checkout; the user's data directory (XDG on Linux) when installed from a wheel."""
    if IS_CHECKOUT:
        return PROJECT_DIR / "data"
    from platformdirs import user_data_path

    return user_data_path("materia", appauthor=False)


def user_cache_dir() -> Path:
    """The cache directory of an installed wheel."""
    from platformdirs import user_cache_path

    return user_cache_path("materia", appauthor=False)


def _live_url(values: Values, environ: Mapping[str, str], archive_url: str) -> str | None:
    """The setting (empty: none). If it is not set: USDA's URL for USDA's archive, none for a mirror."""
    if "PSD_LIVE_URL" not in environ:
        return USDA_LIVE_URL if archive_url.rstrip("/") == USDA_ARCHIVE_URL else None
    url: str | None = values["PSD_LIVE_URL"]
    return url
