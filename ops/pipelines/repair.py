"""Repairs what is damaged before a pipeline needs it. What can be rebuilt is set aside and rebuilt without asking.

lakehouse, SQLMesh's state   set aside; the transform builds both from the landing
files of another lakehouse   it is emptied; the transform builds it from the landing
generations                  set aside; an earlier one is served until the next is published
unpacked rows, markers       made again from the zip
landed zips                  restored from the other copy, or from USDA's archive if it still posts those bytes
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from dataflows.errors import MateriaError, ServingError
from dataflows.files import move_durably
from dataflows.lakehouse import transform
from dataflows.lakehouse.database_file import damaged_blocks, fault_of
from dataflows.lakehouse.ducklake import DuckLake
from dataflows.lakehouse.lake_files import empty, needed_files
from dataflows.lakehouse.transform import Lakehouse
from dataflows.landing.local import LocalLanding
from dataflows.serving.generation import read_sidecar, sidecar_of
from dataflows.source.formats import FORMATS, PSD, WASDE
from ops.config.settings import Settings
from ops.integrity.damage import known_damage, lost_half
from ops.integrity.quarantine import FOLDER, set_aside
from ops.integrity.record import Damage, Kind, forget
from ops.journal.run import utc_now
from ops.pipelines.job import Job

_LANDING = (Kind.MARKER, Kind.ZIP, Kind.BUCKET_ZIP, Kind.ROWS)
_LAKEHOUSE = (Kind.LAKEHOUSE, Kind.STATE)
_SERVING = (Kind.SERVED, Kind.GENERATION)

log = logging.getLogger(__name__)


def repair(job: Job) -> str | None:
    """Repair all damage that is known, as a step of the run, and return what was done; None when no damage is known.

    What cannot be repaired is part of that, and no error: most of it keeps no release from being served. The caller
    holds the writer's lock.
    """
    known = (each for each in known_damage(job.settings) if each.kind is not Kind.LAKE_FILE)
    damage = [*known, *filter(None, [lost_half(job.settings)])]
    if not damage and not _is_unreadable(job):
        return None
    with job.recorder.step("damage_repaired") as note:
        note.detail = "; ".join(_repair_all(job, damage))
        log.warning("%s", note.detail)
        return note.detail


def repair_landing(job: Job) -> tuple[str, ...]:
    """Repair the landing alone; a line for each file. Raises MateriaError when one could not be repaired."""
    damage = [each for each in known_damage(job.settings) if each.kind in _LANDING]
    failed: list[str] = []
    done = tuple(_repair_landing(job, damage, failed))
    if failed:
        raise MateriaError("; ".join(failed))
    return done


def is_lakehouse_lost(job: Job) -> bool:
    """Whether the lakehouse must be built although nothing is new.

    It is this machine's alone, and not there; or it is a DuckLake, or on Spark, with damaged files.
    """
    settings = job.settings
    if settings.lake:
        return bool(_damaged_lake_files(settings))
    return job.remote is None and not (settings.lakehouse_path.exists() and settings.sqlmesh_state_path.exists())


def empty_lake_if_damaged(job: Job, lakehouse: Lakehouse) -> str | None:
    """Empty a DuckLake or a lakehouse on Spark that has damaged files; returns why, if there are any.

    The caller holds the lakehouse's lock.
    """
    lake, known = job.settings.lake, _damaged_lake_files(job.settings)
    if not lake or not known:
        return None
    # Another machine that shares the lake may have built it again already. Nothing is needed where that is unknown.
    needed = needed_files(lake)
    damage = [each for each in known if not needed or each.where in needed]
    if damage and isinstance(lake, DuckLake):
        empty(lake)
    elif damage:
        transform.empty(lakehouse)
    forget(job.settings, lambda each: each.kind is Kind.LAKE_FILE)
    return ", ".join(map(_describe, damage)) or None


def _damaged_lake_files(settings: Settings) -> list[Damage]:
    return [each for each in known_damage(settings) if each.kind is Kind.LAKE_FILE]


def set_aside_lakehouse_if_damaged(job: Job) -> str | None:
    """Read the whole lakehouse after it failed a transform; set it aside and return why, if that is what is wrong."""
    if job.settings.lake:
        return None
    for path in (job.settings.lakehouse_path, job.settings.sqlmesh_state_path):
        if not path.exists():
            continue
        why = fault_of(path)
        if why is None and (number := next(damaged_blocks(path), None)) is not None:
            why = f"block {number} has a wrong checksum"
        if why:
            _set_aside_lakehouse(job)
            return f"{path.name} is damaged: {why}"
    return None


def _repair_all(job: Job, damage: Sequence[Damage]) -> Iterator[str]:
    failed: list[str] = []
    yield from _repair_landing(job, [each for each in damage if each.kind in _LANDING], failed)
    if lakehouse := [each for each in damage if each.kind in _LAKEHOUSE]:
        _set_aside_lakehouse(job)
        yield f"{' and '.join(_describe(each) for each in lakehouse)}: it is built again from the landing"
    yield from _repair_serving(job, [each for each in damage if each.kind in _SERVING])
    yield from _repair_generations(job, [each for each in damage if each.kind is Kind.BUCKET_GENERATION])
    yield from failed


def _repair_landing(job: Job, damage: Sequence[Damage], failed: list[str]) -> Iterator[str]:
    """Markers first: they say what the zips must be. Then zips, then the rows that are unpacked from them."""
    for kind, restore in ((Kind.MARKER, _restore_marker), (Kind.ZIP, _restore_zip), (Kind.BUCKET_ZIP, _restore_zip)):
        for each in (found for found in damage if found.kind is kind):
            try:
                done = restore(job, each)
            except (MateriaError, OSError) as error:
                failed.append(f"{_describe(each)}, and could not be repaired: {error}")
            else:
                _forget(job, each)
                yield f"{_describe(each)}: {done}"
    if rows := [each for each in damage if each.kind is Kind.ROWS]:
        for each in rows:
            Path(each.where).unlink(missing_ok=True)
        try:
            for landing in map(job.landing.of, FORMATS):
                for dataset in sorted({snapshot.dataset for snapshot in landing.snapshots()}):
                    landing.ready_rows(dataset)
        except (MateriaError, OSError) as error:
            failed.append(f"{', '.join(map(_describe, rows))}, and could not be unpacked again: {error}")
        else:
            _forget(job, *rows)
            yield f"{', '.join(map(_describe, rows))}: unpacked again"


def _restore_marker(job: Job, damage: Damage) -> str:
    from dataflows.landing.repair import restore_marker
    from dataflows.landing.report import restore_report_marker

    marker, local = Path(damage.where), LocalLanding(job.settings.landing_dir)
    marker.read_bytes()  # one that may not be read is not damaged: that raises
    aside = set_aside(marker, utc_now(), job.settings.data_dir / FOLDER)
    if job.remote is not None:
        return "the bucket's is fetched again"
    try:
        if marker.parent.name == WASDE.prefix:
            restore_report_marker(marker, local.of(WASDE))
        else:
            restore_marker(marker, local, job.settings.archive_url, job.settings.dataset)
    except BaseException:
        if aside is not None:
            move_durably(aside, marker)  # what is left of it still says that a snapshot was landed
        raise
    return "written again from its zip"


def _restore_zip(job: Job, damage: Damage) -> str:
    from dataflows.landing.repair import restore_zip
    from dataflows.source.archive import Archive

    format, snapshot = next(
        ((format, found) for format in FORMATS if (found := job.landing.of(format).find(damage.key))), (PSD, None)
    )
    if snapshot is None:
        return "its snapshot is no longer landed"
    local = LocalLanding(job.settings.landing_dir, format)
    bucket = job.remote.landing.of(format) if job.remote else None
    archive = Archive(job.request.retry_policy, job.settings.user_agent, job.request.progress)
    try:
        origin = restore_zip(snapshot, local, bucket, archive, in_bucket=damage.kind is Kind.BUCKET_ZIP)
    finally:
        archive.close()
    return f"restored from {origin}"


def _set_aside_lakehouse(job: Job) -> None:
    """Both files, for each is of no use without the other; what remembers where they came from goes, too."""
    settings = job.settings
    for path in (settings.lakehouse_path, settings.sqlmesh_state_path):
        set_aside(path, utc_now())
    settings.lakehouse_path.with_name(f"{settings.lakehouse_path.stem}.sync.json").unlink(missing_ok=True)
    forget(settings, lambda each: each.kind in _LAKEHOUSE)


def _repair_serving(job: Job, damage: Sequence[Damage]) -> Iterator[str]:
    """Set damaged generations aside; their sidecars stay, so that no number is given twice."""
    store = job.serving
    served_number = store.served_number()
    for each in damage:
        set_aside(Path(each.where), utc_now())
        _forget(job, each)
        yield f"{_describe(each)}: set aside"
    for number in (*store.numbers(), *([served_number] if served_number else [])):
        try:
            read_sidecar(store.path(number))
        except ServingError:
            set_aside(sidecar_of(store.path(number)), utc_now())
            yield f"the sidecar of generation {number} cannot be read: set aside"
    if _is_unreadable(job) or (served_number and not store.is_complete(served_number)):
        yield _serve_an_earlier(job, served_number)


def _serve_an_earlier(job: Job, damaged: int | None) -> str:
    for number in reversed([n for n in job.serving.numbers() if damaged and n < damaged]):
        with suppress(ServingError):
            job.serving.rollback(number)
            return f"generation {number} is served until another is published"
    job.settings.serving_path.unlink(missing_ok=True)
    return "nothing is served until another generation is published"


def _repair_generations(job: Job, damage: Sequence[Damage]) -> Iterator[str]:
    for each in damage:
        if job.remote is None:
            continue
        try:
            done = job.remote.generations.restore(int(each.key), job.serving)
        except MateriaError as error:
            yield f"{_describe(each)}, and could not be repaired: {error}"
        else:
            _forget(job, each)
            yield f"{_describe(each)}: {done}"


def _is_unreadable(job: Job) -> bool:
    """Whether the serving path leads to nothing, or a sidecar cannot be read."""
    try:
        job.serving.served()
        job.serving.generations()
    except ServingError:
        return True
    return False


def _forget(job: Job, *repaired: Damage) -> None:
    where = {each.where for each in repaired}
    forget(job.settings, lambda each: each.where in where)


def _describe(damage: Damage) -> str:
    return f"{damage.kind} {damage.name} is damaged ({damage.why})"
