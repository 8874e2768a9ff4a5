"""The driver of a Spark application, in SQLMesh's child process: start, landing tables, export, stop."""

import os
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dataflows.errors import LakehouseError, MissingToolError
from dataflows.lakehouse.spark import SparkLakehouse

if TYPE_CHECKING:
    from sqlmesh import Context

SUBMIT_NAME = "PYSPARK_SUBMIT_ARGS"
"""The environment variable from which pyspark takes the arguments of its launcher."""

LANDING_SCHEMA = "landing"
"""The schema of the external tables over the landing."""

_LANDED = ("raw/*/*/*/rows.parquet", "psd/*.json", "wasde/*.json")
_STOP_TIMEOUT_S = 30
_CONNECT_TIMEOUT_S = 10.0
_AT_A_TIME = 4
_PORTS = {"spark": 7077, "thrift": 9083}


def check_master(master: str) -> None:
    """Raise LakehouseError when no master of a standalone cluster takes connections: Spark would try for a minute."""
    if not master.startswith("spark://"):
        return
    failures = []
    for address in master.removeprefix("spark://").split(","):
        try:
            return check_address(f"spark://{address}", "Spark's master", "SPARK_MASTER")
        except LakehouseError as error:
            failures.append(error)
    raise failures[-1]


def check_address(url: str, name: str, setting: str) -> None:
    """Raise LakehouseError when nothing listens at the address of a URL."""
    try:
        parts = urlsplit(url)
        socket.create_connection((parts.hostname, parts.port or _PORTS[parts.scheme]), _CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        why = (getattr(error, "strerror", None) or str(error)).lower()
        raise LakehouseError(f"{name} does not answer: {why} ({url}); start it, or fix {setting}") from error


@contextmanager
def driver(spark: SparkLakehouse) -> Iterator[dict[str, str]]:
    """Yield the environment in which pyspark starts this driver; stop it at the end.

    Spark's launcher reads every property from a file of this user alone: an argument would show a password.
    """
    if missing := spark.missing_packages():
        raise MissingToolError(
            f"Spark needs {', '.join(missing)}; install the extra: `uv sync --extra spark`, "
            "on the supervisor's host MATERIA_EXTRAS=spark"
        )
    check_master(spark.master)
    try:
        yield {SUBMIT_NAME: submit_arguments(spark)}
    finally:
        remove_properties(spark)
        _stop()


def submit_arguments(spark: SparkLakehouse) -> str:
    """The value of SUBMIT_NAME, with every property in a file that only this user can read.

    `create_landing_tables` deletes it, once Java has read it: a run that is killed later leaves no password behind.
    """
    path = _properties_path(spark)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text("".join(f"{name}={_escaped(value)}\n" for name, value in spark.properties().items()))
    return f"--properties-file {shlex.quote(str(path))} pyspark-shell"


def remove_properties(spark: SparkLakehouse) -> None:
    """Delete the file of `submit_arguments`."""
    _properties_path(spark).unlink(missing_ok=True)


def _properties_path(spark: SparkLakehouse) -> Path:
    return spark.fetched.with_name(f"driver-{os.getpid()}.properties")


def create_landing_tables(context: "Context", spark: SparkLakehouse, landing_dir: Path, dataset: str) -> None:
    """Create the external tables that the raw models read: rows partitioned by release, markers as text."""
    session = _session(context)
    remove_properties(spark)
    root = str(landing_dir) if spark.has_folder else copy_landing(session, landing_dir, f"{spark.warehouse}/landing")
    columns = _columns(context)
    session.sql(f"CREATE DATABASE IF NOT EXISTS {LANDING_SCHEMA}")
    for name, model, folder in (("psd", "raw.psd_alldata", dataset), ("wasde", "raw.wasde_figure", "wasde")):
        if model not in columns:
            continue
        texts = ", ".join(f"{column} STRING" for column in columns[model] if column not in ("key", "released_on"))
        rows = f"{name}_rows ({texts}, released_on DATE, key STRING) USING PARQUET PARTITIONED BY (released_on, key)"
        _create(session, rows, f"{root}/raw/{folder}")
        session.sql(f"MSCK REPAIR TABLE {LANDING_SCHEMA}.{name}_rows")
        text = f"{name}_markers (content STRING) USING TEXT OPTIONS (wholetext 'true', pathGlobFilter '*.json')"
        _create(session, text, f"{root}/{name}")


def export_tables(context: "Context", spark: SparkLakehouse, environment: str) -> None:
    """Write the serving tables and their comments as Parquet files, from which a generation is built on this host.

    Then record the files of these and of all tables of SQLMesh's `environment`.
    """
    from sqlglot import exp

    session = _session(context)
    served = {name: columns for name, columns in _columns(context).items() if name.startswith("serving.")}

    def write(name: str) -> None:
        # A partitioned table has the columns of its partitions last: a generation has the model's order.
        table = session.table(name).select(*served.get(name, ["*"]))
        table.write.mode("overwrite").parquet(f"{spark.export_url}/{name.partition('.')[2]}")

    with ThreadPoolExecutor(_AT_A_TIME, "export") as pool:
        list(pool.map(write, (*served, "serving.column_comment")))
    if not spark.has_folder:
        fetch_folder(session, spark.export_url, spark.fetched)
    deployed = context.state_reader.get_environment(environment)
    tables = [exp.to_table(each.table_name()) for each in (deployed.snapshots if deployed else ())]
    spark.record_files(f"{table.db}.db/{table.name}" for table in tables)


def fetch_folder(session: Any, url: str, folder: Path) -> None:
    """Copy a folder of the cluster's file system to this host, in place of what is there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    system, path = _file_system(session, url)
    system.copyToLocalFile(False, path(url), path(str(folder)), True)


def copy_landing(session: Any, landing_dir: Path, url: str) -> str:
    """Bring the landing's rows and markers to the file system of the cluster; only what is new there is copied."""
    system, path = _file_system(session, url)
    landed = {each.relative_to(landing_dir).as_posix(): each for glob in _LANDED for each in landing_dir.glob(glob)}
    copied: dict[str, Any] = {}
    if system.exists(path(url)):
        files = system.listFiles(path(url), True)
        prefix = f"{system.makeQualified(path(url))}/"
        while files.hasNext():
            file = files.next()
            copied[file.getPath().toString().removeprefix(prefix)] = file
    for name in copied.keys() - landed.keys():
        system.delete(path(f"{url}/{name}"), False)
    for name, source in landed.items():
        there, here = copied.get(name), source.stat()
        if there is None or there.getLen() != here.st_size or there.getModificationTime() < here.st_mtime * 1000:
            system.copyFromLocalFile(False, True, path(str(source)), path(f"{url}/{name}"))
    return url


def _file_system(session: Any, url: str) -> tuple[Any, Any]:
    """Hadoop's file system of a URL, and its constructor of paths."""
    path = session._jvm.org.apache.hadoop.fs.Path
    return path(url).getFileSystem(session.sparkContext._jsc.hadoopConfiguration()), path


def _create(session: Any, table: str, location: str) -> None:
    session.sql(f"DROP TABLE IF EXISTS {LANDING_SCHEMA}.{table.partition(' ')[0]}")
    quoted = location.replace("\\", "\\\\").replace("'", "\\'")
    session.sql(f"CREATE TABLE {LANDING_SCHEMA}.{table} LOCATION '{quoted}'")


def _session(context: "Context") -> Any:
    return context.engine_adapter.spark


def _columns(context: "Context") -> dict[str, list[str]]:
    """The columns of every model, by its name."""
    return {model.name: list(model.columns_to_types or ()) for model in context.models.values()}


def _escaped(value: str) -> str:
    """A value as a file of Java properties has it."""
    return value.replace("\\", "\\\\").replace("\n", "\\n")


def _stop() -> None:
    """End the application and Java, and wait for it: the embedded metastore admits one process."""
    from pyspark import SparkContext

    gateway = SparkContext._gateway
    if SparkContext._active_spark_context is not None:
        SparkContext._active_spark_context.stop()
    if gateway is not None:
        gateway.shutdown()
        gateway.proc.stdin.close()
        try:
            gateway.proc.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            gateway.proc.kill()
