"""What takes the lakehouse file's place, from the settings: a DuckLake or Spark."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dataflows.errors import SettingsError
from ops.config.table import Values

if TYPE_CHECKING:
    from dataflows.lakehouse.ducklake import DuckLake
    from dataflows.lakehouse.spark import SparkLakehouse


def parse_ducklake(values: Values) -> "DuckLake | None":
    """The DuckLake in the settings, or None.

    Raises SettingsError if one of its settings is missing or wrong, or if the gateway is a DuckLake without settings.
    """
    if values["MATERIA_GATEWAY"] == "ducklake" and "DUCKLAKE_CATALOG" not in values.given:
        raise SettingsError(
            "MATERIA_GATEWAY=ducklake needs DUCKLAKE_CATALOG and DUCKLAKE_DATA; see docs/explanation/scaling.md"
        )
    if not _names_any(values, "DUCKLAKE_"):
        return None
    from dataflows.lakehouse.ducklake_settings import parse_ducklake as parse_values

    return parse_values(values.given)


def parse_spark(values: Values, data_dir: Path) -> "SparkLakehouse | None":
    """Spark as the settings and their defaults have it; None if it is not the gateway and has no settings.

    Raises SettingsError naming the setting that is wrong.
    """
    if values["MATERIA_GATEWAY"] != "spark" and not _names_any(values, "SPARK_"):
        return None
    from dataflows.lakehouse.spark_settings import parse_spark as parse_values

    return parse_values(values.given, data_dir)


def _names_any(values: Values, prefix: str) -> bool:
    return any(name.startswith(prefix) for name in values.given)


def environ_of(lake: "DuckLake | SparkLakehouse") -> Mapping[str, str]:
    """The environment variables of this lakehouse, secrets included, for a child process."""
    from dataflows.lakehouse.spark import SparkLakehouse

    return _environ_of_spark(lake) if isinstance(lake, SparkLakehouse) else _environ_of_ducklake(lake)


def _environ_of_ducklake(lake: "DuckLake") -> Mapping[str, str]:
    from dataflows.lakehouse.ducklake import PostgresCatalog

    found = {"MATERIA_GATEWAY": "ducklake", "DUCKLAKE_CATALOG": str(lake.catalog), "DUCKLAKE_DATA": lake.data}
    if isinstance(lake.catalog, PostgresCatalog):
        found |= {"DUCKLAKE_PASSWORD": lake.catalog.password}
    if lake.bucket is not None:
        found |= {
            "R2_ENDPOINT": lake.bucket.endpoint,
            "R2_BUCKET": lake.bucket.name,
            "R2_ACCESS_KEY": lake.bucket.access_key,
            "R2_SECRET_KEY": lake.bucket.secret_key,
        }
    return found


def _environ_of_spark(spark: "SparkLakehouse") -> Mapping[str, str]:
    from dataflows.lakehouse.ducklake import PostgresCatalog

    passwords = {each.password for each in (spark.metastore, spark.state) if isinstance(each, PostgresCatalog)}
    return {
        "MATERIA_GATEWAY": "spark",
        "SPARK_MASTER": spark.master,
        "SPARK_WAREHOUSE": spark.warehouse,
        "SPARK_METASTORE": spark.metastore_text,
        "SPARK_STATE": str(spark.state),
        **({"SPARK_PROPERTIES": str(spark.properties_path)} if spark.properties_path else {}),
        **({"SPARK_PASSWORD": next(iter(passwords))} if passwords else {}),
    }
