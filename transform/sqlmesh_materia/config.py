"""SQLMesh's configuration: the lakehouse from Materia's settings, its state in a file or database of its own."""

import atexit
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from pydantic import Field
from sqlmesh.core.config import (
    AutoCategorizationMode,
    CategorizerConfig,
    Config,
    DuckDBConnectionConfig,
    GatewayConfig,
    LinterConfig,
    ModelDefaultsConfig,
    PlanConfig,
    PostgresConnectionConfig,
)
from sqlmesh.core.config.connection import ConnectionConfig, DuckDBAttachOptions
from sqlmesh.core.config.format import FormatConfig

from dataflows.lakehouse.ducklake import CATALOG, DuckLake, PostgresCatalog, SqliteCatalog
from dataflows.lakehouse.transform import models_digest
from ops.config.settings import IS_CHECKOUT, Settings, user_cache_dir

settings = Settings.from_environ()

CONNECTOR = {
    # Without it DuckDB keeps row order through every large insert, which costs memory.
    "preserve_insertion_order": False,
    # Where a query puts what exceeds its memory; DuckDB's own choice is the folder of the code.
    "temp_directory": str(settings.lakehouse_path.with_name(f"{settings.lakehouse_path.name}.tmp")),
    # Views name the landing's files relative to it: the lakehouse may move between machines.
    "file_search_path": str(settings.landing_dir),
}


class DuckLakeConnection(DuckDBConnectionConfig):
    """A connection on which a DuckLake is attached before SQLMesh looks for it."""

    lake: Any = Field(repr=False, exclude=True)
    """Gives the DuckLake, which is left out of whatever SQLMesh writes about its connections."""

    @property
    def _cursor_init(self) -> Callable[[Any], None]:
        then: Callable[[Any], None] | None = super()._cursor_init

        def init(cursor: Any) -> None:
            self.lake().attach(cursor, read_only=False)
            if then:
                then(cursor)

        return init


def connection_to(name: str, lake: Callable[[], DuckLake]) -> DuckLakeConnection:
    """SQLMesh's connection to a DuckLake. Comments are kept by `serving.column_comment`, see macros/comments.py."""
    return DuckLakeConnection(
        lake=lake,
        catalogs={CATALOG: DuckDBAttachOptions(type="ducklake", path=name)},
        connector_config=CONNECTOR,
        register_comments=False,
    )


@cache
def scratch() -> DuckLake:
    """An empty DuckLake for the models' unit tests, made when they run and gone with this process."""
    folder = Path(mkdtemp(prefix="materia-ducklake-"))
    atexit.register(shutil.rmtree, folder)
    return DuckLake(SqliteCatalog(folder / "catalog.sqlite"), str(folder / "data"))


def state_of(lake: DuckLake) -> ConnectionConfig:
    """Where SQLMesh remembers what it did: wherever the catalog is."""
    if isinstance(lake.catalog, PostgresCatalog):
        return PostgresConnectionConfig(
            host=lake.catalog.host,
            port=lake.catalog.port,
            database=lake.catalog.database,
            user=lake.catalog.user,
            password=lake.catalog.password,
            sslmode=lake.catalog.sslmode,
        )
    forget_unless_there(lake.catalog.path, lake.catalog.state_path)
    return DuckDBConnectionConfig(database=str(lake.catalog.state_path))


def forget_unless_there(lakehouse: Path, state: Path) -> None:
    """Of a lakehouse that was moved away to be built anew, SQLMesh would remember tables that are no longer there."""
    lakehouse.parent.mkdir(parents=True, exist_ok=True)
    if not lakehouse.exists():
        for suffix in ("", ".wal"):
            state.with_name(state.name + suffix).unlink(missing_ok=True)


def gateway() -> GatewayConfig:
    """The one that the settings name."""
    if lake := settings.used_ducklake:
        return GatewayConfig(
            connection=connection_to(lake.catalog.target, lambda: lake),
            state_connection=state_of(lake),
            test_connection=connection_to("scratch", scratch),
        )
    forget_unless_there(settings.lakehouse_path, settings.sqlmesh_state_path)
    return GatewayConfig(
        connection=DuckDBConnectionConfig(
            catalogs={CATALOG: DuckDBAttachOptions(type="duckdb", path=str(settings.lakehouse_path))},
            connector_config=CONNECTOR,
        ),
        state_connection=DuckDBConnectionConfig(database=str(settings.sqlmesh_state_path)),
    )


def cache_dir() -> str | None:
    """SQLMesh's cache: in the project in a checkout; an installed wheel's code is not written to."""
    if IS_CHECKOUT:
        return None
    return str(user_cache_dir() / "sqlmesh" / models_digest())


config = Config(
    project="materia",
    cache_dir=cache_dir(),
    disable_anonymized_analytics=True,
    gateways={settings.gateway: gateway()},
    default_gateway=settings.gateway,
    model_defaults=ModelDefaultsConfig(dialect="duckdb", start="1990-01-01", cron="@daily"),
    plan=PlanConfig(
        auto_categorize_changes=CategorizerConfig(sql=AutoCategorizationMode.FULL),
        auto_apply=True,
        no_prompts=True,
        no_diff=True,
        # A development environment is whole, also in what it shares with production: the macros below need it.
        include_unmodified=True,
    ),
    after_all=["@create_asof_macros()", "@create_column_comment()"],
    linter=LinterConfig(
        enabled=True,
        rules={"ambiguousorinvalidcolumn", "invalidselectstarexpansion", "noselectstar", "nomissingaudits"},
    ),
    format=FormatConfig(normalize=False),
)
