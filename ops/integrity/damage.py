"""All known damage: what a cheap check finds now, and what the last scrub found and no repair has fixed."""

from collections.abc import Iterator
from pathlib import Path

from dataflows.errors import ServingError
from dataflows.lakehouse.database_file import fault_of
from dataflows.lakehouse.spark import SparkLakehouse
from dataflows.landing.damage import Part, find_damage
from dataflows.landing.local import LocalLanding
from dataflows.serving.generation import FOREIGN_NUMBER, Generation, read_sidecar
from dataflows.serving.store import ServingStore
from dataflows.source.formats import FORMATS
from ops.config.settings import Settings
from ops.integrity.record import Damage, Kind, read_record

_KINDS = {Part.ZIP: Kind.ZIP, Part.ROWS: Kind.ROWS, Part.MARKER: Kind.MARKER}
_KEPT = (Kind.BUCKET_ZIP, Kind.BUCKET_GENERATION, Kind.LAKE_FILE)
"""Damage that stays known until a repair or the next scrub: the file need not be on this host."""


def known_damage(settings: Settings) -> tuple[Damage, ...]:
    """Every known damaged file, once. Reads a few kilobytes of each stored file; imports nothing heavy."""
    found = {each.where: each for each in (*_recorded(settings), *find_visible_damage(settings))}
    return tuple(found.values())


def find_visible_damage(settings: Settings) -> Iterator[Damage]:
    """Check sizes, the beginning and end of each file, and the checksums of DuckDB's headers."""
    try:
        yield from _serving(settings)
    except OSError as error:
        yield Damage(Kind.SERVED, str(settings.serving_path), f"it cannot be read: {error.strerror}")
    yield from lakehouse_damage(settings)
    if (lost := lost_half(settings)) and _is_older_than_served(settings):
        yield lost
    for landing in map(LocalLanding(settings.landing_dir).of, FORMATS):
        for each in find_damage(landing, keeps_zips=settings.r2 is None):
            key = each.snapshot.key if each.snapshot else each.path.stem
            yield Damage(_KINDS[each.part], str(each.path), each.why, key)


def lakehouse_damage(settings: Settings) -> Iterator[Damage]:
    """Damage of the lakehouse file and SQLMesh's state, of which a missing one is no damage here; of Spark's warehouse.

    A DuckLake's catalog has its files: only the scrub asks it.
    """
    if isinstance(settings.lake, SparkLakehouse):
        for where, fault in settings.lake.file_faults().items():
            yield Damage(Kind.LAKE_FILE, where, fault)
    if settings.lake:
        return
    for kind, path in ((Kind.LAKEHOUSE, settings.lakehouse_path), (Kind.STATE, settings.sqlmesh_state_path)):
        if why := _fault(path):
            yield Damage(kind, str(path), why)


def lost_half(settings: Settings) -> Damage | None:
    """The missing one of lakehouse and SQLMesh's state if only the other exists: neither is usable alone.

    This is damage only while no run writes: a run that builds the lakehouse creates one before the other.
    """
    if settings.lake:
        return None
    lakehouse, state = settings.lakehouse_path.exists(), settings.sqlmesh_state_path.exists()
    if lakehouse == state:
        return None
    gone = (Kind.LAKEHOUSE, settings.lakehouse_path) if state else (Kind.STATE, settings.sqlmesh_state_path)
    return Damage(gone[0], str(gone[1]), "it is missing")


def generation_fault(path: Path, generation: Generation, *, is_served: bool) -> str | None:
    """Why the file of a generation cannot be the published one; None if a cheap check finds no difference."""
    try:
        size_bytes = path.stat().st_size
    except FileNotFoundError:
        return "it is missing"
    if generation.number != FOREIGN_NUMBER and size_bytes != generation.size_bytes:
        return f"it has {size_bytes:,} bytes instead of {generation.size_bytes:,}"
    return _fault(path, with_catalog=is_served)


def _serving(settings: Settings) -> Iterator[Damage]:
    store = ServingStore(settings.serving_path)
    try:
        served = store.served()
    except ServingError:
        served = None  # `status` reports this separately
    if served is not None:
        path = store.served_path()
        if why := generation_fault(path, served, is_served=True):
            yield Damage(Kind.SERVED, str(path), why, str(served.number))
    for number in store.numbers():
        if served is not None and number == served.number:
            continue
        path = store.path(number)
        try:
            generation = read_sidecar(path)
        except ServingError:
            yield Damage(Kind.GENERATION, str(path), "its sidecar cannot be read", str(number))
            continue
        if generation is not None and (why := generation_fault(path, generation, is_served=False)):
            yield Damage(Kind.GENERATION, str(path), why, str(number))


def _is_older_than_served(settings: Settings) -> bool:
    """Whether the remaining half is older than the served generation; if so, no run is building the lakehouse."""
    try:
        served = ServingStore(settings.serving_path).served()
        left = settings.lakehouse_path if settings.lakehouse_path.exists() else settings.sqlmesh_state_path
        return served is not None and left.stat().st_mtime <= served.created_at.timestamp()
    except (ServingError, OSError):
        return False


def _recorded(settings: Settings) -> Iterator[Damage]:
    """What the last scrub found, without files that are missing now."""
    for each in read_record(settings).damage:
        if each.kind in _KEPT or Path(each.where).exists():
            yield each


def _fault(path: Path, *, with_catalog: bool = False) -> str | None:
    try:
        return fault_of(path, with_catalog=with_catalog)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
