"""Object storage from the settings: the bucket and its keys."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dataflows.errors import SettingsError
from ops.config.table import names_of

if TYPE_CHECKING:
    from dataflows.objects.store import Bucket

NAMES = names_of("object storage")


def bucket_of(given: Mapping[str, str]) -> "Bucket | None":
    """The bucket, None when no setting names one. Raises SettingsError naming what is missing."""
    missing = [name for name in NAMES if name not in given]
    if len(missing) == len(NAMES):
        return None
    if missing:
        raise SettingsError(
            f"object storage is only partly configured: {', '.join(missing)} missing of {', '.join(NAMES)}; "
            "set all four, or none to keep everything local"
        )
    from dataflows.objects.store import Bucket

    return Bucket(*(given[name] for name in NAMES))
