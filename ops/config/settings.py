"""Settings: read once from the environment, checked, and handed on as one frozen value."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from dataflows.errors import SettingsError
from dataflows.iceberg.catalog import CatalogAddress
from dataflows.lakehouse.ducklake import DuckLake
from dataflows.source.release import USER_AGENT
from ops.config import iceberg as iceberg_settings
from ops.config import lakehouse as ducklake
from ops.config import object_storage as r2_settings
from ops.config import supervision as config
from ops.config.object_storage import R2Settings, r2_of
from ops.config.parse import number
from ops.config.supervision import Supervision, supervision_of

PROJECT_DIR = Path(__file__).resolve().parents[2]
IS_CHECKOUT = (PROJECT_DIR / "pyproject.toml").is_file()
"""Whether this code runs from a checkout; otherwise it is an installed wheel."""
USDA_ARCHIVE_URL = "https://apps.fas.usda.gov/psdonline/downloads/archives"
USDA_LIVE_URL = "https://apps.fas.usda.gov/psdonline/downloads/{dataset}_csv.zip"

DOCUMENTED = {
    "MATERIA_DATA_DIR": "everything Materia keeps; default `data/` in a checkout, else the user's data directory",
    "LAKEHOUSE_DUCKDB_PATH": "SQLMesh's database; default `lakehouse.duckdb` in the data directory",
    "SERVING_DUCKDB_PATH": "the served database, a link to a generation; default `serving.duckdb` there",
    "PSD_ARCHIVE_URL": "where releases are posted; default USDA's archive",
    "PSD_LIVE_URL": "the current file, `{dataset}` is replaced; empty: not probed; default USDA's, "
    "unless `PSD_ARCHIVE_URL` is set",
    "PSD_USER_AGENT": "sent with every request to USDA; default `materia (USDA PSD client)`",
    "PSD_DATASET": "which file of a release is kept; default `psd_alldata`",
    "MATERIA_MAX_ROW_LOSS": "share of a table's rows that a new generation may lack, 0 to 1; default `0.02`",
    **r2_settings.DOCUMENTED,
    **ducklake.DOCUMENTED,
    "HETZNER_TOKEN": "Hetzner Cloud API token, for workers",
    "HETZNER_API_URL": "Hetzner Cloud API; default its public address",
    **iceberg_settings.DOCUMENTED,
    "OS_USERNAME": "OVH: the OpenStack user, as in OVH's `openrc.sh`",
    "OS_PASSWORD": "OVH: that user's password",
    "OS_TENANT_ID": "OVH: the project's id",
    "OS_REGION_NAME": "OVH: the regions to use: `GRA11,SBG5`",
    "OS_AUTH_URL": "OVH: where OpenStack's keystone is; default OVH's",
    "OVH_PRICES_URL": "OVH: the public catalogue with the prices; default the French one, in EUR",
    "SCW_ACCESS_KEY": "Scaleway: the API key's access key",
    "SCW_SECRET_KEY": "Scaleway: its secret key",
    "SCW_DEFAULT_PROJECT_ID": "Scaleway: the project that workers are made in",
    "SCW_API_URL": "Scaleway: its API; default the public address",
    "SCW_ZONES": "Scaleway: the zones to use and look after; default those of Paris, Amsterdam and Warsaw",
    "OCI_CLI_USER": "Oracle: the user's OCID",
    "OCI_CLI_TENANCY": "Oracle: the tenancy's OCID",
    "OCI_CLI_FINGERPRINT": "Oracle: the API key's fingerprint",
    "OCI_CLI_REGION": "Oracle: the region, such as `eu-frankfurt-1`",
    "OCI_CLI_KEY_CONTENT": "Oracle: the private API key itself (PEM)",
    "OCI_COMPARTMENT_ID": "Oracle: the compartment that workers are made in",
    "OCI_SUBNET_ID": "Oracle: the public subnet that they are put into",
    "OCI_API_URL": "Oracle: one address for all of its APIs; default the region's own",
    "OCI_PRICES_URL": "Oracle: the public price list; default Oracle's, in EUR",
    **config.DOCUMENTED,
    "MATERIA_RUN_ON": "where pipelines run: `local` (default), `hetzner`, `ovh`, `scaleway` or `oracle`",
    "MATERIA_WORKER_MAX_COUNT": "how many workers there may be at once; default `2`",
    "MATERIA_WORKER_MAX_EUR_PER_RUN": "what one worker may cost until its time is up; default `0.50`",
    "MATERIA_WORKER_MAX_EUR_PER_DAY": "what workers may cost in any 24 hours; default `2.00`",
    "MATERIA_WORKER_TTL_MINUTES": "when a worker's time is up: its run is ended, and it is destroyed; default `120`",
    "MATERIA_WORKER_LOCATIONS": "where workers may be, the preferred first: `fsn1,nbg1`; default anywhere",
    "MATERIA_WORKER_TAX_PERCENT": "tax on top of the prices of OVH, Scaleway and Oracle, in the caps; default `20`",
    "MATERIA_WORKER_SSH_FROM": "networks that may reach a worker's SSH, such as `203.0.113.7/32`; default any",
    "MATERIA_WORKER_SSH_PORT": "the port on which workers listen for SSH; default `22`",
    "MATERIA_TUI_CONFIG": "the console's keys and theme; default `~/.config/materia/tui.toml`",
}
"""Every setting and what it means; the README's table and `materia doctor` read from here."""


@dataclass(frozen=True)
class Settings:
    """Where things are and how careful to be."""

    data_dir: Path
    lakehouse_path: Path
    serving_path: Path
    archive_url: str
    live_url: str | None
    """Where the current file is, `{dataset}` in place of the name; None when it is not probed."""
    user_agent: str
    dataset: str
    max_row_loss: float
    r2: R2Settings | None
    supervision: Supervision = field(default_factory=Supervision)
    iceberg: CatalogAddress | None = None
    gateway: str = "duckdb"
    """Where transforms write and exports read: `duckdb`, the file, or `ducklake`."""
    ducklake: DuckLake | None = None
    """The DuckLake that is named, whichever gateway is used."""
    ducklake_kept_for: timedelta = timedelta(days=7)

    @property
    def used_ducklake(self) -> DuckLake | None:
        """The DuckLake when it is the gateway."""
        return self.ducklake if self.gateway == "ducklake" else None

    @property
    def landing_dir(self) -> Path:
        return self.data_dir / "landing"

    @property
    def sqlmesh_state_path(self) -> Path:
        return self.lakehouse_path.with_name(f"{self.lakehouse_path.stem}-state.duckdb")

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
        """Read and check every setting; raises SettingsError naming the setting that is wrong."""
        given = {name: value for name in DOCUMENTED if (value := environ.get(name, "").strip())}
        data_dir = _path(given, "MATERIA_DATA_DIR", default_data_dir())
        dataset = given.get("PSD_DATASET", "psd_alldata")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_]{0,63}", dataset):
            raise SettingsError(f"PSD_DATASET={dataset!r} is not a dataset's name, such as psd_alldata")
        archive_url = given.get("PSD_ARCHIVE_URL", USDA_ARCHIVE_URL)
        if not config.is_address(archive_url):
            raise SettingsError(f"PSD_ARCHIVE_URL={archive_url!r} is not an http(s) address")
        r2 = r2_of(given)
        return cls(
            data_dir=data_dir,
            lakehouse_path=_path(given, "LAKEHOUSE_DUCKDB_PATH", data_dir / "lakehouse.duckdb"),
            serving_path=_path(given, "SERVING_DUCKDB_PATH", data_dir / "serving.duckdb"),
            archive_url=archive_url,
            live_url=_live_url(given, environ, archive_url),
            user_agent=_user_agent(given),
            dataset=dataset,
            max_row_loss=number(given.get("MATERIA_MAX_ROW_LOSS", "0.02"), "MATERIA_MAX_ROW_LOSS", 0, 1),
            r2=r2,
            supervision=supervision_of(given),
            iceberg=iceberg_settings.iceberg_of(given),
            gateway=ducklake.gateway_of(given),
            ducklake=ducklake.ducklake_of(given, r2),
            ducklake_kept_for=ducklake.kept_for(given),
        )


def default_data_dir() -> Path:
    """`data/` in a checkout; the user's data directory (XDG on Linux) when installed from a wheel."""
    if IS_CHECKOUT:
        return PROJECT_DIR / "data"
    from platformdirs import user_data_path

    return user_data_path("materia", appauthor=False)


def user_cache_dir() -> Path:
    """Where an installed wheel keeps what can be computed again."""
    from platformdirs import user_cache_path

    return user_cache_path("materia", appauthor=False)


def _live_url(given: Mapping[str, str], environ: Mapping[str, str], archive_url: str) -> str | None:
    """Set: that, or nothing when empty. Not set: USDA's, beside USDA's archive; a mirror's current file is unknown."""
    if "PSD_LIVE_URL" not in environ:
        return USDA_LIVE_URL if archive_url.rstrip("/") == USDA_ARCHIVE_URL else None
    url = given.get("PSD_LIVE_URL")
    if url and not config.is_address(url):
        raise SettingsError(f"PSD_LIVE_URL={url!r} is not an http(s) address")
    return url


def _user_agent(given: Mapping[str, str]) -> str:
    agent = given.get("PSD_USER_AGENT") or USER_AGENT
    if not (agent.isascii() and agent.isprintable()):
        raise SettingsError("PSD_USER_AGENT holds characters that no header may hold; use printable ASCII")
    return agent


def _path(given: Mapping[str, str], name: str, default: Path) -> Path:
    try:
        path = Path(given.get(name, default)).expanduser().absolute()
        path.lstat()
    except FileNotFoundError:
        return path
    except (OSError, RuntimeError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise SettingsError(f"{name} is no path that can be used: {why}") from error
    return path
