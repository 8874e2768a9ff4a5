"""What the last probe of USDA's current file says of what is served, for the `checked_on` of the as-of macros."""

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from dataflows.errors import LandingError
from dataflows.landing.local import Landing, LocalLanding
from dataflows.serving.generation import Generation
from dataflows.source.probe_memory import LiveCheck
from ops.config.settings import Settings

if TYPE_CHECKING:
    from dataflows.serving import ServingReader

_TAKES_CHECKED_ON = """
    SELECT 1 FROM duckdb_functions() WHERE function_name = 'psd_asof' AND list_contains(parameters, 'checked_on')
    LIMIT 1
"""


@dataclass(frozen=True)
class CurrentFile:
    """The last check of the current file."""

    checked_on: date
    snapshot_key: str
    """The landed snapshot that it found."""
    is_served: bool
    """Whether that snapshot is the newest landed one and the newest that is served; if not, a later file is posted, or
    landed and not served, and the check says nothing of what is served."""


def last_check(settings: Settings) -> LiveCheck | None:
    """The last check of the current file that this machine knows, for any served generation; reads no bucket."""
    try:
        return LocalLanding(settings.landing_dir).live_check(settings.dataset)
    except LandingError:
        return None


def current_file(
    settings: Settings, generation: Generation | None, landing: Landing | None = None
) -> CurrentFile | None:
    """The last check of the current file that the landing knows; None when there was none or it cannot be read.

    Without `landing`, that of this machine: a bucket is not asked.
    """
    landing = landing or LocalLanding(settings.landing_dir)
    try:
        check = landing.live_check(settings.dataset)
        if check is None:
            return None
        landed = [each.key for each in landing.snapshots() if each.dataset == settings.dataset]
    except LandingError:
        return None
    served = generation.snapshots if generation else ()
    is_served = landed[-1:] == list(served[-1:]) == [check.snapshot_key]
    return CurrentFile(check.checked_on, check.snapshot_key, is_served)


def checked_on(settings: Settings, reader: "ServingReader", landing: Landing | None = None) -> date | None:
    """The `checked_on` for the macros of what `reader` serves: the day of the last check that found that.

    None also for a generation whose macros have no such parameter. Raises ServingError.
    """
    check = current_file(settings, reader.generation(), landing)
    if check is None or not check.is_served or not reader.query(_TAKES_CHECKED_ON).table.num_rows:
        return None
    return check.checked_on
