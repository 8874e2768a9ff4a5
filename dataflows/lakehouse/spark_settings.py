"""A Spark lakehouse from the text of its settings, for this code and for SQLMesh's configuration."""

from collections.abc import Mapping
from pathlib import Path

from dataflows.errors import SettingsError
from dataflows.lakehouse.ducklake import PostgresCatalog
from dataflows.lakehouse.ducklake_settings import absolute_path, parse_postgres
from dataflows.lakehouse.spark import SparkLakehouse

NAMES = ("SPARK_MASTER", "SPARK_WAREHOUSE", "SPARK_METASTORE", "SPARK_STATE", "SPARK_PASSWORD", "SPARK_PROPERTIES")


def parse_spark(settings: Mapping[str, str], data_dir: Path) -> SparkLakehouse:
    """The Spark lakehouse that the SPARK_* settings name; what is not set is a folder or file in `data_dir`.

    `settings` has no empty texts. Raises SettingsError naming the setting that is wrong.
    """
    folder, password = data_dir / "spark", settings.get("SPARK_PASSWORD", "")
    warehouse = settings.get("SPARK_WAREHOUSE", str(folder / "warehouse"))
    metastore = _metastore(settings.get("SPARK_METASTORE", f"derby:{folder / 'metastore'}"), password)
    default_state = str(metastore) if isinstance(metastore, PostgresCatalog) else str(folder / "state.duckdb")
    properties = settings.get("SPARK_PROPERTIES")
    return SparkLakehouse(
        master=settings.get("SPARK_MASTER", "local[*]"),
        warehouse=warehouse.rstrip("/") if "://" in warehouse else str(absolute_path(warehouse, "SPARK_WAREHOUSE")),
        metastore=metastore,
        state=_state(settings.get("SPARK_STATE", default_state), password),
        fetched=folder / "exported",
        properties_path=absolute_path(properties, "SPARK_PROPERTIES") if properties else None,
    )


def _metastore(text: str, password: str) -> Path | PostgresCatalog | str:
    # A password may have been put into it by mistake: no message repeats the text.
    kind, _, rest = text.partition(":")
    if kind == "derby" and rest:
        return absolute_path(rest, "SPARK_METASTORE")
    if kind == "postgres" and rest:
        return parse_postgres(rest, password, "SPARK_METASTORE", "SPARK_PASSWORD")
    if kind == "thrift" and rest.startswith("//"):
        return text
    raise SettingsError(
        "SPARK_METASTORE is none of derby:/folder, postgres:host=… dbname=… user=… and thrift://host:9083"
    )


def _state(text: str, password: str) -> Path | PostgresCatalog:
    kind, _, rest = text.partition(":")
    if kind == "postgres" and rest:
        return parse_postgres(rest, password, "SPARK_STATE", "SPARK_PASSWORD")
    return absolute_path(text, "SPARK_STATE")
