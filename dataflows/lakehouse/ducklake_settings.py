"""A DuckLake from the text of its settings, for this code and for SQLMesh's configuration."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dataflows.errors import SettingsError
from dataflows.lakehouse.ducklake import DuckLake, PostgresCatalog, SqliteCatalog

if TYPE_CHECKING:
    from dataflows.objects.store import Bucket

_POSTGRES_KEYS = ("host", "port", "dbname", "user", "sslmode")
_BUCKET_NAMES = ("R2_ENDPOINT", "R2_BUCKET", "R2_ACCESS_KEY", "R2_SECRET_KEY")


def parse_ducklake(settings: Mapping[str, str]) -> DuckLake | None:
    """The DuckLake that DUCKLAKE_CATALOG, DUCKLAKE_DATA and so on name, None when both are missing.

    `settings` has no empty texts. Raises SettingsError naming the setting that is missing or wrong.
    """
    names = ("DUCKLAKE_CATALOG", "DUCKLAKE_DATA")
    missing = [name for name in names if name not in settings]
    if len(missing) == len(names):
        return None
    if missing:
        raise SettingsError(f"a DuckLake needs {' and '.join(names)}: {missing[0]} is missing; set both, or none")
    data = settings["DUCKLAKE_DATA"]
    if data.startswith("s3://"):
        return DuckLake(_catalog(settings), data.rstrip("/"), _bucket(data, settings))
    if "://" in data:
        raise SettingsError(f"DUCKLAKE_DATA={data!r} is neither a folder nor s3://bucket/prefix")
    return DuckLake(_catalog(settings), str(absolute_path(data, "DUCKLAKE_DATA")))


def absolute_path(text: str, setting: str) -> Path:
    """The path that a setting names, `~` expanded; raises SettingsError for the home folder of an unknown user."""
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:
        raise SettingsError(f"{setting} names the home folder of a user that this host does not have") from None


def _catalog(settings: Mapping[str, str]) -> SqliteCatalog | PostgresCatalog:
    # A password may have been put into it by mistake: no message repeats the text.
    kind, _, rest = settings["DUCKLAKE_CATALOG"].partition(":")
    if kind == "sqlite" and rest:
        return SqliteCatalog(absolute_path(rest, "DUCKLAKE_CATALOG"))
    if kind == "postgres" and rest:
        return parse_postgres(rest, settings.get("DUCKLAKE_PASSWORD", ""), "DUCKLAKE_CATALOG", "DUCKLAKE_PASSWORD")
    raise SettingsError("DUCKLAKE_CATALOG is neither sqlite:/path nor postgres:host=… dbname=… user=…")


def parse_postgres(text: str, password: str, setting: str, password_setting: str) -> PostgresCatalog:
    """The database that `host=… dbname=… user=…` in `setting` names; raises SettingsError, which shows no password."""
    try:
        parts = dict(part.split("=", 1) for part in shlex.split(text))
    except ValueError:
        raise SettingsError(f"{setting}=postgres:… is written as host=… port=… dbname=… user=…") from None
    if "password" in parts:
        raise SettingsError(f"{setting} holds a password, which belongs in {password_setting}; move it there")
    if strange := sorted(parts.keys() - set(_POSTGRES_KEYS)):
        raise SettingsError(
            f"{setting}=postgres:… takes {', '.join(_POSTGRES_KEYS)}, not {', '.join(strange)}; "
            "set other options in libpq's environment (PGSSLROOTCERT and so on)"
        )
    if missing := [name for name in ("host", "dbname", "user") if not parts.get(name)]:
        raise SettingsError(f"{setting}=postgres:… lacks {', '.join(missing)}")
    if not password:
        raise SettingsError(f"{setting} in PostgreSQL needs {password_setting}, for example from `esc run`")
    port = parts.get("port", "5432")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65_535):
        raise SettingsError(f"{setting}=postgres:… port={port!r} is not a whole number from 1 to 65535")
    return PostgresCatalog(
        parts["host"], int(port), parts["dbname"], parts["user"], password, parts.get("sslmode", "prefer")
    )


def _bucket(data: str, settings: Mapping[str, str]) -> "Bucket":
    from dataflows.objects.store import Bucket

    if any(name not in settings for name in _BUCKET_NAMES):
        raise SettingsError(f"DUCKLAKE_DATA=s3://… needs {', '.join(_BUCKET_NAMES)}")
    name = data.removeprefix("s3://").partition("/")[0]
    if not name:
        raise SettingsError("DUCKLAKE_DATA=s3://… names no bucket; it is written as s3://bucket/prefix")
    endpoint, _, access_key, secret_key = (settings[each] for each in _BUCKET_NAMES)
    return Bucket(endpoint, name, access_key, secret_key)
