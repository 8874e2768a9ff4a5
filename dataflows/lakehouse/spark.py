"""A lakehouse on Apache Spark: its tables in the warehouse, their names in a Hive metastore.

SQLMesh's child process is the driver of the Spark application; nothing else imports pyspark. The serving tables leave
Spark as Parquet files in a folder of this host, from which generations are built as from any other lakehouse.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from dataflows.errors import LakehouseError
from dataflows.files import write_durably
from dataflows.lakehouse.ducklake import CATALOG, PostgresCatalog
from dataflows.sql_text import literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

DRIVERS = ("/usr/share/java/postgresql.jar", "/usr/share/java/postgresql-jdbc.jar")
"""Where Debian and Fedora put the JDBC driver of PostgreSQL."""

_MODEL = "org.apache.hadoop.hive.metastore.model"
_METASTORE = (
    *("Database", "Table", "Partition", "Index", "Function", "Constraint", "Role", "RoleMap", "Type", "VersionTable"),
    *("GlobalPrivilege", "DBPrivilege", "TablePrivilege", "PartitionPrivilege", "TableColumnPrivilege"),
    *("PartitionColumnPrivilege", "PartitionEvent", "TableColumnStatistics", "PartitionColumnStatistics"),
    *("MasterKey", "DelegationToken", "NotificationLog", "NotificationNextId"),
)
_OPTIONS = "spark.driver.extraJavaOptions"

_CHANGEABLE = {
    "spark.app.name": "materia",
    "spark.log.level": "ERROR",
    # A release reads its own partition and the one before, whatever Spark estimates. By default it reads every release
    # where it cannot use the list of releases a second time.
    "spark.sql.optimizer.dynamicPartitionPruning.reuseBroadcastOnly": "false",
    "spark.sql.optimizer.dynamicPartitionPruning.useStats": "false",
    "spark.sql.shuffle.partitions": "8",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}
"""Properties that SPARK_PROPERTIES may change. Spark's own 200 partitions are for a hundred times the rows."""

_FIXED = {
    # Overflow and invalid text are errors, as on DuckDB.
    "spark.sql.ansi.enabled": "true",
    "spark.sql.catalogImplementation": "hive",
    "spark.sql.legacy.createHiveTableByDefault": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.sources.default": "parquet",
}
"""Properties on which the content of the tables depends."""


@dataclass(frozen=True)
class SparkLakehouse:
    """Where Spark is, where it keeps tables and names, and where SQLMesh keeps its state."""

    master: str
    """Spark's master: `local[*]`, `spark://host:7077`, `yarn`, `k8s://…`."""
    warehouse: str
    """The tables: a folder that every machine of the cluster sees under this path, or a URL of a Hadoop file system."""
    metastore: Path | PostgresCatalog | str
    """The names: a folder of the embedded Derby, a database in PostgreSQL, or the `thrift://` URL of a metastore."""
    state: Path | PostgresCatalog
    fetched: Path
    """A folder of this host, to which the serving tables are copied where the warehouse is none."""
    properties_path: Path | None = None
    """A file of Spark properties of the operator."""

    extra = "spark"
    """The extra of this package that brings what it needs."""
    sharing_step = "set SPARK_MASTER, a SPARK_METASTORE and SPARK_STATE in PostgreSQL, and a SPARK_WAREHOUSE=s3a://…"
    """What to do so that other machines can work on it."""
    check_step = "check SPARK_METASTORE, SPARK_STATE and SPARK_PASSWORD"
    """What to do when its PostgreSQL does not answer."""

    def __str__(self) -> str:
        return f"Spark at {self.master}, tables in {self.warehouse}, names in {self.metastore_text}"

    @property
    def metastore_text(self) -> str:
        """The metastore as its setting writes it, without a password."""
        return f"derby:{self.metastore}" if isinstance(self.metastore, Path) else str(self.metastore)

    @property
    def is_shared(self) -> bool:
        """Whether other machines can work on it too."""
        on_this_host = (
            self.is_local,
            self.has_folder,
            *(isinstance(each, Path) for each in (self.metastore, self.state)),
        )
        return not any(on_this_host)

    @property
    def is_local(self) -> bool:
        """Whether Spark runs within the driver's process."""
        return self.master.startswith("local")

    @property
    def has_folder(self) -> bool:
        """Whether the warehouse is a folder: then the landing is one too, and Spark reads it where it is."""
        return "://" not in self.warehouse

    @property
    def names(self) -> Path | PostgresCatalog | str:
        """Where the names of its tables are: without them SQLMesh's state is of no use."""
        return self.metastore

    @property
    def lock_at(self) -> Path | PostgresCatalog:
        """What a writer locks: a file, or the server that keeps SQLMesh's state."""
        return self.state.with_name(f"{self.state.name}.lock") if isinstance(self.state, Path) else self.state

    @property
    def driver_path(self) -> str | None:
        """The JDBC driver of PostgreSQL: the operator's class path, or where packages put it; None when not there."""
        named = self._operators().get("spark.driver.extraClassPath")
        return named or next((path for path in DRIVERS if Path(path).exists()), None)

    @property
    def tables_path(self) -> Path:
        """The folder with the serving tables of the last transform, as Parquet files."""
        return Path(self.export_url) if self.has_folder else self.fetched

    @property
    def export_url(self) -> str:
        """Where Spark writes the serving tables."""
        return f"{self.warehouse}/exported"

    @property
    def _record_path(self) -> Path:
        return Path(self.warehouse, "files.json")

    def missing_packages(self) -> tuple[str, ...]:
        """The required Python packages that are not installed; does not import them."""
        needed = {"pyspark": "pyspark"}
        if isinstance(self.state, PostgresCatalog):
            needed["psycopg2"] = "psycopg2-binary"
        return tuple(package for module, package in needed.items() if find_spec(module) is None)

    def properties(self) -> Mapping[str, str]:
        """Every Spark property, the operator's among them, a password too. Raises LakehouseError for its file."""
        return (
            _CHANGEABLE
            # Within one process, nothing needs to listen on the network.
            | ({"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"} if self.is_local else {})
            | self._operators()
            | _FIXED
            | {"spark.master": self.master, "spark.sql.warehouse.dir": self.warehouse}
            | self._metastore_properties()
        )

    def attach(self, connection: "DuckDBPyConnection", *, read_only: bool, alias: str = CATALOG) -> None:
        """Attach the serving tables of the last transform, read from their Parquet files."""
        tables = sorted(path for path in self.tables_path.glob("*") if path.is_dir())
        if not read_only or not tables:
            raise LakehouseError(f"{self}: no table was exported yet; run `materia pipeline run transform`")
        connection.execute(f"ATTACH ':memory:' AS {alias}")
        connection.execute(f"CREATE SCHEMA {alias}.serving")
        for path in tables:
            files = literal(path / "*.parquet")
            connection.execute(f"CREATE VIEW {alias}.serving.{path.name} AS FROM read_parquet({files})")

    def recorded_files(self) -> dict[str, int]:
        """The tables' files after the last transform, with their sizes in bytes.

        None where that is unknown: while a transform runs, after one that failed, and where the warehouse is no folder.
        """
        try:
            files = json.loads(self._record_path.read_text())
            return {str(Path(self.warehouse, name)): int(size_bytes) for name, size_bytes in files.items()}
        except (OSError, ValueError):
            return {}

    def record_files(self, folders: Iterable[str]) -> None:
        """Record the files in these folders of the warehouse, and the exported ones."""
        if not self.has_folder:
            return
        root = Path(self.warehouse)
        files = (path for folder in (self.tables_path.name, *folders) for path in (root / folder).rglob("*.parquet"))
        sizes = {str(path.relative_to(root)): path.stat().st_size for path in files}
        write_durably(self._record_path, json.dumps(sizes, indent=1))

    def file_faults(self) -> dict[str, str]:
        """Why each recorded file that is missing, or has another size, is damaged."""
        found = {}
        for where, recorded in self.recorded_files().items():
            try:
                size_bytes = Path(where).stat().st_size
            except FileNotFoundError:
                found[where] = "it is missing"
            else:
                if size_bytes != recorded:
                    found[where] = f"it has {size_bytes:,} bytes instead of {recorded:,}"
        return found

    def forget_files(self) -> None:
        """Forget the recorded files, because something is about to write here; not while one is damaged."""
        if self.has_folder and not self.file_faults():
            self._record_path.unlink(missing_ok=True)

    def size_bytes(self, connection: "DuckDBPyConnection") -> int:
        """DuckDB's own format takes up to three times what Parquet takes."""
        return 3 * sum(path.stat().st_size for path in self.tables_path.rglob("*.parquet"))

    def _operators(self) -> dict[str, str]:
        if self.properties_path is None:
            return {}
        try:
            lines = self.properties_path.read_text().splitlines()
        except OSError as error:
            raise LakehouseError(f"{error.strerror}: {self.properties_path}; fix SPARK_PROPERTIES") from error
        pairs = (
            re.split(r"\s*[=:]\s*|\s+", line, maxsplit=1) for line in map(str.strip, lines) if line[:1] not in "#!"
        )
        return {name: "".join(value) for name, *value in pairs}

    def _metastore_properties(self) -> dict[str, str]:
        if isinstance(self.metastore, str):
            return {"spark.hadoop.hive.metastore.uris": self.metastore}
        # The metastore's own tables are created when they are missing: all at the start. Hive would create some within
        # a transaction on others, and wait in PostgreSQL for its own locks.
        found = {
            "spark.hadoop.datanucleus.autoStartMechanism": "Classes",
            "spark.hadoop.datanucleus.autoStartClassNames": ",".join(f"{_MODEL}.M{name}" for name in _METASTORE),
            "spark.hadoop.datanucleus.schema.autoCreateAll": "true",
            "spark.hadoop.hive.metastore.schema.verification": "false",
        }
        jdo = "spark.hadoop.javax.jdo.option.Connection"
        if isinstance(self.metastore, Path):
            options = f"{self._operators().get(_OPTIONS, '')} -Dderby.stream.error.file={self.metastore}.log"
            url = f"jdbc:derby:;databaseName={self.metastore};create=true"
            return found | {f"{jdo}URL": url, _OPTIONS: options.strip()}
        at = self.metastore
        classes = {"spark.driver.extraClassPath": self.driver_path} if self.driver_path else {}
        return {
            **found,
            f"{jdo}URL": f"jdbc:postgresql://{at.host}:{at.port}/{at.database}?sslmode={at.sslmode}",
            f"{jdo}DriverName": "org.postgresql.Driver",
            f"{jdo}UserName": at.user,
            f"{jdo}Password": at.password,
            **classes,
        }
