"""The Iceberg catalog from the settings: its address and either a token or a credential."""

from typing import TYPE_CHECKING

from dataflows.errors import SettingsError
from ops.config.parse import is_address
from ops.config.table import Values

if TYPE_CHECKING:
    from dataflows.iceberg.catalog import CatalogAddress

NAMES = ("ICEBERG_CATALOG_URI", "ICEBERG_WAREHOUSE", "ICEBERG_TOKEN", "ICEBERG_CREDENTIAL")
"""Settings that belong together: the first two and one of the others, or none."""


def iceberg_of(values: Values) -> "CatalogAddress | None":
    """The catalog, None when no setting names one. Raises SettingsError naming what is missing or wrong."""
    uri, warehouse, token, credential = (values.given.get(name) for name in NAMES)
    if not any((uri, warehouse, token, credential)):
        return None
    if uri is None or warehouse is None or (token is None) == (credential is None):
        here = [name for name in NAMES if name in values.given]
        raise SettingsError(
            f"Iceberg is only partly configured ({', '.join(here)}): it needs {NAMES[0]}, {NAMES[1]} and either "
            f"{NAMES[2]} or {NAMES[3]}; set the missing ones, or none to publish to no catalog"
        )
    if not is_address(uri):
        raise SettingsError(f"ICEBERG_CATALOG_URI={uri!r} is not an http(s) address")
    if credential is not None and not all(credential.partition(":")[::2]):
        raise SettingsError("ICEBERG_CREDENTIAL is not `client-id:client-secret`")
    from dataflows.iceberg.catalog import CatalogAddress

    return CatalogAddress(
        uri.rstrip("/"), warehouse, values["ICEBERG_NAMESPACE"], values["ICEBERG_KEEP_DAYS"], token, credential
    )
