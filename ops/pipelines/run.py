"""The pipelines: what `materia pipeline run` and `run-all` do."""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dataflows.errors import LakehouseError, LakehouseLockedError, SettingsError, TransformError
from dataflows.lakehouse.ducklake import DuckLake
from dataflows.lakehouse.transform import models_digest
from dataflows.landing.snapshot import Snapshot
from dataflows.source.archive import Archive
from dataflows.source.release import Month
from ops.config import lakehouse as ducklake
from ops.config.settings import IS_CHECKOUT, Settings, user_cache_dir
from ops.host.redact import is_secret
from ops.host.version import code_version
from ops.journal.run import utc_now
from ops.pipelines import handover, iceberg
from ops.pipelines.handover import Remote
from ops.pipelines.job import Job, Request, job
from ops.pipelines.repair import is_lakehouse_lost, repair, set_aside_lakehouse_if_damaged

if TYPE_CHECKING:
    from dataflows.extract import Extracted
    from dataflows.lakehouse.transform import Lakehouse

log = logging.getLogger(__name__)

NOTHING_NEW = "nothing new"


def run(pipeline: str, settings: Settings, request: Request) -> str:
    """Run a pipeline from beginning to end and return its outcome in a line.

    Raises LockHeldError when another run is writing here, SettingsError for an unknown pipeline, and whatever
    the pipeline fails with; the journal has it all.
    """
    if pipeline not in PIPELINES:
        raise SettingsError(f"there is no pipeline {pipeline!r}; there are {', '.join(PIPELINES)}")
    with job(pipeline, settings, request, request.arguments) as begun:
        repaired = repair(begun)
        PIPELINES[pipeline].work(begun)
        if repaired:
            begun.recorder.result = f"{begun.recorder.result or 'done'}; {repaired}"
        return begun.recorder.result or "done"


def upgrade_landing(job: Job) -> None:
    """Bring the landing's markers of the old form up to date, and say so; a step only when there are any."""
    from dataflows.landing.snapshot import FORM
    from dataflows.landing.upgrade import upgrade

    old = [snapshot for snapshot in job.landing.snapshots() if snapshot.form < FORM]
    if not old:
        return
    with job.recorder.step("landing_upgraded") as note:
        upgraded = upgrade(job.landing)
        redated = sum(1 for each in upgraded if each.is_redated)
        note.detail = f"{len(upgraded)} of {len(old)} markers, {redated} with another release month or day"
        log.info("landing upgraded: %s", note.detail)


def _extract(job: Job) -> None:
    """Land what is new. Markers of the old form are read and stay as they are: what an extract compares are addresses,
    validators and bytes, which they hold; `upgrade_landing` belongs to the runs that put releases in order."""
    from dataflows import extract

    archive = Archive(job.request.retry_policy, job.settings.user_agent, job.request.progress)
    try:
        found = job.execute(extract, "snapshot", _extract_inputs(job, archive))
    finally:
        archive.close()
    job.recorder.snapshots = tuple(dict.fromkeys(each.snapshot.key for each in found.landed))
    job.recorder.result = outcome_of(found)


def _extract_inputs(job: Job, archive: Archive) -> Mapping[str, Any]:
    return {
        "archive": archive,
        "archive_url": job.settings.archive_url,
        "live_url": job.settings.live_url,
        "dataset": job.settings.dataset,
        "newest_month": job.request.as_of or Month.of(utc_now().date()),
        "landing": job.landing,
        "landed_at": utc_now(),
    }


def has_work(pipeline: str, job: Job) -> bool:
    """Whether a pipeline would download, compute or publish anything. Probes and compares; downloads no release.

    Without work, running the pipeline on this host costs seconds, whatever machine it is meant for.
    """
    if pipeline in ("extract", "run-all") and _is_anything_new(job):
        return True
    if pipeline == "extract":
        return False
    if pipeline != "transform" and job.request.forced_reason is not None:
        return True
    return not _is_current(job) or (pipeline != "transform" and iceberg.is_behind(job))


def _is_anything_new(job: Job) -> bool:
    from dataflows import driver, extract

    archive = Archive(job.request.retry_policy, job.settings.user_agent)
    try:
        return bool(driver.execute(extract, "has_work", _extract_inputs(job, archive)))
    finally:
        archive.close()


def outcome_of(found: "Extracted") -> str:
    """What an extract found, in a line. It says *nothing new* only when everything that it names was asked."""
    new = [described(each.snapshot, each.is_current_file) for each in found.landed if each.is_new]
    problems = f"; {'; '.join(found.problems)}" if found.problems else ""
    if new:
        return f"landed {', '.join(new)}{problems}"
    known = f"{found.snapshot.month} of {found.snapshot.released_on} was landed before"
    return f"{known}{problems}" if found.problems else f"{NOTHING_NEW}: {known}"


def described(snapshot: Snapshot, is_current_file: bool = False) -> str:
    source = ", current file" if is_current_file else ""
    return f"{snapshot.month} of {snapshot.released_on} ({snapshot.row_count:,} facts{source})"


def _transform(job: Job) -> None:
    if _is_current(job) and not is_lakehouse_lost(job):
        return
    with job.holding_lakehouse() as holding:
        _transformed(holding)


def _export_serving(job: Job) -> None:
    if not _is_current(job) or job.request.forced_reason is not None:
        with job.holding_lakehouse() as holding:
            _publish(holding, _transformed(holding))
    iceberg.keep_up(job)


def _run_all(job: Job) -> None:
    with job.inside("extract") as extracting:
        _extract(extracting)
    job.recorder.snapshots = extracting.recorder.snapshots
    if not _brought_up_to_date(job):
        job.recorder.result = extracting.recorder.result
    iceberg.keep_up(job)


def bring_up_to_date(job: Job) -> None:
    """Transform and publish what is landed, as runs inside this one, unless it is served already; then Iceberg."""
    _brought_up_to_date(job)
    iceberg.keep_up(job)


def _brought_up_to_date(job: Job) -> bool:
    """Whether there was anything to transform and publish, as runs inside this one."""
    is_wanted = not _is_current(job) or job.request.forced_reason is not None
    if not is_wanted and not is_lakehouse_lost(job):
        return False
    with job.holding_lakehouse() as holding:
        with holding.inside("transform") as transforming:
            given = _transformed(transforming)
        if not is_wanted:
            job.recorder.result = f"{NOTHING_NEW}; the lakehouse was built again: {transforming.recorder.result}"
            return True
        with holding.inside("export_serving") as exporting:
            _publish(exporting, given)
    job.recorder.result = exporting.recorder.result
    return True


def _is_current(job: Job) -> bool:
    """Whether what is landed was published before; then says so. Imports nothing heavy to find out."""
    from dataflows.serving.gate import is_current

    upgrade_landing(job)
    handover.share_generations(job.remote, job.serving, job.settings.max_row_loss, job.recorder)
    current = is_current(job.serving, job.landing.snapshots(), job.settings.dataset)
    if current:
        job.recorder.result = NOTHING_NEW
        log.info("nothing new: what is landed was published before")
    return current


def _transformed(job: Job) -> Mapping[str, Any]:
    """Bring the lakehouse up to date, built again once if damage made it fail; the nodes that an export reuses."""
    try:
        return _transformed_once(job)
    except LakehouseLockedError:
        raise
    except (TransformError, LakehouseError):
        why = set_aside_lakehouse_if_damaged(job)
        if why is None:
            raise
        log.warning("%s; it was set aside and is built again from the landing", why)
        return _transformed_once(job)


def _transformed_once(job: Job) -> Mapping[str, Any]:
    from dataflows import export
    from dataflows.lakehouse.transform import warm_up

    inputs = _export_inputs(job)
    # The child's imports take seconds; what this process has to import and fetch goes on meanwhile.
    with (
        warm_up(inputs["lakehouse"]) as lakehouse,
        handover.lakehouse_handed_over(_file_handed_over(job), job.recorder),
    ):
        inputs = {**inputs, "lakehouse": lakehouse}
        landed = job.execute(export, "landed", inputs)
        audited = job.execute(export, "audited", inputs, {"landed": landed})
    releases = audited.releases_processed
    job.recorder.snapshots = tuple(snapshot.key for snapshot in landed)
    job.recorder.result = (
        f"{releases} release{'' if releases == 1 else 's'} compared"
        if releases
        else "models deployed"
        if audited.models_changed
        else "up to date, audits passed"
    )
    return {"landed": landed, "transformed": audited, "audited": audited}


def _publish(job: Job, given: Mapping[str, Any]) -> None:
    from dataflows import export

    generation = job.execute(export, "generation", _export_inputs(job), given)
    handover.share_generations(job.remote, job.serving, job.settings.max_row_loss, job.recorder)
    job.recorder.snapshots = generation.snapshots
    job.recorder.result = (
        f"generation {generation.number} serves releases to {generation.newest_released_on}"
        f" ({generation.row_counts['fct_psd']:,} fact versions)"
    )


def _export_inputs(job: Job) -> Mapping[str, Any]:
    from dataflows.serving.gate import Gate

    return {
        "landing": job.landing,
        "lakehouse": lakehouse_of(job, job.settings.used_ducklake),
        "serving": job.serving,
        "gate": Gate(job.settings.max_row_loss, job.request.forced_reason),
        "code_version": code_version(),
        "created_at": utc_now(),
    }


def lakehouse_of(job: Job, lake: DuckLake | None) -> "Lakehouse":
    """The lakehouse in that DuckLake or, without one, in its file, as a child process gets it."""
    from dataflows.lakehouse.transform import Lakehouse

    return Lakehouse(
        path=job.settings.lakehouse_path,
        dataset=job.settings.dataset,
        environ=_child_environ(job.settings),
        secrets=ducklake.environ_of(lake) if lake else {},
        inherited_fds=(job.lock.fileno(), *job.shared_lock_fds),
        ducklake=lake,
    )


def _file_handed_over(job: Job) -> Remote | None:
    """The bucket through which a lakehouse's file travels; a DuckLake is shared as it is."""
    return None if job.settings.used_ducklake else job.remote


def _child_environ(settings: Settings) -> Mapping[str, str]:
    """What SQLMesh's process gets: these very settings, no secret, and nothing of a bucket that it cannot use."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not is_secret(name) and not name.startswith(("R2_", "DUCKLAKE_"))
    }
    return inherited | {
        "MATERIA_DATA_DIR": str(settings.data_dir),
        "LAKEHOUSE_DUCKDB_PATH": str(settings.lakehouse_path),
        "PSD_DATASET": settings.dataset,
        "MATERIA_GATEWAY": "duckdb",  # a DuckLake's settings follow with the order, since they hold secrets
        **({} if IS_CHECKOUT else {"SQLMESH_CACHE_DIR": str(user_cache_dir() / "sqlmesh" / models_digest())}),
    }


@dataclass(frozen=True)
class Pipeline:
    """A pipeline: what it is for, and what it does."""

    summary: str
    work: Callable[[Job], None]


PIPELINES: Mapping[str, Pipeline] = {
    "extract": Pipeline("probe the archive and land the newest release, unless it is landed", _extract),
    "transform": Pipeline("bring the lakehouse up to date with what is landed", _transform),
    "export_serving": Pipeline("publish the lakehouse's serving tables as a new generation", _export_serving),
    "run-all": Pipeline("extract, and when there is anything new transform and export_serving", _run_all),
}
