"""What settings name in object storage; None where they name no bucket. boto3 is imported only for a bucket."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dataflows.errors import SettingsError
from dataflows.landing.local import Landing, LocalLanding
from ops.config.settings import Settings

if TYPE_CHECKING:
    from dataflows.lakehouse.sync import LakehouseSync
    from dataflows.landing.bucket import R2Landing
    from dataflows.serving.remote import RemoteGenerations


@dataclass(frozen=True)
class Remote:
    """What lies in the bucket."""

    landing: "R2Landing"
    lakehouse: "LakehouseSync"
    generations: "RemoteGenerations"


def remote_of(settings: Settings) -> Remote | None:
    """The bucket's side of everything; None when all four R2 settings are missing. Asks the bucket nothing."""
    if settings.r2 is None:
        return None
    from dataflows.lakehouse.sync import LakehouseSync
    from dataflows.landing.bucket import R2Landing
    from dataflows.objects.store import ObjectStore
    from dataflows.serving.remote import RemoteGenerations

    store = ObjectStore(settings.r2)
    return Remote(
        R2Landing(store, LocalLanding(settings.landing_dir)),
        LakehouseSync(store, settings.dataset, settings.lakehouse_path, settings.sqlmesh_state_path),
        RemoteGenerations(store, settings.dataset),
    )


def required_remote(settings: Settings) -> Remote:
    """The bucket's side, for what makes no sense without one; SettingsError when there is none."""
    remote = remote_of(settings)
    if remote is None:
        raise SettingsError(
            "this needs object storage: set R2_ENDPOINT, R2_BUCKET, R2_ACCESS_KEY and R2_SECRET_KEY, "
            "for example with `esc run beanflows/prod -- …`"
        )
    return remote


def landing_of(settings: Settings, remote: Remote | None) -> Landing:
    """The landing that the settings name: the bucket's, or the local folder."""
    return remote.landing if remote else LocalLanding(settings.landing_dir)
