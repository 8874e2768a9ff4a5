"""The landed releases, and what serving says of each; for `materia releases` and the console."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from dataflows.errors import ServingError
from dataflows.landing.snapshot import Snapshot
from dataflows.serving.generation import Generation
from dataflows.serving.store import ServingStore
from ops.config.settings import Settings
from ops.pipelines.release_changes import Release, releases
from ops.pipelines.remote import landing_of, remote_of


class Standing(StrEnum):
    """How a landed release stands to what is served."""

    SERVED = "served"
    BASELINE = "baseline"
    """Served, and the earliest: there was nothing to compare it with."""
    SUPERSEDED = "superseded"
    """USDA published another file on the same day, and that one counts."""
    WAITING = "not served"
    """Landed, and not (or, after a rollback, no longer) in the served generation."""
    UNKNOWN = "served?"
    """In the served generation, which could not be asked about it."""


@dataclass(frozen=True)
class Changes:
    """How many facts a release changed."""

    new: int
    revised: int
    removed: int
    restated: int


@dataclass(frozen=True)
class LandedRelease:
    """A landed snapshot, and what serving says of it; what is None for all but the compared ones comes last."""

    snapshot: Snapshot
    standing: Standing
    changes: Changes | None
    compared_with: date | None
    """The day of the release that it was compared with."""


@dataclass(frozen=True)
class Releases:
    """The releases of the served dataset, newest first, and what somebody should know about them."""

    generation: Generation | None
    releases: tuple[LandedRelease, ...]
    notices: tuple[str, ...]


def take_releases(settings: Settings) -> Releases:
    """Join the landing's markers with the served generation; opens no database when nothing is served.

    A fault of what is served becomes a notice, because the landing can still be read. Raises LandingError.
    """
    snapshots = landing_of(settings, remote_of(settings)).snapshots()
    ours = [snapshot for snapshot in reversed(snapshots) if snapshot.dataset == settings.dataset]
    notices = list(_others(snapshots, settings.dataset))
    generation, served = None, None
    try:
        generation = ServingStore(settings.serving_path).served()
        served = _served_releases(settings) if generation else {}
    except ServingError as error:
        notices.append(f"what is served cannot be asked: {error}")
    included = frozenset(generation.snapshots) if generation else frozenset()
    found = tuple(_landed_release(snapshot, included, served) for snapshot in ours)
    return Releases(generation, found, tuple(notices))


def _others(snapshots: tuple[Snapshot, ...], dataset: str) -> list[str]:
    counts: dict[str, int] = {}
    for snapshot in snapshots:
        counts[snapshot.dataset] = counts.get(snapshot.dataset, 0) + 1
    return [
        f"{count} landed {'snapshot' if count == 1 else 'snapshots'} of {other} ignored: "
        f"this data directory serves {dataset} (PSD_DATASET)"
        for other, count in sorted(counts.items())
        if other != dataset
    ]


def _served_releases(settings: Settings) -> Mapping[str, Release]:
    """The release of each snapshot that counts for its day."""
    from dataflows.serving import ServingReader

    with ServingReader(settings.serving_path, threads=1) as reader:
        return {each.snapshot_key: each for each in releases(reader)}


def _counts(release: Release) -> Changes:
    return Changes(release.facts_new, release.facts_revised, release.facts_removed, release.facts_restated)


def _landed_release(
    snapshot: Snapshot, included: frozenset[str], served: Mapping[str, Release] | None
) -> LandedRelease:
    release = (served or {}).get(snapshot.key)
    if snapshot.key not in included:
        standing = Standing.WAITING
    elif served is None:
        standing = Standing.UNKNOWN
    elif release is None:
        standing = Standing.SUPERSEDED
    else:
        standing = Standing.BASELINE if release.compared_with is None else Standing.SERVED
    if release is None or release.compared_with is None:
        return LandedRelease(snapshot, standing, None, None)
    return LandedRelease(snapshot, standing, _counts(release), release.compared_with)
