"""The doctor: is this host fit to run Materia? One finding per check, each with a next step.

`supervisor.sh` uses a new commit only if no check fails. Therefore anything that a host may lack for a while (a
worker's provider, a reachable archive) is a warning, and only what a run needs is a failure.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path

from dataflows.errors import LockHeldError, MateriaError, SettingsError
from dataflows.lakehouse.ducklake import CATALOG, DuckLake, PostgresCatalog
from dataflows.lakehouse.spark import SparkLakehouse
from dataflows.lakehouse.stores import lock_conflict
from ops.config.settings import IS_CHECKOUT, Settings
from ops.config.table import PROVIDERS, Values, needed_by, unknown_names
from ops.host.formatting import size_text
from ops.journal.run import utc_now

MAX_CLOCK_DIFFERENCE = timedelta(minutes=5)
TIMEOUT_S = 10.0
CLIENT_TIMEOUT_S = 30.0
_PROVIDER_PAUSE_S = 0.2
OLDEST_PYTHON = (3, 11)
JAVA_VERSIONS = (8, 11, 17, 21)
"""The versions of Java that Spark 3.5 names, and the one of Debian 13, on which every model was run."""
ENTRY_POINTS = (
    "dataflows.extract",
    "dataflows.export",
    "dataflows.driver",
    "ops.pipelines.run",
    "ops.supervisor.tick",
    "tui.shell.app",
)


class Verdict(StrEnum):
    """`warning`: something does not work that runs do not need."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class Finding:
    """The result of one check, and the next step if it is not ok."""

    name: str
    verdict: Verdict
    what: str
    next_step: str = ""


def examine(environ: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Run all checks and yield each finding as it is known. Changes nothing on this host."""
    if wrong := list(_wrong_settings(environ)):
        yield from (Finding("settings", Verdict.FAILED, what, "fix the setting; no other check ran") for what in wrong)
        return
    settings = Settings.from_environ(environ)
    yield Finding(
        "settings",
        Verdict.OK,
        f"data directory {settings.data_dir}, {_origin_of_data_dir(environ)}, "
        f"dataset {settings.dataset}, gateway {settings.gateway}",
    )
    for unknown, nearest in unknown_names(environ):
        next_step = f"did you mean {nearest}?" if nearest else "remove it, or see docs/reference/settings.md"
        yield Finding("settings", Verdict.WARNING, f"{unknown} is not a setting and has no effect", next_step)
    checks: tuple[tuple[str, Callable[[Settings, Mapping[str, str]], Finding | None]], ...] = (
        ("run on", _run_on),
        ("versions", _versions),
        ("code", _code),
        ("disk space", _disk_space),
        ("lakehouse", _lakehouse),
        ("serving", _serving),
        ("landing", _landing),
        ("iceberg", _iceberg),
        ("clock", _clock),
        ("esc", _esc),
        ("ssh", _ssh),
        ("provider", _any_provider),
        *((f"provider {name}", partial(_provider, name)) for name in PROVIDERS),
    )
    for name, check in checks:
        try:
            if (finding := check(settings, environ)) is not None:
                yield finding
        except MateriaError as error:
            what, _, next_step = str(error).partition("; ")
            yield Finding(name, Verdict.FAILED, what, next_step)
        except Exception as error:
            yield Finding(name, Verdict.FAILED, f"{type(error).__name__}: {error}", "materia --debug doctor")


def _wrong_settings(environ: Mapping[str, str]) -> Iterator[str]:
    """The errors of all settings, including those that only a worker or `supervisor up` reads."""
    from ops.workers.keys import client_key_of
    from ops.workers.settings import WorkerSettings

    values = Values.from_environ(environ)
    key = values.given.get("MATERIA_SUPERVISOR_SSH_PRIVATE_KEY")
    checks: tuple[Callable[[], object], ...] = (
        *(partial(values.__getitem__, name) for name in values.given),
        lambda: key and client_key_of(key),
        # These also check combinations of settings.
        lambda: Settings.from_environ(environ),
        lambda: WorkerSettings.from_environ(environ),
    )
    found: dict[str, None] = {}
    for check in checks:
        try:
            check()
        except SettingsError as error:
            found[str(error)] = None
    yield from found


def _run_on(settings: Settings, environ: Mapping[str, str]) -> Finding | None:
    """Whether pipelines can run where MATERIA_RUN_ON says."""
    where = Values.from_environ(environ)["MATERIA_RUN_ON"]
    if where == "local":
        return None
    from ops.workers.lifecycle import check_shared_data
    from ops.workers.settings import WorkerSettings, provider_of

    try:
        provider_of(where, WorkerSettings.from_environ(environ))
        check_shared_data(settings)
    except SettingsError as error:
        what, _, next_step = str(error).partition("; ")
        if settings.supervision.esc_environment is None:
            return Finding("run on", Verdict.FAILED, what, next_step)
        what = f"{what}; {settings.supervision.esc_environment} may have it"
        step = f"esc run {settings.supervision.esc_environment} -- materia doctor"
        return Finding("run on", Verdict.WARNING, what, step)
    return Finding("run on", Verdict.OK, f"pipelines run on {where}")


def _origin_of_data_dir(environ: Mapping[str, str]) -> str:
    if environ.get("MATERIA_DATA_DIR", "").strip():
        return "set by MATERIA_DATA_DIR"
    return "of this checkout" if IS_CHECKOUT else "of this user"


def _versions(_settings: Settings, _environ: Mapping[str, str]) -> Finding:
    """Whether Python and all required packages have the required versions."""
    from importlib.metadata import PackageNotFoundError, requires, version

    from packaging.requirements import Requirement

    wrong = []
    for text in requires("materia") or ():
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            found = ""
        if not found or not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} {found or 'is missing'} (required: {requirement.specifier})")
    python = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        wrong.insert(0, f"Python {python}")
    if wrong:
        return Finding("versions", Verdict.FAILED, "; ".join(wrong), "uv sync")
    known = ", ".join(f"{name} {version(name)}" for name in ("duckdb", "sqlmesh", "apache-hamilton"))
    return Finding("versions", Verdict.OK, f"Python {python}, {known}")


def _code(_settings: Settings, _environ: Mapping[str, str]) -> Finding:
    """Whether all modules of runs and of the console can be imported."""
    from importlib import import_module

    from ops.host.version import code_version

    for module in (*ENTRY_POINTS, "sqlmesh"):
        import_module(module)
    return Finding("code", Verdict.OK, f"commit {code_version()}")


def _disk_space(settings: Settings, _environ: Mapping[str, str]) -> Finding:
    from ops.health.disk import disk_space

    disk = disk_space(settings)
    what = f"{size_text(disk.free_bytes)} free at {disk.folder}, at least {size_text(disk.needed_bytes)} required"
    if disk.is_low:
        return Finding("disk space", Verdict.FAILED, what, "free some space, or lower MATERIA_MIN_FREE_MB")
    return Finding("disk space", Verdict.OK, what)


def _lakehouse(settings: Settings, _environ: Mapping[str, str]) -> Finding:
    """Whether the lakehouse opens; checked only while no run writes to it."""
    from ops.host.lock import writer_lock

    if settings.lake and (missing := settings.lake.missing_packages()):
        step = f"uv sync --extra {settings.lake.extra}, on the supervisor's host MATERIA_EXTRAS={settings.lake.extra}"
        return Finding("lakehouse", Verdict.FAILED, f"{', '.join(missing)} missing", step)
    if isinstance(settings.lake, DuckLake):
        return _ducklake(settings.lake)
    if isinstance(settings.lake, SparkLakehouse):
        return _spark(settings.lake)
    if not settings.lakehouse_path.exists():
        return Finding("lakehouse", Verdict.OK, "does not exist yet: the first transform creates it")
    try:
        with writer_lock(settings.lock_path, "doctor"):
            tables = _tables(settings.lakehouse_path)
    except LockHeldError:
        return Finding("lakehouse", Verdict.OK, "not checked, because a run is writing to it")
    except _duckdb_error() as error:
        if locked := lock_conflict(str(error)):
            what, _, next_step = locked.partition("; ")
            return Finding("lakehouse", Verdict.WARNING, what, next_step)
        # A warning, because runs rebuild it, and a commit that repairs it must not be refused.
        return Finding("lakehouse", Verdict.WARNING, str(error), "materia run-all, which builds it again")
    return Finding("lakehouse", Verdict.OK, f"{settings.lakehouse_path} opens, {tables} tables and views")


def _ducklake(lake: DuckLake) -> Finding:
    """Whether its catalog answers and its data is reachable; readers wait for no writer."""
    import duckdb

    from ops.host.lakehouse_lock import catalog_exists

    _check_data(lake)
    if not catalog_exists(lake):
        return Finding("lakehouse", Verdict.OK, f"{lake}: does not exist yet, the first transform creates it")
    with duckdb.connect() as connection:
        lake.attach(connection, read_only=True)
        (tables,) = connection.execute(f"SELECT COUNT(*) FROM ducklake_table_info('{CATALOG}')").fetchone() or (0,)
    return Finding("lakehouse", Verdict.OK, f"{lake}: opens, {tables} tables")


def _check_data(lake: DuckLake) -> None:
    """Raise an error if the location of a DuckLake's files cannot be reached or written to."""
    if lake.bucket is not None:
        from dataflows.objects.store import ObjectStore

        prefix = lake.data.removeprefix(f"s3://{lake.bucket.name}").strip("/")
        next(iter(ObjectStore(lake.bucket).list(f"{prefix}/")), None)
        return
    _check_folder(Path(lake.data), "DUCKLAKE_DATA")


def _check_folder(folder: Path, setting: str) -> None:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        raise SettingsError(f"cannot write to {existing}; chown it to {os.getuid()}, or set another {setting}")


def _spark(spark: SparkLakehouse) -> Finding:
    """Whether Java has a version that Spark runs on, the master answers, warehouse and metastore are reachable."""
    from importlib.metadata import version

    from dataflows.lakehouse.spark_driver import check_address, check_master
    from ops.host.lakehouse_lock import connect

    java = _java_version()
    if java not in JAVA_VERSIONS:
        what = f"Java {java} is not one that Spark runs on" if java else "java is not installed"
        step = "apt-get install default-jre-headless, or set JAVA_HOME to Java 17"
        return Finding("lakehouse", Verdict.FAILED, what, step)
    spark.properties()
    check_master(spark.master)
    if spark.has_folder:
        _check_folder(Path(spark.warehouse), "SPARK_WAREHOUSE")
    if isinstance(spark.metastore, str):
        check_address(spark.metastore, "the Hive metastore", "SPARK_METASTORE")
    if isinstance(spark.metastore, PostgresCatalog) and spark.driver_path is None:
        what = "the JDBC driver of PostgreSQL is not installed"
        step = "apt-get install libpostgresql-jdbc-java, or name it in spark.driver.extraClassPath (SPARK_PROPERTIES)"
        return Finding("lakehouse", Verdict.FAILED, what, step)
    for each in (spark.metastore, spark.state):
        if isinstance(each, PostgresCatalog):
            connect(spark, each, "doctor").close()
        elif isinstance(each, Path):
            _check_folder(each, "SPARK_METASTORE or SPARK_STATE")
    what = f"pyspark {version('pyspark')}, Java {java}, {spark}"
    return Finding("lakehouse", Verdict.OK, what if spark.tables_path.exists() else f"{what}: no transform yet")


def _java_version() -> int | None:
    """The major version of the Java that Spark starts; None when there is none."""
    home = os.environ.get("JAVA_HOME")
    program = shutil.which(str(Path(home) / "bin" / "java") if home else "java")
    if program is None:
        return None
    asked = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=TIMEOUT_S)
    found = re.search(r'version "(?:1\.)?(\d+)', asked.stderr)
    return int(found[1]) if found else None


def _serving(settings: Settings, _environ: Mapping[str, str]) -> Finding:
    from dataflows.serving.store import ServingStore

    served = ServingStore(settings.serving_path).served()
    if served is None:
        return Finding("serving", Verdict.OK, "nothing is served yet: the first run publishes")
    try:
        tables = _tables(settings.serving_path.resolve())
    except _duckdb_error() as error:
        return Finding("serving", Verdict.WARNING, str(error), "materia run-all, which publishes it again")
    return Finding("serving", Verdict.OK, f"generation {served.number} opens, {tables} tables and views")


def _tables(path: Path) -> int:
    import duckdb

    with duckdb.connect(str(path), read_only=True) as connection:
        rows = connection.execute(
            "SELECT count(*) FROM duckdb_tables() WHERE NOT internal "
            "UNION ALL SELECT count(*) FROM duckdb_views() WHERE NOT internal"
        ).fetchall()
        return sum(int(count) for (count,) in rows)


def _duckdb_error() -> type[Exception]:
    import duckdb

    return duckdb.Error


def _landing(settings: Settings, _environ: Mapping[str, str]) -> Finding:
    from ops.integrity.damage import known_damage
    from ops.integrity.record import Kind
    from ops.pipelines.remote import landing_of, remote_of

    landing = landing_of(settings, remote_of(settings))
    snapshots = landing.snapshots()
    workspace = landing.workspace
    existing = next(path for path in (workspace, *workspace.parents) if path.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        return Finding("landing", Verdict.FAILED, f"cannot write to {existing}", f"chown it to {os.getuid()}")
    damaged = [each for each in known_damage(settings) if each.kind in (Kind.ZIP, Kind.BUCKET_ZIP)]
    if damaged:
        what = (
            f"{len(damaged)} of {len(snapshots)} landed zips are damaged, such as {damaged[0].name}: {damaged[0].why}"
        )
        return Finding("landing", Verdict.WARNING, what, "materia landing repair")
    return Finding("landing", Verdict.OK, f"{len(snapshots)} snapshots landed, no damage is known")


def _iceberg(settings: Settings, _environ: Mapping[str, str]) -> Finding:
    """Whether the Iceberg catalog accepts the credentials; runs do not need it."""
    from dataflows.iceberg.catalog import open_catalog

    if settings.iceberg is None:
        return Finding("iceberg", Verdict.OK, "no catalog is set")
    try:
        open_catalog(settings.iceberg)
    except MateriaError as error:
        what, _, next_step = str(error).partition("; ")
        return Finding("iceberg", Verdict.WARNING, what, next_step)
    return Finding("iceberg", Verdict.OK, f"{settings.iceberg} answers")


def _clock(settings: Settings, _environ: Mapping[str, str]) -> Finding:
    """Compare this host's clock with the archive's; this also shows whether the archive answers."""
    import httpx

    try:
        answer = httpx.head(settings.archive_url, timeout=TIMEOUT_S)
        archive_time = _date_of(answer.headers.get("Date", ""))
    except httpx.HTTPError as error:
        step = "check that PSD_ARCHIVE_URL is reachable; runs wait for it"
        return Finding("clock", Verdict.WARNING, f"the archive does not answer: {error}", step)
    if archive_time is None:
        return Finding("clock", Verdict.WARNING, "the archive's answer has no valid Date header")
    difference = utc_now() - archive_time
    what = f"{abs(difference.total_seconds()):.0f} s difference to the archive's clock"
    if abs(difference) > MAX_CLOCK_DIFFERENCE:
        return Finding("clock", Verdict.FAILED, what, "timedatectl set-ntp true")
    return Finding("clock", Verdict.OK, what)


def _date_of(text: str) -> datetime | None:
    from email.utils import parsedate_to_datetime

    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def _esc(settings: Settings, environ: Mapping[str, str]) -> Finding:
    wanted = settings.supervision.esc_environment
    found = shutil.which("esc", path=environ.get("PATH"))
    if found:
        return Finding("esc", Verdict.OK, f"{found}, environment {wanted or 'not named'}")
    if wanted:
        return Finding("esc", Verdict.FAILED, f"not installed, and scheduled runs need {wanted}", "install Pulumi ESC")
    return Finding("esc", Verdict.WARNING, "not installed", "needed only where secrets come from Pulumi ESC")


def _ssh(_settings: Settings, environ: Mapping[str, str]) -> Finding:
    found = shutil.which("ssh", path=environ.get("PATH"))
    if found is None:
        return Finding("ssh", Verdict.WARNING, "not installed", "apt-get install openssh-client, for workers")
    return Finding("ssh", Verdict.OK, found)


def _any_provider(_settings: Settings, environ: Mapping[str, str]) -> Finding | None:
    if any(environ.get(name, "").strip() for provider in PROVIDERS for name in needed_by(provider)):
        return None
    return Finding("provider", Verdict.WARNING, "no provider's credentials are set", "needed only for workers")


def _provider(name: str, _settings: Settings, environ: Mapping[str, str]) -> Finding | None:
    """A provider that any name is set for: whether all of them are, its client is installed, and it takes them."""
    needed = needed_by(name)
    missing = [each for each in needed if not environ.get(each, "").strip()]
    if len(missing) == len(needed):
        return None
    what = f"provider {name}"
    if missing:
        return Finding(what, Verdict.WARNING, f"{', '.join(missing)} not set", "set all of its names, or none")
    from ops.workers.errors import RefusedError

    failure = _ask_provider(name, environ, CLIENT_TIMEOUT_S)
    if failure is None:
        return Finding(what, Verdict.OK, f"{name} accepts the credentials")
    verdict = Verdict.FAILED if isinstance(failure, RefusedError | SettingsError) else Verdict.WARNING
    reason, _, next_step = str(failure).rpartition("; ")
    return Finding(what, verdict, reason, next_step)


def _ask_provider(name: str, environ: Mapping[str, str], seconds: float) -> MateriaError | None:
    """List a provider's workers within a time limit; return the error, or None if it answered."""
    from threading import Thread

    from ops.workers.settings import WorkerSettings, provider_of

    found: list[MateriaError | None] = []

    def ask() -> None:
        try:
            provider_of(name, WorkerSettings.from_environ(environ), pause_s=_PROVIDER_PAUSE_S).list_instances()
            found.append(None)
        except MateriaError as error:
            found.append(error)

    thread = Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else MateriaError(f"{name} did not answer within {seconds:.0f} s; try again later")
