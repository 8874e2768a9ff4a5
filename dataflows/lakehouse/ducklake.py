"""A DuckLake: the lakehouse as Parquet files in a folder or a bucket, its catalog in SQLite or PostgreSQL.

DuckDB's extensions come from Python packages (`materia[ducklake]`) and are loaded from there;
nothing is downloaded. The caller imports duckdb.
"""

import shlex
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dataflows.errors import LakehouseError, MissingToolError
from dataflows.sql_text import literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from dataflows.objects.store import Bucket

CATALOG = "lakehouse"
"""The catalog name of every attached lakehouse: its views and macros contain the name."""


@dataclass(frozen=True)
class SqliteCatalog:
    """A catalog in a file, for the processes of one host."""

    path: Path
    extension = "sqlite_scanner"

    def __str__(self) -> str:
        return f"sqlite:{self.path}"

    @property
    def target(self) -> str:
        return f"sqlite:{self.path}"

    @property
    def state_path(self) -> Path:
        """The file with SQLMesh's state for an SQLite catalog; a PostgreSQL catalog stores it in the same database."""
        return self.path.with_name(f"{self.path.stem}-ducklake-state.duckdb")


@dataclass(frozen=True)
class PostgresCatalog:
    """A catalog in a PostgreSQL database, for several machines. Its `repr` shows no password."""

    host: str
    port: int
    database: str
    user: str
    password: str = field(repr=False)
    sslmode: str = "prefer"
    extension = "postgres_scanner"

    def __str__(self) -> str:
        parts = {"host": self.host, "port": self.port, "dbname": self.database, "user": self.user}
        return "postgres:" + " ".join(
            shlex.quote(f"{name}={value}") for name, value in (parts | {"sslmode": self.sslmode}).items()
        )

    @property
    def target(self) -> str:
        """The name of the secret with the connection's host and user, so that no message repeats them."""
        return f"postgres:sslmode={self.sslmode} connect_timeout=10"


@dataclass(frozen=True)
class DuckLake:
    """Where the catalog is and where the data."""

    catalog: SqliteCatalog | PostgresCatalog
    data: str
    """A folder, or `s3://bucket/prefix`."""
    bucket: "Bucket | None" = None
    """The keys to the data where it is in a bucket."""

    extra = "ducklake"
    """The extra of this package that brings what it needs."""
    sharing_step = "set DUCKLAKE_CATALOG=postgres:… and DUCKLAKE_DATA=s3://…"
    """What to do so that other machines can work on it."""
    check_step = "check DUCKLAKE_CATALOG and DUCKLAKE_PASSWORD"
    """What to do when its PostgreSQL does not answer."""

    def __str__(self) -> str:
        return f"DuckLake {self.catalog}, data in {self.data}"

    @property
    def is_shared(self) -> bool:
        """Whether other machines can work on it too."""
        return isinstance(self.catalog, PostgresCatalog) and self.bucket is not None

    @property
    def names(self) -> Path | PostgresCatalog:
        """Where the names of its tables are: without them SQLMesh's state is of no use."""
        return self.catalog if isinstance(self.catalog, PostgresCatalog) else self.catalog.path

    @property
    def lock_at(self) -> Path | PostgresCatalog:
        """What a writer locks: a file, or the catalog's server."""
        path = self.names
        return path.with_name(f"{path.name}.lock") if isinstance(path, Path) else path

    @property
    def state(self) -> Path | PostgresCatalog:
        """Where SQLMesh keeps its state: wherever the catalog is."""
        return self.catalog if isinstance(self.catalog, PostgresCatalog) else self.catalog.state_path

    @property
    def data_dir(self) -> Path | None:
        """The folder of the data; None when it is in a bucket."""
        return None if self.bucket else Path(self.data)

    @property
    def extensions(self) -> tuple[str, ...]:
        """DuckDB's extensions that it needs, in the order in which they are loaded."""
        return (*(("httpfs",) if self.bucket else ()), self.catalog.extension, "ducklake")

    def missing_packages(self) -> tuple[str, ...]:
        """The required Python packages that are not installed; does not import them."""
        needed = {f"duckdb_extension_{name}": f"duckdb-extension-{name.replace('_', '-')}" for name in self.extensions}
        if isinstance(self.catalog, PostgresCatalog):
            needed["psycopg2"] = "psycopg2-binary"
        return tuple(package for module, package in needed.items() if find_spec(module) is None)

    def attach(self, connection: "DuckDBPyConnection", *, read_only: bool, alias: str = CATALOG) -> None:
        """Attach it as `alias`; the first attach for writing creates it.

        Raises MissingToolError when a package is not installed, LakehouseError when it can't be opened.
        """
        import duckdb

        self.prepare(connection)
        if isinstance(self.catalog, SqliteCatalog) and read_only and not self.catalog.path.exists():
            raise LakehouseError(f"{self} is not there yet; run `materia pipeline run transform`")
        if isinstance(self.catalog, SqliteCatalog) and not read_only:
            _allow_concurrent_readers(self.catalog.path)
        # Inlined rows would live in the catalog; everything stays in Parquet files that any tool can read.
        options = [f"DATA_PATH {literal(self.data)}", "DATA_INLINING_ROW_LIMIT 0"]
        if read_only:
            options.append("READ_ONLY")
        try:
            connection.execute(
                f"ATTACH IF NOT EXISTS {literal('ducklake:' + self.catalog.target)} AS {alias} ({', '.join(options)})"
            )
        except duckdb.Error as error:
            raise LakehouseError(
                f"{self} can't be opened: {error}; look at DUCKLAKE_CATALOG and DUCKLAKE_DATA, or `materia doctor`"
            ) from error

    def size_bytes(self, connection: "DuckDBPyConnection") -> int:
        """DuckDB's own format takes up to three times what Parquet takes."""
        total_of = f"SELECT SUM(file_size_bytes) FROM ducklake_table_info('{CATALOG}')"
        [(total,)] = connection.execute(total_of).fetchall()
        return 3 * int(total or 0)

    def prepare(self, connection: "DuckDBPyConnection") -> None:
        """Load the extensions and create the connection's secrets; raises MissingToolError."""
        if missing := self.missing_packages():
            raise MissingToolError(
                f"a DuckLake needs {', '.join(missing)}; install the extra: `uv sync --extra ducklake`, "
                "on the supervisor's host MATERIA_EXTRAS=ducklake"
            )
        for name in self.extensions:
            connection.execute(f"LOAD {literal(_extension_file(name))}")
        if isinstance(self.catalog, PostgresCatalog):
            _create_secret(connection, "postgres", _postgres_secret(self.catalog))
        if self.bucket:
            _create_secret(connection, "s3", _s3_secret(self.bucket))


def _allow_concurrent_readers(path: Path) -> None:
    """Switch a SQLite file to WAL mode, which is persistent: readers do not block the writer."""
    import sqlite3

    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")


def _extension_file(name: str) -> Path:
    import duckdb

    spec = find_spec(f"duckdb_extension_{name}")
    assert spec is not None and spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "extensions" / f"v{duckdb.__version__}"
    path = folder / f"{name}.duckdb_extension"
    if not path.exists():
        raise MissingToolError(
            f"duckdb-extension-{name.replace('_', '-')} is not of DuckDB {duckdb.__version__}; run `uv sync`"
        )
    return path


def _postgres_secret(catalog: PostgresCatalog) -> Mapping[str, Any]:
    return {
        "HOST": catalog.host,
        "PORT": catalog.port,
        "DATABASE": catalog.database,
        "USER": catalog.user,
        "PASSWORD": catalog.password,
    }


def _s3_secret(bucket: "Bucket") -> Mapping[str, Any]:
    address = urlsplit(bucket.endpoint)
    return {
        "KEY_ID": bucket.access_key,
        "SECRET": bucket.secret_key,
        "ENDPOINT": address.netloc,
        "URL_STYLE": "path",
        "USE_SSL": "true" if address.scheme == "https" else "false",
        "REGION": "auto",
        "SCOPE": f"s3://{bucket.name}",
    }


def _create_secret(connection: "DuckDBPyConnection", kind: str, values: Mapping[str, Any]) -> None:
    """Create or replace a temporary secret of this connection."""
    options = ", ".join(f"{name} {literal(value)}" for name, value in values.items())
    connection.execute(f"CREATE OR REPLACE SECRET (TYPE {kind}, {options})")
