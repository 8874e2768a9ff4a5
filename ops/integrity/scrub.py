"""The scrub: read every stored file and compare it with its recorded hash, here and in the bucket.

Landed zips and generations are verified by their sha256, the lakehouse and SQLMesh's state by DuckDB's checksums,
unpacked rows by reading them, the files of a DuckLake or of Spark's warehouse by reading them and later by the sha256
of that first time. Damage is recorded for `status`. A file that cannot be read for another reason is an error and
proves nothing.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from dataflows.errors import (
    LandingError,
    LockHeldError,
    ObjectDamagedError,
    ObjectMissingError,
    ServingBrokenError,
    ServingMissingError,
)
from dataflows.lakehouse.database_file import damaged_blocks, fault_of
from dataflows.lakehouse.lake_files import check_files
from dataflows.lakehouse.spark import SparkLakehouse
from dataflows.landing.local import LocalLanding
from dataflows.serving.store import ServingStore
from dataflows.source.formats import FORMATS
from ops.config.settings import Settings
from ops.host.lakehouse_lock import catalog_exists
from ops.host.lock import writer_lock
from ops.integrity.damage import find_visible_damage
from ops.integrity.record import Damage, Kind, ScrubRecord, read_record, write_record

if TYPE_CHECKING:
    from dataflows.landing.bucket import R2Landing
    from dataflows.serving.remote import RemoteGenerations

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checked:
    """A file that the scrub has read, and its damage, if any."""

    kind: Kind
    where: str
    damage: Damage | None = None
    sha256: str = ""
    """Of a file of a lake, to be compared with in later scrubs."""


def scrub(
    settings: Settings, bucket: "R2Landing | None", generations: "RemoteGenerations | None", now: datetime
) -> Iterator[Checked]:
    """Read everything, yield each file after its check, and record the damage.

    Raises LockHeldError while a run writes here, and any error that prevents the scrub from reading everything. Such an
    error is recorded, too, and earlier damage stays in the record.
    """
    before = read_record(settings)
    found: dict[str, Damage] = {}
    lake_files: dict[str, str] = {}
    try:
        for checked in _check_all(settings, bucket, generations, before.lake_files):
            if checked.damage is not None:
                found[checked.where] = checked.damage
            if checked.kind is Kind.LAKE_FILE:
                lake_files[checked.where] = before.lake_files.get(checked.where, checked.sha256)
            yield checked
    except LockHeldError:
        raise
    except Exception as error:
        kept = {each.where: each for each in before.damage} | found
        write_record(settings, replace(before, attempted_at=now, error=str(error), damage=tuple(kept.values())))
        raise
    write_record(settings, ScrubRecord(now, now, damage=tuple(found.values()), lake_files=lake_files))


def _check_all(
    settings: Settings,
    bucket: "R2Landing | None",
    generations: "RemoteGenerations | None",
    lake_files: Mapping[str, str],
) -> Iterator[Checked]:
    with writer_lock(settings.lock_path, "scrub"):
        yield from _lakehouse(settings, lake_files)
        yield from _generations(settings)
        for format in FORMATS:
            yield from _local_landing(LocalLanding(settings.landing_dir, format))
    for each in find_visible_damage(settings):  # files that are missing or cannot be opened were skipped above
        yield Checked(each.kind, each.where, each)
    if bucket is not None:
        for format in FORMATS:
            yield from _bucket_landing(bucket.of(format))
    if generations is not None:
        yield from _bucket_generations(generations, settings)


def _lakehouse(settings: Settings, lake_files: Mapping[str, str]) -> Iterator[Checked]:
    lake = settings.lake
    if lake is not None:
        if isinstance(lake, SparkLakehouse) or catalog_exists(lake):
            for file in check_files(lake, lake_files):
                damage = Damage(Kind.LAKE_FILE, file.where, file.why) if file.why else None
                yield Checked(Kind.LAKE_FILE, file.where, damage, file.sha256)
        return
    for kind, path in ((Kind.LAKEHOUSE, settings.lakehouse_path), (Kind.STATE, settings.sqlmesh_state_path)):
        if not path.exists():
            continue
        if (why := fault_of(path)) is None and (blocks := list(damaged_blocks(path))):
            why = f"{len(blocks)} of its blocks have a wrong checksum"
        yield Checked(kind, str(path), Damage(kind, str(path), why) if why else None)


def _generations(settings: Settings) -> Iterator[Checked]:
    store = ServingStore(settings.serving_path)
    for number in store.numbers():
        kind = Kind.SERVED if number == store.served_number() else Kind.GENERATION
        path, damage = str(store.path(number)), None
        try:
            store.check(number)
        except ServingBrokenError:
            damage = Damage(kind, path, "its sha256 is not the published one", str(number))
        except ServingMissingError:
            continue  # `find_visible_damage` reports a missing sidecar
        yield Checked(kind, path, damage)


def _local_landing(local: LocalLanding) -> Iterator[Checked]:
    from dataflows.landing.verify import check_bytes, check_rows

    for marker in local.markers():
        try:
            snapshot = local.find(marker.stem)
        except LandingError:
            continue  # `find_visible_damage` reports it
        if snapshot is None:
            continue
        for kind, path, check in (
            (Kind.ZIP, local.zip_path(snapshot.key), check_bytes),
            (Kind.ROWS, local.rows_path(snapshot), check_rows),
        ):
            if not path.exists():
                continue
            try:
                check(snapshot, path)
                damage = None
            except LandingError as error:
                damage = Damage(kind, str(path), _reason(error, path), snapshot.key)
            yield Checked(kind, str(path), damage)


def _bucket_landing(bucket: "R2Landing") -> Iterator[Checked]:
    for snapshot in bucket.snapshots():
        where = bucket.store.bucket.url(bucket.zip_key(snapshot.key))
        try:
            with bucket.zip_file(snapshot):
                damage = None
        except (ObjectDamagedError, ObjectMissingError) as error:
            damage = Damage(Kind.BUCKET_ZIP, where, _brief(error), snapshot.key)
        yield Checked(Kind.BUCKET_ZIP, where, damage)


def _bucket_generations(generations: "RemoteGenerations", settings: Settings) -> Iterator[Checked]:
    kind = Kind.BUCKET_GENERATION
    for number in generations.numbers():
        try:
            generation = generations.generation(number)
        except ServingBrokenError as error:
            where = str(error).partition(" ")[0]
            yield Checked(kind, where, Damage(kind, where, "its sidecar cannot be read", str(number)))
            continue
        where, damage = generations.url(generation), None
        try:
            generations.check(generation, settings.landing_dir / ".partial")
        except (ObjectDamagedError, ObjectMissingError) as error:
            damage = Damage(kind, where, _brief(error), str(number))
        yield Checked(kind, where, damage)


def _brief(error: Exception) -> str:
    return "it is missing" if isinstance(error, ObjectMissingError) else "its sha256 is not the recorded one"


def _reason(error: Exception, path: Path) -> str:
    return str(error).partition("; ")[0].removeprefix(f"{path} ")


def is_anything_stored(settings: Settings) -> bool:
    """Whether there is any stored file to read."""
    has_landing = any(LocalLanding(settings.landing_dir, format).markers() for format in FORMATS)
    return has_landing or settings.r2 is not None or bool(ServingStore(settings.serving_path).numbers())
