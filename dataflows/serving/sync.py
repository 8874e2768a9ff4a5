"""Bring the newest generation to both sides: this host's serving folder and the bucket."""

import logging

from dataflows.errors import GateError
from dataflows.serving.gate import faults_against
from dataflows.serving.generation import Generation
from dataflows.serving.remote import RemoteGenerations, copy_of
from dataflows.serving.store import GENERATIONS_KEPT, ServingStore

log = logging.getLogger(__name__)

REMOTE_GENERATIONS_KEPT = 10


def sync_generations(remote: RemoteGenerations, serving: ServingStore, max_row_loss: float) -> str:
    """Serve the bucket's newest generation unless it is here, or push ours if it is newer; returns what was done.

    A generation that was rolled back here is here, and stays rolled back. One that is worse than the served one is
    refused unless the gate was overridden when it was built; `materia serving pull` says why.
    """
    newest = remote.newest()
    ours = serving.generations()[-1:]
    here = copy_of(newest, serving) if newest else None
    if ours and (newest is None or _is_newer(remote, ours[0], newest, here)):
        pushed = remote.push(ours[0], serving.path(ours[0].number))
        remote.prune(REMOTE_GENERATIONS_KEPT)
        return f"pushed generation {ours[0].number} as {pushed.number}"
    if newest is None or not (here is None or here.number == serving.unserved()):
        return "the newest is on both sides" if newest or ours else "no generation yet"
    try:
        pulled = pull_checked(remote, serving, newest, max_row_loss)
    except GateError as refusal:
        log.warning(str(refusal))
        return f"generation {newest.number} of the bucket was refused"
    return f"pulled generation {newest.number} as {pulled.number}"


def pull_checked(
    remote: RemoteGenerations, serving: ServingStore, wanted: Generation, max_row_loss: float, forced: bool = False
) -> Generation:
    """Download and serve a generation; GateError when it is worse than the served one and not forced."""
    served = serving.served()
    is_forced = forced or wanted.forced_reason is not None
    if served is not None and not is_forced and (faults := faults_against(served, wanted, max_row_loss)):
        raise GateError(
            f"generation {wanted.number} of the bucket was refused, generation {served.number} stays served: "
            f"{'; '.join(faults)}. If that is right, `materia serving pull --force`"
        )
    pulled = remote.pull(wanted, serving)
    serving.prune(GENERATIONS_KEPT)
    return pulled


def _is_newer(remote: RemoteGenerations, ours: Generation, newest: Generation, here: Generation | None) -> bool:
    """Whether ours is newer than the bucket's newest: by number if both are here, because clocks can jump back."""
    if here is not None:
        return ours.number > here.number
    return ours.created_at > newest.created_at and not remote.holds(ours)
