"""Object storage from the settings: the address of the bucket and its keys."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dataflows.errors import SettingsError
from ops.config.table import names_of

NAMES = names_of("object storage")


@dataclass(frozen=True)
class R2Settings:
    """Object storage; all four parts or none."""

    endpoint: str
    bucket: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)


def r2_of(given: Mapping[str, str]) -> R2Settings | None:
    """The bucket, None when no setting names one. Raises SettingsError naming what is missing."""
    missing = [name for name in NAMES if name not in given]
    if len(missing) == len(NAMES):
        return None
    if missing:
        raise SettingsError(
            f"object storage is only partly configured: {', '.join(missing)} missing of {', '.join(NAMES)}; "
            "set all four, or none to keep everything local"
        )
    return R2Settings(*(given[name] for name in NAMES))
