"""The pipelines: what `materia pipeline run` and `run-all` do."""

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dataflows.errors import LakehouseError, LakehouseLockedError, SettingsError, TransformError
from dataflows.lakehouse.ducklake import DuckLake
from dataflows.lakehouse.spark import SparkLakehouse
from dataflows.lakehouse.spark_settings import NAMES as SPARK_NAMES
from dataflows.lakehouse.transform import Lakehouse, models_digest, warm_up
from dataflows.landing.snapshot import Snapshot
from dataflows.source.archive import Archive
from dataflows.source.formats import WASDE
from dataflows.source.release import Month
from ops.config.lakehouse import environ_of
from ops.config.settings import IS_CHECKOUT, Settings, user_cache_dir
from ops.host.redact import is_secret
from ops.host.version import code_version
from ops.journal.run import utc_now
from ops.pipelines import iceberg, wasde
from ops.pipelines.job import Job, Request, open_job
from ops.pipelines.repair import empty_lake_if_damaged, is_lakehouse_lost, repair, set_aside_lakehouse_if_damaged

if TYPE_CHECKING:
    from dataflows.export import ReadyLakehouse
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
    with open_job(pipeline, settings, request, request.arguments) as job:
        repaired = repair(job)
        PIPELINES[pipeline].work(job)
        if repaired:
            job.recorder.result = f"{job.recorder.result or 'done'}; {repaired}"
        return job.recorder.result or "done"


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


def _extract(job: Job, on_probed: Callable[[Snapshot | None], None] = lambda _: None) -> None:
    """Land what is new; `on_probed` gets the snapshot that the newest posted file was landed as before, before the
    download. Markers of the old form are read and stay as they are: what an extract compares are addresses,
    validators and bytes, which they hold; `upgrade_landing` belongs to the runs that put releases in order."""
    from dataflows import driver, extract

    archive = Archive(job.request.retry_policy, job.settings.user_agent, job.request.progress)
    try:
        after_probing = driver.on_result("landed_already", on_probed)
        found = job.execute(extract, "snapshot", _extract_inputs(job, archive), adapters=[after_probing])
    finally:
        archive.close()
    job.recorder.snapshots = tuple(dict.fromkeys(each.snapshot.key for each in found.landed))
    landed_report = wasde.extract_beside(job)
    job.recorder.result = "; ".join(filter(None, (outcome_of(found), landed_report)))


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

    Without work, the pipeline runs on this host and takes seconds, also when it is meant for a worker.
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
        return bool(driver.execute(extract, "has_work", _extract_inputs(job, archive))) or wasde.has_work(job)
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
        _execute_transform(holding)


def _export_serving(job: Job) -> None:
    if not _is_current(job) or job.request.forced_reason is not None:
        with job.holding_lakehouse() as holding:
            _execute_export(holding)
    iceberg.keep_up(job)


def _run_all(job: Job) -> None:
    with ExitStack() as children:
        started: list[Lakehouse] = []

        def start_child(landed_already: Snapshot | None) -> None:
            """Let SQLMesh's imports, which take seconds, overlap the download of a new release."""
            # The lock of a lakehouse that is no file is taken later, and a child can only inherit it at its start.
            if landed_already is None and job.settings.lake is None:
                started.append(children.enter_context(warm_up(lakehouse_of(job, None))))

        with job.inside("extract") as extracting:
            _extract(extracting, start_child)
        job.recorder.snapshots = extracting.recorder.snapshots
        if not _bring_up_to_date(job, started[0] if started else None):
            job.recorder.result = extracting.recorder.result
    iceberg.keep_up(job)


def bring_up_to_date(job: Job) -> None:
    """Transform and publish what is landed, as runs inside this one, unless it is served already; then Iceberg."""
    _bring_up_to_date(job)
    iceberg.keep_up(job)


def _bring_up_to_date(job: Job, lakehouse: "Lakehouse | None" = None) -> bool:
    """Whether there was anything to transform and publish, as runs inside this one; in `lakehouse` where it waits."""
    is_wanted = not _is_current(job) or job.request.forced_reason is not None
    if not is_wanted and not is_lakehouse_lost(job):
        return False
    with job.holding_lakehouse() as holding:
        with holding.inside("transform") as transforming:
            ready = _execute_transform(transforming, lakehouse)
        if not is_wanted:
            job.recorder.result = f"{NOTHING_NEW}; the lakehouse was built again: {transforming.recorder.result}"
            return True
        with holding.inside("export_serving") as exporting:
            _execute_export(exporting, ready)
    job.recorder.result = exporting.recorder.result
    return True


def _is_current(job: Job) -> bool:
    """Whether what is landed was published before; then says so. Imports nothing heavy to find out."""
    from dataflows.serving.gate import is_current

    upgrade_landing(job)
    sync_generations(job)
    snapshots = (*job.landing.snapshots(), *job.landing.of(WASDE).snapshots())
    current = is_current(job.serving, snapshots, job.settings.dataset)
    if current:
        job.recorder.result = NOTHING_NEW
        log.info("nothing new: what is landed was published before")
    return current


def sync_generations(job: Job) -> None:
    """Serve the bucket's newest generation, or bring it ours if that is newer, as a step; nothing without a bucket."""
    if job.remote is None:
        return
    from dataflows.serving import sync

    with job.recorder.step("generations_synced") as note:
        note.detail = sync.sync_generations(job.remote.generations, job.serving, job.settings.max_row_loss)


def _execute_transform(job: Job, lakehouse: "Lakehouse | None" = None) -> "ReadyLakehouse":
    """Bring the lakehouse up to date."""
    from dataflows import export

    ready = _rebuilding_if_damaged(job, lambda: _execute_with_child(job, "lakehouse_pushed", lakehouse))
    assert isinstance(ready, export.ReadyLakehouse)
    job.recorder.snapshots = tuple(snapshot.key for snapshot in ready.landed)
    job.recorder.result = ready.transformed.step_detail
    return ready


def _execute_export(job: Job, ready: "ReadyLakehouse | None" = None) -> None:
    """Publish a generation of the lakehouse, which is brought up to date first unless it is `ready`."""
    from dataflows import export

    if ready is not None:
        given = {"lakehouse_pushed": ready}
        published = job.execute(export, "generations_synced", _export_inputs(job), given)
    else:
        published = _rebuilding_if_damaged(job, lambda: _execute_with_child(job, "generations_synced"))
    generation = published.generation
    job.recorder.snapshots = generation.snapshots
    job.recorder.result = (
        f"generation {generation.number} serves releases to {generation.newest_released_on}"
        f" ({generation.row_counts['fct_psd']:,} fact versions)"
        f"{f'; {generation.wasde_check}' if generation.wasde_check else ''}"
    )


def _execute_with_child(job: Job, wanted: str, lakehouse: "Lakehouse | None" = None) -> Any:
    """Execute the export dataflow while SQLMesh's child process already imports, unless `lakehouse` has one."""
    inputs = _export_inputs(job)
    with nullcontext(lakehouse) if lakehouse else warm_up(inputs["lakehouse"]) as waiting:
        from dataflows import export

        return job.execute(export, wanted, {**inputs, "lakehouse": waiting})


def _rebuilding_if_damaged(job: Job, execute: Callable[[], Any]) -> Any:
    """Execute on a lakehouse without known damage; if damage makes it fail, rebuild it and retry."""
    if why := empty_lake_if_damaged(job, lakehouse_of(job, job.settings.lake)):
        log.warning("%s; the lakehouse was emptied and is built again from the landing", why)
    try:
        return execute()
    except LakehouseLockedError:
        raise
    except (TransformError, LakehouseError):
        why = set_aside_lakehouse_if_damaged(job)
        if why is None:
            raise
        log.warning("%s; it was set aside and is built again from the landing", why)
        return execute()


def _export_inputs(job: Job) -> Mapping[str, Any]:
    from dataflows.serving.gate import Gate

    # Another gateway's tables are shared as they are; a lakehouse file travels through the bucket.
    file_sync = job.remote.lakehouse if job.remote and not job.settings.lake else None
    return {
        "landing": job.landing,
        "lakehouse": lakehouse_of(job, job.settings.lake),
        "lakehouse_sync": file_sync,
        "serving": job.serving,
        "generation_sync": job.remote.generations if job.remote else None,
        "gate": Gate(job.settings.max_row_loss, job.request.forced_reason),
        "code_version": code_version(),
        "created_at": utc_now(),
    }


def lakehouse_of(job: Job, lake: DuckLake | SparkLakehouse | None) -> "Lakehouse":
    """The lakehouse in `lake` or, without one, in its file, as a child process gets it."""
    from dataflows.lakehouse.transform import Lakehouse

    return Lakehouse(
        path=job.settings.lakehouse_path,
        dataset=job.settings.dataset,
        environ=_child_environ(job.settings),
        secrets=environ_of(lake) if lake else {},
        inherited_fds=(job.lock.fileno(), *job.shared_lock_fds),
        lake=lake,
    )


def _child_environ(settings: Settings) -> Mapping[str, str]:
    """What SQLMesh's process gets: these very settings, no secret, and nothing of a bucket that it cannot use."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not is_secret(name) and not name.startswith(("R2_", "DUCKLAKE_")) and name not in SPARK_NAMES
    }
    return inherited | {
        "MATERIA_DATA_DIR": str(settings.data_dir),
        "LAKEHOUSE_DUCKDB_PATH": str(settings.lakehouse_path),
        "PSD_DATASET": settings.dataset,
        "MATERIA_GATEWAY": "duckdb",  # the settings of another one follow with the order, since they hold secrets
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
