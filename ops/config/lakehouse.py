"""The DuckLake from the settings: the lakehouse that several machines share."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dataflows.errors import SettingsError
from dataflows.lakehouse.ducklake import DuckLake, PostgresCatalog, SqliteCatalog
from ops.config.object_storage import R2Settings
from ops.config.parse import whole_number
from ops.config.table import Values

if TYPE_CHECKING:
    from dataflows.objects.store import Bucket

_POSTGRES_KEYS = ("host", "port", "dbname", "user", "sslmode")


def ducklake_of(values: Values, r2: R2Settings | None) -> DuckLake | None:
    """The DuckLake that the settings name, None when they name none.

    Raises SettingsError when one of its settings is missing, also where it is the gateway and not named at all.
    """
    given, names = values.given, ("DUCKLAKE_CATALOG", "DUCKLAKE_DATA")
    missing = [name for name in names if name not in given]
    if values["MATERIA_GATEWAY"] == "ducklake" and "DUCKLAKE_CATALOG" in missing:
        raise SettingsError(
            "MATERIA_GATEWAY=ducklake needs DUCKLAKE_CATALOG and DUCKLAKE_DATA; see docs/explanation/scaling.md"
        )
    if len(missing) == len(names):
        return None
    if missing:
        raise SettingsError(f"a DuckLake needs {' and '.join(names)}: {missing[0]} is missing; set both, or none")
    data = given["DUCKLAKE_DATA"]
    if data.startswith("s3://"):
        return DuckLake(_catalog(given), data.rstrip("/"), _bucket(data, r2))
    if "://" in data:
        raise SettingsError(f"DUCKLAKE_DATA={data!r} is neither a folder nor s3://bucket/prefix")
    return DuckLake(_catalog(given), str(Path(data).expanduser().absolute()))


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


def _catalog(given: Mapping[str, str]) -> SqliteCatalog | PostgresCatalog:
    # A password may have been put into it by mistake: no message repeats the text.
    kind, _, rest = given["DUCKLAKE_CATALOG"].partition(":")
    if kind == "sqlite" and rest:
        return SqliteCatalog(Path(rest).expanduser().absolute())
    if kind == "postgres" and rest:
        return _postgres(rest, given.get("DUCKLAKE_PASSWORD", ""))
    raise SettingsError("DUCKLAKE_CATALOG is neither sqlite:/path nor postgres:host=… dbname=… user=…")


def _postgres(text: str, password: str) -> PostgresCatalog:
    try:
        parts = dict(part.split("=", 1) for part in shlex.split(text))
    except ValueError:
        raise SettingsError("DUCKLAKE_CATALOG=postgres:… is written as host=… port=… dbname=… user=…") from None
    if "password" in parts:
        raise SettingsError("DUCKLAKE_CATALOG holds a password, which belongs in DUCKLAKE_PASSWORD; move it there")
    if strange := sorted(parts.keys() - set(_POSTGRES_KEYS)):
        raise SettingsError(
            f"DUCKLAKE_CATALOG=postgres:… takes {', '.join(_POSTGRES_KEYS)}, not {', '.join(strange)}; "
            "libpq's own environment (PGSSLROOTCERT and so on) holds for the rest"
        )
    if missing := [name for name in ("host", "dbname", "user") if not parts.get(name)]:
        raise SettingsError(f"DUCKLAKE_CATALOG=postgres:… lacks {', '.join(missing)}")
    if not password:
        raise SettingsError("a DuckLake in PostgreSQL needs DUCKLAKE_PASSWORD, for example from `esc run`")
    port = whole_number(parts.get("port", "5432"), "DUCKLAKE_CATALOG=postgres:… port", 1, 65_535)
    return PostgresCatalog(
        parts["host"], port, parts["dbname"], parts["user"], password, parts.get("sslmode", "prefer")
    )


def _bucket(data: str, r2: R2Settings | None) -> "Bucket":
    from dataflows.objects.store import Bucket

    if r2 is None:
        raise SettingsError("DUCKLAKE_DATA=s3://… needs R2_ENDPOINT, R2_BUCKET, R2_ACCESS_KEY and R2_SECRET_KEY")
    name = data.removeprefix("s3://").partition("/")[0]
    if not name:
        raise SettingsError("DUCKLAKE_DATA=s3://… names no bucket; it is written as s3://bucket/prefix")
    return Bucket(r2.endpoint, name, r2.access_key, r2.secret_key)
