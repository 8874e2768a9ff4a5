"""Every setting, declared once. Settings, doctor, redaction, worker secrets and docs/reference are derived from it."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final

from dataflows.source.release import USER_AGENT
from ops.config import parse
from ops.config.parse import Parser

PIPELINES: Final = ("extract", "transform", "export_serving", "run-all")
LAKEHOUSE_PIPELINES: Final = ("transform", "export_serving", "run-all")
PUBLISHING_PIPELINES: Final = ("export_serving", "run-all")
PROVIDERS: Final = ("hetzner", "ovh", "scaleway", "oracle")
"""The cloud providers; their groups of settings have the same names."""


@dataclass(frozen=True)
class Setting:
    """An environment variable that Materia reads."""

    name: str
    group: str
    """A heading of the reference page. Those of a cloud provider are the provider's name."""
    help: str
    parse: Parser = parse.text
    default: str | None = None
    """The default as text; None if there is no fixed default."""
    default_help: str = ""
    """The default in words, if `default` is not enough."""
    is_secret: bool = False
    """Whether no message, log, file or process list may show the value."""
    is_needed: bool = False
    """Whether the provider cannot be used without it."""
    sent_to: tuple[str, ...] = ()
    """The pipelines that get it on a worker."""


SETTINGS: Final[tuple[Setting, ...]] = (
    Setting(
        "MATERIA_DATA_DIR",
        "data",
        "the directory of all data",
        parse.path,
        default_help="`data/` in a checkout, else the user's data directory",
    ),
    Setting(
        "LAKEHOUSE_DUCKDB_PATH",
        "data",
        "SQLMesh's database",
        parse.path,
        default_help="`lakehouse.duckdb` in the data directory",
    ),
    Setting(
        "SERVING_DUCKDB_PATH",
        "data",
        "the served database, a link to the newest generation",
        parse.path,
        default_help="`serving.duckdb` in the data directory",
    ),
    Setting(
        "PSD_ARCHIVE_URL",
        "source",
        "address of the archive in which releases are posted",
        parse.address,
        default_help="USDA's archive",
        sent_to=PIPELINES,
    ),
    Setting(
        "PSD_LIVE_URL",
        "source",
        "address of the current file; `{dataset}` stands for the dataset; empty: not probed",
        parse.address,
        default_help="USDA's, unless `PSD_ARCHIVE_URL` is set",
        sent_to=PIPELINES,
    ),
    Setting(
        "PSD_USER_AGENT",
        "source",
        "user agent of every request to USDA",
        parse.header,
        USER_AGENT,
        sent_to=PIPELINES,
    ),
    Setting(
        "PSD_DATASET",
        "source",
        "the dataset",
        parse.matching(r"[A-Za-z0-9][A-Za-z0-9_]{0,63}", "a dataset's name, such as psd_alldata"),
        "psd_alldata",
        sent_to=PIPELINES,
    ),
    Setting(
        "MATERIA_WASDE_URL",
        "source",
        "address of the current WASDE report (XML), probed after PSD; `{month}`, `{year}`: two digits each",
        parse.address,
        default_help="none: WASDE is not probed",
        sent_to=("extract", "run-all"),
    ),
    Setting(
        "MATERIA_MAX_ROW_LOSS",
        "serving",
        "largest share of a table's rows that a new generation may lose, 0 to 1",
        parse.decimal(0, 1),
        "0.02",
        sent_to=PIPELINES,
    ),
    Setting("R2_ENDPOINT", "object storage", "`https://<account>.r2.cloudflarestorage.com`", sent_to=PIPELINES),
    Setting("R2_BUCKET", "object storage", "the bucket", sent_to=PIPELINES),
    Setting("R2_ACCESS_KEY", "object storage", "id of the access key", is_secret=True, sent_to=PIPELINES),
    Setting(
        "R2_SECRET_KEY",
        "object storage",
        "the secret key (from Pulumi ESC, never from a file)",
        is_secret=True,
        sent_to=PIPELINES,
    ),
    Setting(
        "MATERIA_GATEWAY",
        "lakehouse",
        "the lakehouse: `duckdb` (one file), `ducklake` (can be shared by several machines) or `spark` (a cluster)",
        parse.choice("duckdb", "ducklake", "spark"),
        "duckdb",
        sent_to=LAKEHOUSE_PIPELINES,
    ),
    Setting(
        "DUCKLAKE_CATALOG",
        "lakehouse",
        "DuckLake's catalog: `sqlite:/path` on one host, `postgres:host=… dbname=… user=…` for several",
        sent_to=LAKEHOUSE_PIPELINES,
    ),
    Setting(
        "DUCKLAKE_PASSWORD",
        "lakehouse",
        "password of the PostgreSQL catalog (from Pulumi ESC, never in `DUCKLAKE_CATALOG`)",
        is_secret=True,
        sent_to=LAKEHOUSE_PIPELINES,
    ),
    Setting(
        "DUCKLAKE_DATA",
        "lakehouse",
        "DuckLake's Parquet files: a folder, or `s3://bucket/prefix`, reached with the `R2_*` keys",
        sent_to=LAKEHOUSE_PIPELINES,
    ),
    Setting(
        "DUCKLAKE_KEEP_DAYS",
        "lakehouse",
        "days that DuckLake keeps replaced data, at least 1",
        parse.integer(1, 3650),
        "7",
    ),
    Setting(
        "SPARK_MASTER",
        "lakehouse",
        "Spark's master: `local[*]` on this host, `spark://host:7077`, `yarn`, `k8s://…`",
        default_help="`local[*]`",
        sent_to=LAKEHOUSE_PIPELINES,
    ),
    Setting(
        "SPARK_WAREHOUSE",
        "lakehouse",
        "Spark's tables: a folder that the whole cluster sees, or `s3a://bucket/prefix`, `hdfs://…`",
        default_help="`spark/warehouse` in the data directory",
        sent_to=LAKEHOUSE_PIPELINES,
    ),
    Setting(
        "SPARK_METASTORE",
        "lakehouse",
        "the tables' names: `derby:/folder` on one host, `postgres:host=… dbname=… user=…`, `thrift://host:9083`",
        default_help="`derby:`, `spark/metastore` in the data directory",
        sent_to=LAKEHOUSE_PIPELINES,
    ),
    Setting(
        "SPARK_STATE",
        "lakehouse",
        "SQLMesh's state with Spark: a file, or `postgres:host=… dbname=… user=…`",
        default_help="the PostgreSQL database of SPARK_METASTORE, else `spark/state.duckdb` in the data directory",
        sent_to=LAKEHOUSE_PIPELINES,
    ),
    Setting(
        "SPARK_PASSWORD",
        "lakehouse",
        "password of the PostgreSQL databases in SPARK_METASTORE and SPARK_STATE (from Pulumi ESC)",
        is_secret=True,
        sent_to=LAKEHOUSE_PIPELINES,
    ),
    Setting(
        "SPARK_PROPERTIES",
        "lakehouse",
        "file of any other Spark property, written as Spark's own `spark-defaults.conf`",
        default_help="none",
    ),
    Setting(
        "ICEBERG_CATALOG_URI",
        "iceberg",
        "Iceberg REST catalog to publish the served tables to",
        default_help="none",
        sent_to=PUBLISHING_PIPELINES,
    ),
    Setting("ICEBERG_WAREHOUSE", "iceberg", "the warehouse's name in the catalog", sent_to=PUBLISHING_PIPELINES),
    Setting(
        "ICEBERG_TOKEN",
        "iceberg",
        "bearer token that may write, such as an R2 API token",
        is_secret=True,
        sent_to=PUBLISHING_PIPELINES,
    ),
    Setting(
        "ICEBERG_CREDENTIAL",
        "iceberg",
        "`client-id:client-secret` instead of a token, for catalogs with OAuth",
        is_secret=True,
        sent_to=PUBLISHING_PIPELINES,
    ),
    Setting(
        "ICEBERG_NAMESPACE",
        "iceberg",
        "the namespace that belongs to Materia",
        parse.matching(r"[a-z0-9](?:[a-z0-9_]*[a-z0-9])?", "a namespace's name, such as serving"),
        "serving",
        sent_to=PIPELINES,
    ),
    Setting(
        "ICEBERG_KEEP_DAYS",
        "iceberg",
        "days that a replaced snapshot stays readable",
        parse.integer(1, 3650),
        "30",
        sent_to=PIPELINES,
    ),
    Setting("MATERIA_EXTRACT_AT", "schedule", "time of the daily run-all, UTC", parse.time_of_day, "02:00"),
    Setting(
        "MATERIA_BACKSTOP_AT",
        "schedule",
        "time at which landed releases are served even if extract failed, UTC",
        parse.time_of_day,
        "03:00",
    ),
    Setting(
        "MATERIA_POLL_HOURS",
        "schedule",
        "hours of polling on release days, Washington time",
        parse.span(parse.time_of_day),
        "12:00-14:00",
    ),
    Setting(
        "MATERIA_POLL_EVERY_MIN",
        "schedule",
        "minutes between runs in these hours; a HEAD asks each tick",
        parse.integer(1, 1440),
        "10",
    ),
    Setting(
        "MATERIA_POLL_DAYS",
        "schedule",
        "days of the month on which USDA may release",
        parse.span(parse.integer(1, 31)),
        "8-14",
    ),
    Setting(
        "MATERIA_DEADLINE_MIN",
        "schedule",
        "minutes after which a scheduled run is stopped",
        parse.integer(1, 1440),
        "90",
    ),
    Setting("MATERIA_TICK_S", "schedule", "seconds between two ticks", parse.integer(1, 3600), "60"),
    Setting(
        "MATERIA_TICK_SILENT_S",
        "schedule",
        "seconds without progress after which a tick is ended and counts as failed",
        parse.integer(30, 1800),
        "600",
    ),
    Setting(
        "MATERIA_STALE_AFTER_H",
        "schedule",
        "hours without a successful extract after which `status` reports a problem",
        parse.integer(1, 2400),
        "36",
    ),
    Setting(
        "MATERIA_MIN_FREE_MB",
        "schedule",
        "free disk space that a run needs beside a new generation; 0: none",
        parse.integer(0, 10**9),
        "1000",
    ),
    Setting(
        "MATERIA_ESC_ENVIRONMENT",
        "supervisor",
        "Pulumi ESC environment in which scheduled runs start",
        default_help="none",
    ),
    Setting("MATERIA_REMOTE", "supervisor", "the git repository that the supervisor's host follows"),
    Setting("MATERIA_BRANCH", "supervisor", "the branch that it follows", default="main"),
    Setting(
        "MATERIA_EXTRAS",
        "supervisor",
        "extras that the supervisor's host installs, of `ducklake spark iceberg clouds`",
        default_help="none",
    ),
    Setting("GITLAB_READ_TOKEN", "supervisor", "token that reads a private repository", is_secret=True),
    Setting(
        "MATERIA_SUPERVISOR_SSH_PRIVATE_KEY",
        "supervisor",
        "`supervisor up`: the ed25519 key that logs in to the host (from Pulumi ESC)",
        is_secret=True,
    ),
    Setting(
        "MATERIA_SUPERVISOR_MAX_EUR_PER_MONTH",
        "supervisor",
        "`supervisor up`: the most that the host may cost in a month",
        parse.decimal(0, 1_000_000),
        "15",
    ),
    Setting(
        "ALERT_WEBHOOK_URL",
        "alerts",
        "address to which each alert, its end and the headline of each release are posted as JSON, once",
        parse.secret_address,
        default_help="none",
        is_secret=True,
    ),
    Setting(
        "ALERT_PING_URL",
        "alerts",
        "dead man's switch: an address that is fetched after every tick",
        parse.secret_address,
        default_help="none",
        is_secret=True,
    ),
    Setting(
        "MATERIA_RUN_ON",
        "workers",
        "where pipelines run: `local`, `hetzner`, `ovh`, `scaleway` or `oracle`",
        parse.choice("local", *PROVIDERS),
        "local",
    ),
    Setting("MATERIA_WORKER_MAX_COUNT", "workers", "the most workers at once", parse.decimal(0, 100), "2"),
    Setting(
        "MATERIA_WORKER_MAX_EUR_PER_RUN",
        "workers",
        "the most that one worker may cost until it is destroyed",
        parse.decimal(0, 1000),
        "0.50",
    ),
    Setting(
        "MATERIA_WORKER_MAX_EUR_PER_DAY",
        "workers",
        "the most that workers may cost in any 24 hours",
        parse.decimal(0, 1000),
        "2.00",
    ),
    Setting(
        "MATERIA_WORKER_TTL_MINUTES",
        "workers",
        "minutes after which a worker's run is stopped and the worker destroyed",
        parse.decimal(5, 24 * 60),
        "120",
    ),
    Setting(
        "MATERIA_WORKER_LOCATIONS",
        "workers",
        "locations of workers, the preferred one first: `fsn1,nbg1`",
        parse.names,
        default_help="any",
    ),
    Setting(
        "MATERIA_WORKER_TAX_PERCENT",
        "workers",
        "tax that the caps add to the prices of OVH, Scaleway and Oracle",
        parse.decimal(0, 100),
        "20",
    ),
    Setting(
        "MATERIA_WORKER_SSH_FROM",
        "workers",
        "networks that may reach a worker's SSH, such as `203.0.113.7/32`",
        parse.networks,
        default_help="any",
    ),
    Setting(
        "MATERIA_WORKER_SSH_PORT", "workers", "port on which workers listen for SSH", parse.decimal(1, 65_535), "22"
    ),
    Setting("HETZNER_TOKEN", "hetzner", "API token", is_secret=True, is_needed=True),
    Setting("HETZNER_API_URL", "hetzner", "address of the API", parse.address, "https://api.hetzner.cloud/v1"),
    # The names in OVH's `openrc.sh` of OpenStack.
    Setting("OS_USERNAME", "ovh", "OpenStack user, as in OVH's `openrc.sh`", is_needed=True),
    Setting("OS_PASSWORD", "ovh", "that user's password", is_secret=True, is_needed=True),
    Setting("OS_TENANT_ID", "ovh", "id of the project", is_needed=True),
    Setting("OS_REGION_NAME", "ovh", "the regions to use: `GRA11,SBG5`", parse.names, is_needed=True),
    Setting("OS_AUTH_URL", "ovh", "address of OpenStack's Keystone", parse.address, "https://auth.cloud.ovh.net/v3"),
    Setting(
        "OVH_PRICES_URL",
        "ovh",
        "public catalogue with the prices",
        parse.address,
        "https://eu.api.ovh.com/v1/order/catalog/public/cloud?ovhSubsidiary=FR",
        default_help="the French one, in EUR",
    ),
    # The names of Scaleway's own tools.
    Setting("SCW_ACCESS_KEY", "scaleway", "access key of the API key", is_secret=True, is_needed=True),
    Setting("SCW_SECRET_KEY", "scaleway", "secret key of the API key", is_secret=True, is_needed=True),
    Setting("SCW_DEFAULT_PROJECT_ID", "scaleway", "the project in which workers are created", is_needed=True),
    Setting("SCW_API_URL", "scaleway", "address of the API", parse.address, "https://api.scaleway.com"),
    Setting(
        "SCW_ZONES",
        "scaleway",
        "the zones in which workers are created and reaped",
        parse.names,
        "fr-par-1,fr-par-2,nl-ams-1,nl-ams-2,nl-ams-3,pl-waw-1,pl-waw-2,pl-waw-3",
        default_help="those of Paris, Amsterdam and Warsaw",
    ),
    # The names of Oracle's own command line; the compartment and the subnet are where machines go.
    Setting("OCI_CLI_USER", "oracle", "OCID of the user", is_needed=True),
    Setting("OCI_CLI_TENANCY", "oracle", "OCID of the tenancy", is_needed=True),
    Setting("OCI_CLI_FINGERPRINT", "oracle", "fingerprint of the API key", is_needed=True),
    Setting("OCI_CLI_REGION", "oracle", "the region, such as `eu-frankfurt-1`", is_needed=True),
    Setting("OCI_CLI_KEY_CONTENT", "oracle", "the private API key itself (PEM)", is_secret=True, is_needed=True),
    Setting("OCI_COMPARTMENT_ID", "oracle", "the compartment in which workers are created", is_needed=True),
    Setting("OCI_SUBNET_ID", "oracle", "the public subnet of workers", is_needed=True),
    Setting("OCI_API_URL", "oracle", "one address for all APIs", parse.address, default_help="the region's own"),
    Setting(
        "OCI_PRICES_URL",
        "oracle",
        "the public price list",
        parse.address,
        "https://apexapps.oracle.com/pls/apex/cetools/api/v1/products/?currencyCode=EUR",
        default_help="Oracle's, in EUR",
    ),
    Setting(
        "MATERIA_TUI_CONFIG",
        "console",
        "file with the console's keys and theme",
        default_help="`~/.config/materia/tui.toml`",
    ),
)
BY_NAME: Final[Mapping[str, Setting]] = {setting.name: setting for setting in SETTINGS}

# Spark reads many other names of its own.
_SPARK = ("SPARK_WARE", "SPARK_META", "SPARK_STATE", "SPARK_PASS", "SPARK_PROP")
_PREFIXES = (
    "MATERIA_",
    "PSD_",
    "R2_",
    "DUCKLAKE_",
    "ICEBERG_",
    "ALERT_",
    "LAKEHOUSE_DUCKDB",
    "SERVING_DUCKDB",
    *_SPARK,
)
_NOT_SETTINGS = ("MATERIA_HOME", "MATERIA_PREFIX", "MATERIA_REAL_FILES", "MATERIA_TORTURE", "MATERIA_MUTANTS")
"""Variables that only scripts and tests read."""


def names_of(group: str) -> tuple[str, ...]:
    """The settings of a group, in the order of the table."""
    return tuple(setting.name for setting in SETTINGS if setting.group == group)


def needed_by(provider: str) -> tuple[str, ...]:
    """The settings without which a provider cannot be used."""
    return tuple(setting.name for setting in SETTINGS if setting.group == provider and setting.is_needed)


def complete_providers(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The providers for which every needed setting has a value."""
    return tuple(name for name in PROVIDERS if all(environ.get(each, "").strip() for each in needed_by(name)))


@dataclass(frozen=True)
class Values:
    """The values of the settings: those given in the environment, parsed, and the defaults."""

    given: Mapping[str, str] = field(repr=False)
    """The text of each setting that has one, secrets included."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> "Values":
        return cls({name: value for name in BY_NAME if (value := environ.get(name, "").strip())})

    def __getitem__(self, name: str) -> Any:
        """The parsed value or default; None without either. Raises SettingsError naming the setting."""
        setting = BY_NAME[name]
        given = self.given.get(name, setting.default)
        return None if given is None else setting.parse(given, name)


def unknown_names(environ: Mapping[str, str]) -> Iterator[tuple[str, str | None]]:
    """Names in the environment that look like settings but are unknown, each with the nearest setting."""
    for name in sorted(environ):
        if name.startswith(_PREFIXES) and name not in BY_NAME and name not in _NOT_SETTINGS:
            yield name, next(iter(get_close_matches(name, BY_NAME, n=1, cutoff=0.75)), None)
