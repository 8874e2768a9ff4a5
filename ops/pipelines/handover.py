"""Hand-over between machines through object storage, as steps of a run; nothing at all when none is set.

boto3 is imported when settings name a bucket, and only then.
"""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dataflows.errors import GateError, SettingsError
from dataflows.landing.local import Landing, LocalLanding
from dataflows.serving.store import ServingStore
from ops.config.settings import Settings
from ops.host.version import code_version
from ops.journal.recorder import Recorder
from ops.journal.run import utc_now

if TYPE_CHECKING:
    from dataflows.lakehouse.sync import LakehouseHandover
    from dataflows.landing.bucket import R2Landing
    from dataflows.serving.generation import Generation
    from dataflows.serving.remote import RemoteGenerations

log = logging.getLogger(__name__)

REMOTE_GENERATIONS_KEPT = 10


@dataclass(frozen=True)
class Remote:
    """What lies in the bucket."""

    landing: "R2Landing"
    lakehouse: "LakehouseHandover"
    generations: "RemoteGenerations"


def remote_of(settings: Settings) -> Remote | None:
    """The bucket's side of everything; None when all four R2 settings are missing. Asks the bucket nothing."""
    if settings.r2 is None:
        return None
    from dataflows.lakehouse.sync import LakehouseHandover
    from dataflows.landing.bucket import R2Landing
    from dataflows.objects.store import Bucket, ObjectStore
    from dataflows.serving.remote import RemoteGenerations

    given = settings.r2
    store = ObjectStore(Bucket(given.endpoint, given.bucket, given.access_key, given.secret_key))
    return Remote(
        R2Landing(store, LocalLanding(settings.landing_dir)),
        LakehouseHandover(store, settings.dataset, settings.lakehouse_path, settings.sqlmesh_state_path),
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


@contextmanager
def lakehouse_handed_over(remote: Remote | None, recorder: Recorder) -> Iterator[None]:
    """Work inside on the bucket's lakehouse, and hand it over when that succeeds.

    Raises LostRaceError when another machine handed one over meanwhile; the bucket then has that one.
    """
    if remote is None:
        yield
        return
    with recorder.step("lakehouse_pulled") as note:
        pulled = remote.lakehouse.pull()
        note.detail = f"version {pulled.number} by {pulled.made_by}" if pulled else "already here"
    yield
    with recorder.step("lakehouse_pushed") as note:
        pushed = remote.lakehouse.push(f"{socket.gethostname()} ({code_version()})", utc_now())
        note.detail = f"version {pushed.number}"


def share_generations(remote: Remote | None, serving: ServingStore, max_row_loss: float, recorder: Recorder) -> None:
    """Fetch and serve the bucket's newest generation unless it is here; bring it ours where that is newer.

    A generation that was rolled back here stays rolled back: it is here. One that is worse than the served one
    is not taken, unless it was forced where it was made; `materia serving pull` says why.
    """
    if remote is None:
        return
    from dataflows.serving.remote import copy_of

    with recorder.step("generations_shared") as note:
        newest = remote.generations.newest()
        ours = serving.generations()[-1:]
        note.detail = "the newest is on both sides" if newest or ours else "none yet"
        here = copy_of(newest, serving) if newest else None
        if ours and (newest is None or _is_newer(remote, ours[0], newest, here)):
            pushed = remote.generations.push(ours[0], serving.path(ours[0].number))
            remote.generations.prune(REMOTE_GENERATIONS_KEPT)
            note.detail = f"pushed generation {ours[0].number} as {pushed.number}"
        elif newest is not None and (here is None or here.number == serving.unserved()):
            note.detail = _taken(remote, serving, newest, max_row_loss)


def _is_newer(remote: Remote, ours: "Generation", newest: "Generation", here: "Generation | None") -> bool:
    """Whether ours is newer than the bucket's newest: by number where both are in one place, for clocks jump back."""
    if here is not None:
        return ours.number > here.number
    return ours.created_at > newest.created_at and not remote.generations.holds(ours)


def pull_checked(
    remote: Remote, serving: ServingStore, wanted: "Generation", max_row_loss: float, forced: bool = False
) -> "Generation":
    """Fetch and serve a generation; GateError when it is worse than the served one and not forced."""
    from dataflows.export import GENERATIONS_KEPT
    from dataflows.serving.gate import faults_against

    served = serving.served()
    is_forced = forced or wanted.forced_reason is not None
    if served is not None and not is_forced and (faults := faults_against(served, wanted, max_row_loss)):
        raise GateError(
            f"generation {wanted.number} of the bucket was refused, generation {served.number} stays served: "
            f"{'; '.join(faults)}. If that is right, `materia serving pull --force`"
        )
    pulled = remote.generations.pull(wanted, serving)
    serving.prune(GENERATIONS_KEPT)
    return pulled


def _taken(remote: Remote, serving: ServingStore, newest: "Generation", max_row_loss: float) -> str:
    try:
        pulled = pull_checked(remote, serving, newest, max_row_loss)
    except GateError as refusal:
        log.warning(str(refusal))
        return "the bucket's newest was refused"
    return f"pulled generation {newest.number} as {pulled.number}"
