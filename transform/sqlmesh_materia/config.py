"""SQLMesh's configuration: the lakehouse, and SQLMesh's state in a file or database of its own.

It reads these names from the environment: MATERIA_DATA_DIR, LAKEHOUSE_DUCKDB_PATH, PSD_DATASET, MATERIA_GATEWAY, the
DUCKLAKE_* and R2_* settings of a DuckLake, the SPARK_* settings of Spark, SQLMESH_CACHE_DIR, where SQLMesh caches
outside of the project, and SQLMESH_CHECK_COLUMNS, which the linter needs. Loading it creates the lakehouse's directory
and changes nothing else.
"""

import atexit
import os
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
    SparkConnectionConfig,
)
from sqlmesh.core.config.connection import ConnectionConfig, DuckDBAttachOptions
from sqlmesh.core.config.format import FormatConfig
from sqlmesh.core.constants import IGNORE_PATTERNS

from dataflows.lakehouse.ducklake import CATALOG, DuckLake, PostgresCatalog, SqliteCatalog
from dataflows.lakehouse.ducklake_settings import parse_ducklake
from dataflows.lakehouse.spark_driver import SUBMIT_NAME, remove_properties, submit_arguments
from dataflows.lakehouse.spark_settings import parse_spark
from dataflows.lakehouse.stores import LakehouseFile

# The models of WASDE reports are read only where reports are landed: no other installation pays for them. Without any
# landing nothing is computed either, and all models are read, to be checked.
WASDE_MODELS = ("models/wasde/*", "tests/wasde/*")

environment = {name: text.strip() for name, text in os.environ.items() if text.strip()}
data_dir = Path(environment.get("MATERIA_DATA_DIR", Path(__file__).parents[2] / "data")).expanduser().absolute()
lakehouse_path = Path(environment.get("LAKEHOUSE_DUCKDB_PATH", data_dir / "lakehouse.duckdb")).expanduser().absolute()
gateway_name = environment.get("MATERIA_GATEWAY", "duckdb")

# Comments are kept by `serving.column_comment` (macros/comments.py) and copied to every generation. A DuckLake keeps
# none on the columns of views, and registering them on every physical table costs a twelfth of a first transform.
CONNECTOR = {
    # Without it DuckDB keeps row order through every large insert, which costs memory.
    "preserve_insertion_order": False,
    # Where a query puts what exceeds its memory; DuckDB's own choice is the folder of the code.
    "temp_directory": str(lakehouse_path.with_name(f"{lakehouse_path.name}.tmp")),
    # Views name the landing's files relative to it: the lakehouse may move between machines.
    "file_search_path": str(data_dir / "landing"),
}


class DuckLakeConnection(DuckDBConnectionConfig):
    """A connection on which a DuckLake is attached before SQLMesh looks for it."""

    lake: Any = Field(repr=False, exclude=True)
    """Returns the DuckLake. Excluded from what SQLMesh writes about its connections."""

    @property
    def _cursor_init(self) -> Callable[[Any], None]:
        then: Callable[[Any], None] | None = super()._cursor_init

        def init(cursor: Any) -> None:
            self.lake().attach(cursor, read_only=False)
            if then:
                then(cursor)

        return init


def connection_to(name: str, lake: Callable[[], DuckLake]) -> DuckLakeConnection:
    """SQLMesh's connection to a DuckLake."""
    return DuckLakeConnection(
        lake=lake,
        catalogs={CATALOG: DuckDBAttachOptions(type="ducklake", path=name)},
        connector_config=CONNECTOR,
        register_comments=False,
    )


@cache
def scratch() -> DuckLake:
    """An empty DuckLake for the models' unit tests, created on first use and deleted with this process."""
    folder = Path(mkdtemp(prefix="materia-ducklake-"))
    atexit.register(shutil.rmtree, folder)
    return DuckLake(SqliteCatalog(folder / "catalog.sqlite"), str(folder / "data"))


class SparkConnection(SparkConnectionConfig):
    """A connection to Spark on which the days of a plan are replaced whole."""

    @property
    def _engine_adapter(self) -> Any:
        from dataflows.lakehouse.spark_adapter import DayByDayAdapter

        return DayByDayAdapter

    @property
    def _static_connection_kwargs(self) -> dict[str, Any]:
        # A person who types `sqlmesh` gets the properties that SQLMesh's child process starts with. They may write, and
        # the record of files would be wrong.
        if SUBMIT_NAME not in os.environ:
            spark = parse_spark(environment, data_dir)
            spark.forget_files()
            os.environ[SUBMIT_NAME] = submit_arguments(spark)
            atexit.register(remove_properties, spark)
        return super()._static_connection_kwargs


class StateFile(DuckDBConnectionConfig):
    """SQLMesh's state in a file. SQLMesh advises against it for several writers; the writer's lock admits one."""

    @property
    def is_recommended_for_state_sync(self) -> bool:
        return True


def state_at(place: Path | PostgresCatalog, concurrent_tasks: int = 1) -> ConnectionConfig:
    """Where SQLMesh remembers what it did: a DuckDB file, or a database of PostgreSQL."""
    if isinstance(place, PostgresCatalog):
        return PostgresConnectionConfig(
            host=place.host,
            port=place.port,
            database=place.database,
            user=place.user,
            password=place.password,
            sslmode=place.sslmode,
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    return StateFile(database=str(place), concurrent_tasks=concurrent_tasks)


def gateway() -> GatewayConfig:
    """The one that the environment names."""
    if gateway_name == "spark":
        connection = SparkConnection(register_comments=False)
        return GatewayConfig(
            connection=connection,
            state_connection=state_at(parse_spark(environment, data_dir).state, connection.concurrent_tasks),
            test_connection=DuckDBConnectionConfig(),
        )
    if gateway_name == "ducklake" and (lake := parse_ducklake(environment)):
        return GatewayConfig(
            connection=connection_to(lake.catalog.target, lambda: lake),
            state_connection=state_at(lake.state),
            test_connection=connection_to("scratch", scratch),
        )
    lakehouse_path.parent.mkdir(parents=True, exist_ok=True)
    return GatewayConfig(
        connection=DuckDBConnectionConfig(
            catalogs={CATALOG: DuckDBAttachOptions(type="duckdb", path=str(lakehouse_path))},
            connector_config=CONNECTOR,
            register_comments=False,
        ),
        state_connection=state_at(LakehouseFile(lakehouse_path).state_path),
    )


# SQLGlot's optimizer resolves every column, which the linter needs. A transform leaves that to the engine: it would
# take a twelfth of a first one.
checks_columns = "SQLMESH_CHECK_COLUMNS" in environment
# SQLMesh's cache does not tell whether a query was optimized; without folders of their own the linter would find
# queries that were not, and check nothing.
cache_dir = f"{environment.get('SQLMESH_CACHE_DIR', '.cache')}/{'checked' if checks_columns else 'unchecked'}"

landing_dir = data_dir / "landing"
has_reports = any(landing_dir.glob("wasde/*.json")) or not landing_dir.exists()

config = Config(
    project="materia",
    cache_dir=cache_dir,
    disable_anonymized_analytics=True,
    ignore_patterns=[*IGNORE_PATTERNS, *(() if has_reports else WASDE_MODELS)],
    # It would read the metadata of every installed package; macros use the standard library only.
    infer_python_dependencies=False,
    gateways={gateway_name: gateway()},
    default_gateway=gateway_name,
    # A bare `sqlmesh plan` leaves production alone; `sqlmesh plan prod` plans it.
    default_target_environment="dev",
    variables={"dataset": environment.get("PSD_DATASET", "psd_alldata")},
    model_defaults=ModelDefaultsConfig(
        dialect="duckdb", start="1990-01-01", cron="@daily", optimize_query=checks_columns
    ),
    plan=PlanConfig(
        auto_categorize_changes=CategorizerConfig(sql=AutoCategorizationMode.FULL),
        auto_apply=True,
        no_prompts=True,
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
