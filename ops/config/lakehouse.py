"""The DuckLake from the settings: the lakehouse that several machines share."""

from collections.abc import Mapping

from dataflows.errors import SettingsError
from dataflows.lakehouse.ducklake import DuckLake, PostgresCatalog
from dataflows.lakehouse.ducklake_settings import parse_ducklake as parsed
from ops.config.table import Values


def parse_ducklake(values: Values) -> DuckLake | None:
    """The DuckLake that the settings name, None when they name none.

    Raises SettingsError when one of its settings is missing or wrong, also where it is the gateway and has none.
    """
    if values["MATERIA_GATEWAY"] == "ducklake" and "DUCKLAKE_CATALOG" not in values.given:
        raise SettingsError(
            "MATERIA_GATEWAY=ducklake needs DUCKLAKE_CATALOG and DUCKLAKE_DATA; see docs/explanation/scaling.md"
        )
    return parsed(values.given)


def environ_of(lake: DuckLake) -> Mapping[str, str]:
    """The settings that name this DuckLake, secrets included, for a process that works on it."""
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
