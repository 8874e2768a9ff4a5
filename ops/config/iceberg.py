"""The settings of the Iceberg catalog: where it is, and one of two things that open it."""

import re
from collections.abc import Mapping

from dataflows.errors import SettingsError
from dataflows.iceberg.catalog import CatalogAddress
from ops.config.parse import whole_number

DOCUMENTED = {
    "ICEBERG_CATALOG_URI": "Iceberg REST catalog that gets the served tables, too; default none",
    "ICEBERG_WAREHOUSE": "Iceberg: the warehouse, as the catalog names it",
    "ICEBERG_TOKEN": "Iceberg: a bearer token that may write, such as an R2 API token",
    "ICEBERG_CREDENTIAL": "Iceberg: `client-id:client-secret` instead of a token, for catalogs with OAuth",
    "ICEBERG_NAMESPACE": "Iceberg: the namespace that is ours; default `serving`",
    "ICEBERG_KEEP_DAYS": "Iceberg: days that a replaced snapshot stays readable; default `30`",
}
NAMES = ("ICEBERG_CATALOG_URI", "ICEBERG_WAREHOUSE", "ICEBERG_TOKEN", "ICEBERG_CREDENTIAL")
"""What belongs together: the first two and one of the others, or none of them."""


def iceberg_of(given: Mapping[str, str]) -> CatalogAddress | None:
    """Read and check them; None when none is set. Raises SettingsError naming what is missing or wrong."""
    uri, warehouse, token, credential = (given.get(name) for name in NAMES)
    if not any((uri, warehouse, token, credential)):
        return None
    if uri is None or warehouse is None or (token is None) == (credential is None):
        here = [name for name in NAMES if name in given]
        raise SettingsError(
            f"Iceberg needs {NAMES[0]}, {NAMES[1]} and either {NAMES[2]} or {NAMES[3]}: set are {', '.join(here)}; "
            "set what is missing, or none of them to publish nowhere else"
        )
    if not uri.startswith(("https://", "http://")):
        raise SettingsError(f"ICEBERG_CATALOG_URI={uri!r} is not an http(s) address")
    if credential is not None and not all(credential.partition(":")[::2]):
        raise SettingsError("ICEBERG_CREDENTIAL is not `client-id:client-secret`")
    namespace = given.get("ICEBERG_NAMESPACE", "serving")
    if not re.fullmatch(r"[a-z0-9](?:[a-z0-9_]*[a-z0-9])?", namespace):
        raise SettingsError(f"ICEBERG_NAMESPACE={namespace!r} is not a namespace's name, such as serving")
    keep_days = whole_number(given.get("ICEBERG_KEEP_DAYS", "30"), "ICEBERG_KEEP_DAYS", 1, 3650)
    return CatalogAddress(uri.rstrip("/"), warehouse, namespace, keep_days, token, credential)
