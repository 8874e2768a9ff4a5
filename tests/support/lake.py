"""Reads the Iceberg catalog with pyiceberg and DuckDB, independently of the code under test."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb
from pyiceberg.catalog import load_catalog
from pyiceberg.table import Table

from dataflows.iceberg.catalog import CatalogAddress
from dataflows.serving.build import SERVING_TABLES
from tests.support.object_server import WAREHOUSE, WRITER, ObjectServer

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Lake:
    """A namespace of the server's warehouse that no other test uses."""

    server: ObjectServer
    namespace: str

    @classmethod
    def of(cls, server: ObjectServer) -> "Lake":
        return cls(server, f"serving_{next(_numbers)}")

    @property
    def address(self) -> CatalogAddress:
        credential = f"{WRITER.access_key}:{WRITER.secret_key}"
        return CatalogAddress(self.server.catalog_uri, f"s3://{WAREHOUSE}", self.namespace, credential=credential)

    @property
    def environ(self) -> dict[str, str]:
        """Return the settings of the catalog; none of them is a key of the object storage."""
        return {
            "ICEBERG_CATALOG_URI": self.address.uri,
            "ICEBERG_WAREHOUSE": self.address.warehouse,
            "ICEBERG_CREDENTIAL": str(self.address.credential),
            "ICEBERG_NAMESPACE": self.namespace,
        }

    @cached_property
    def catalog(self) -> Any:
        given = self.address
        return load_catalog(
            "reader",
            type="rest",
            uri=given.uri,
            warehouse=given.warehouse,
            credential=given.credential,
            **{"oauth2-server-uri": f"{given.uri}/v1/oauth/tokens"},
        )

    def table(self, name: str) -> Table:
        return self.catalog.load_table(f"{self.namespace}.{name}")

    def tables(self) -> dict[str, Table]:
        names = sorted(name[-1] for name in self.catalog.list_tables(self.namespace))
        return {name: self.table(name) for name in names}

    def heads(self) -> dict[str, str]:
        """Return each table's metadata location, which changes with every commit."""
        return {name: table.metadata_location for name, table in self.tables().items()}

    def files(self, table: str) -> set[str]:
        """Return the data files of a table's current snapshot."""
        return {task.file.file_path for task in self.table(table).scan().plan_files()}

    def objects(self, table: str = "") -> set[str]:
        """Return the keys of all objects of the namespace, or of a table."""
        pages = self.server.client.get_paginator("list_objects_v2").paginate(
            Bucket=WAREHOUSE, Prefix=f"{self.namespace}/{table}"
        )
        return {each["Key"] for page in pages for each in page.get("Contents", ()) if not each["Key"].endswith("/")}

    @contextmanager
    def duckdb(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a DuckDB with the warehouse attached as `lake`."""
        connection = duckdb.connect()
        try:
            for name in ("httpfs", "avro", "iceberg"):
                connection.execute(f"LOAD '{_extension(name)}'")
            connection.execute(
                f"CREATE SECRET (TYPE iceberg, CLIENT_ID '{WRITER.access_key}', CLIENT_SECRET '{WRITER.secret_key}', "
                f"OAUTH2_SERVER_URI '{self.address.uri}/v1/oauth/tokens')"
            )
            connection.execute(
                f"ATTACH '{self.address.warehouse}' AS lake (TYPE iceberg, ENDPOINT '{self.address.uri}', READ_ONLY)"
            )
            yield connection
        finally:
            connection.close()

    def differing(self, generation_path: Path) -> dict[str, str]:
        """Return the tables whose rows differ from the generation's, and the reader that found it."""
        found = {}
        with self.duckdb() as connection:
            connection.execute(f"ATTACH '{generation_path}' AS generation (READ_ONLY)")
            served = connection.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = 'generation'")
            for name in {name for (name,) in served.fetchall()} & set(SERVING_TABLES):
                connection.register("by_pyiceberg", self.table(name).scan().to_arrow())
                connection.execute(f"CREATE OR REPLACE TEMP TABLE by_duckdb AS FROM lake.{self.namespace}.{name}")
                for reader in ("by_pyiceberg", "by_duckdb"):
                    if not _is_same(connection, f"generation.serving.{name}", reader):
                        found[name] = reader
        return found


def with_token(address: CatalogAddress) -> CatalogAddress:
    """Return the same catalog with a token of its OAuth endpoint instead of the credential."""
    import httpx

    client_id, _, secret = str(address.credential).partition(":")
    form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret}
    granted = httpx.post(f"{address.uri}/v1/oauth/tokens", data=form).json()["access_token"]
    return replace(address, token=granted, credential=None)


def _is_same(connection: duckdb.DuckDBPyConnection, first: str, second: str) -> bool:
    """Return whether both have the same columns and, in any order, the same rows."""
    columns = [_columns(connection, each) for each in (first, second)]
    if columns[0] != columns[1]:
        return False
    listed = ", ".join(f'"{name}"' for name in columns[0])
    sql = (
        f"SELECT (SELECT count(*) FROM {first}) = (SELECT count(*) FROM {second}), "
        f"NOT EXISTS (SELECT {listed} FROM {first} EXCEPT ALL SELECT {listed} FROM {second})"
    )
    return connection.execute(sql).fetchone() == (True, True)


def _columns(connection: duckdb.DuckDBPyConnection, relation: str) -> list[str]:
    return sorted(name for name, *_ in connection.execute(f"DESCRIBE FROM {relation}").fetchall())


def _extension(name: str) -> Path:
    """Return the path of an extension in its wheel."""
    spec = find_spec(f"duckdb_extension_{name}")
    assert spec is not None and spec.origin is not None
    return next(Path(spec.origin).parent.rglob("*.duckdb_extension"))
