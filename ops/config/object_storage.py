"""The settings of object storage: where the bucket is, and the keys that open it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dataflows.errors import SettingsError

DOCUMENTED = {
    "R2_ENDPOINT": "object storage: `https://<account>.r2.cloudflarestorage.com`",
    "R2_BUCKET": "object storage: the bucket",
    "R2_ACCESS_KEY": "object storage: the access key's id",
    "R2_SECRET_KEY": "object storage: the secret key (from Pulumi ESC, never from a file)",
}


@dataclass(frozen=True)
class R2Settings:
    """Object storage; all four parts or none."""

    endpoint: str
    bucket: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)


def r2_of(given: Mapping[str, str]) -> R2Settings | None:
    """Read them; None when none is set. Raises SettingsError naming what is missing."""
    missing = [name for name in DOCUMENTED if name not in given]
    if len(missing) == len(DOCUMENTED):
        return None
    if missing:
        raise SettingsError(
            f"object storage needs {', '.join(DOCUMENTED)}: {', '.join(missing)} missing; "
            "set all four, or none to keep everything local"
        )
    return R2Settings(*(given[name] for name in DOCUMENTED))
