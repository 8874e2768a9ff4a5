"""The DuckLake from the settings: the lakehouse that several machines share."""

from collections.abc import Mapping

from dataflows.errors import SettingsError
from dataflows.lakehouse.ducklake import DuckLake, PostgresCatalog
from dataflows.lakehouse.ducklake_settings import parse_ducklake as parse_values
from ops.config.table import Values


def parse_ducklake(values: Values) -> DuckLake | None:
    """The DuckLake in the settings, or None.

    Raises SettingsError if one of its settings is missing or wrong, or if the gateway is a DuckLake without settings.
    """
    if values["MATERIA_GATEWAY"] == "ducklake" and "DUCKLAKE_CATALOG" not in values.given:
        raise SettingsError(
            "MATERIA_GATEWAY=ducklake needs DUCKLAKE_CATALOG and DUCKLAKE_DATA; see docs/explanation/scaling.md"
        )
    return parse_values(values.given)


def environ_of(lake: DuckLake) -> Mapping[str, str]:
    """The environment variables of this DuckLake, secrets included, for a child process."""
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
