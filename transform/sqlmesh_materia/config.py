"""SQLMesh's configuration: the lakehouse file from Materia's settings, its state in a file of its own."""

from sqlmesh.core.config import (
    AutoCategorizationMode,
    CategorizerConfig,
    Config,
    DuckDBConnectionConfig,
    GatewayConfig,
    LinterConfig,
    ModelDefaultsConfig,
    PlanConfig,
)
from sqlmesh.core.config.connection import DuckDBAttachOptions
from sqlmesh.core.config.format import FormatConfig

from ops.settings import Settings

settings = Settings.from_environ()
settings.lakehouse_path.parent.mkdir(parents=True, exist_ok=True)
if not settings.lakehouse_path.exists():
    # Of a lakehouse that was moved away to be built anew, SQLMesh would remember tables that are no longer there.
    for suffix in ("", ".wal"):
        settings.sqlmesh_state_path.with_name(settings.sqlmesh_state_path.name + suffix).unlink(missing_ok=True)

config = Config(
    project="materia",
    disable_anonymized_analytics=True,
    gateways={
        "duckdb": GatewayConfig(
            connection=DuckDBConnectionConfig(
                catalogs={"lakehouse": DuckDBAttachOptions(type="duckdb", path=str(settings.lakehouse_path))},
                connector_config={
                    # Without it DuckDB keeps row order through every large insert, which costs memory.
                    "preserve_insertion_order": False,
                    # Where a query puts what exceeds its memory; DuckDB's own choice is the folder of the code.
                    "temp_directory": str(settings.lakehouse_path.with_name(f"{settings.lakehouse_path.name}.tmp")),
                    # Views name the landing's files relative to it: the lakehouse may move between machines.
                    "file_search_path": str(settings.landing_dir),
                },
            ),
            state_connection=DuckDBConnectionConfig(database=str(settings.sqlmesh_state_path)),
        )
    },
    default_gateway="duckdb",
    model_defaults=ModelDefaultsConfig(dialect="duckdb", start="1990-01-01", cron="@daily"),
    plan=PlanConfig(
        auto_categorize_changes=CategorizerConfig(sql=AutoCategorizationMode.FULL),
        auto_apply=True,
        no_prompts=True,
        no_diff=True,
        # A development environment is whole, also in what it shares with production: the macros below need it.
        include_unmodified=True,
    ),
    after_all=["@create_psd_asof()", "@create_psd_asof_coverage()"],
    linter=LinterConfig(
        enabled=True,
        rules=["ambiguousorinvalidcolumn", "invalidselectstarexpansion", "noselectstar", "nomissingaudits"],
    ),
    format=FormatConfig(normalize=False),
)
