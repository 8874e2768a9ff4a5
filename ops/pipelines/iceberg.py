"""Keeping an Iceberg catalog up with what is served, as a run `publish_iceberg` of its own.

Serving comes first: by the time that this runs, the generation is served, and whatever happens here changes nothing
about that. What failed is recorded, shown by `materia status`, and tried again by the next run, whether or not that
finds anything new. What the catalog got last stands in the journal, so that neither status nor a run that finds
nothing new needs to ask it.
"""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dataflows.errors import IcebergError, ServingMissingError, SettingsError
from dataflows.iceberg.catalog import CatalogAddress
from dataflows.serving.generation import FOREIGN_NUMBER, Generation
from dataflows.serving.store import ServingStore
from ops.config.settings import Settings
from ops.journal.journal import Journal
from ops.journal.run import Run, utc_now

if TYPE_CHECKING:
    from ops.pipelines.job import Job

PIPELINE = "publish_iceberg"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lag:
    """What the catalog lacks: the served generation, and how the last try to bring it ended."""

    generation: Generation
    last_got: str | None
    """The generation that it got last, in words; None when it never got one."""
    failure: Run | None
    """The try that failed; None when it has not been tried."""


def lag_of(address: CatalogAddress, served: Generation | None, journal: Journal) -> Lag | None:
    """Whether the catalog lacks what is served; None when it has it. Reads the journal only."""
    if served is None or served.number == FOREIGN_NUMBER:
        return None
    success = journal.last_success_by_pipeline().get(PIPELINE)
    if success is not None and success.arguments[1:] == _arguments(address, served)[1:]:
        return None
    failure = journal.last_failure_by_pipeline().get(PIPELINE)
    is_newest = failure is not None and (success is None or failure.id > success.id)
    return Lag(served, success.arguments[0] if success and success.arguments else None, failure if is_newest else None)


def is_behind(job: "Job") -> bool:
    """Whether a catalog is set and lacks what is served."""
    address = job.settings.iceberg
    return address is not None and lag_of(address, job.serving.served(), job.recorder.journal) is not None


def keep_up(job: "Job") -> None:
    """Publish what is served, if the catalog lacks it. Never raises but for an interruption: serving goes on.

    The job's result says what failed.
    """
    address = job.settings.iceberg
    if address is None:
        return
    try:
        served = job.serving.served()
        if served is not None and lag_of(address, served, job.recorder.journal) is not None:
            with job.inside(PIPELINE, _arguments(address, served)) as inner:
                _publish(inner, address, served)
    except Exception as error:
        # Whatever it is: the generation is served, and the run inside this one has recorded the failure.
        reason = job.recorder.error_text(error)
        log.warning("Iceberg is behind; the next run tries again", extra={"error": reason})
        job.recorder.result = f"{job.recorder.result or 'done'}; Iceberg is behind: {reason}"


def publish_now(settings: Settings) -> str:
    """Publish what is served, whether or not the catalog lacks it; the outcome in a line. A run of its own.

    Raises SettingsError without a catalog, ServingMissingError when nothing is served, LockHeldError, IcebergError
    and what is below it.
    """
    from ops.pipelines.job import Request, open_job

    address = required_address(settings)
    served = required_generation(settings)
    with open_job(PIPELINE, settings, Request(), _arguments(address, served)) as job:
        return _publish(job, address, served)


def required_address(settings: Settings) -> CatalogAddress:
    """The catalog; SettingsError when none is set."""
    if settings.iceberg is None:
        raise SettingsError(
            "no Iceberg catalog is set: ICEBERG_CATALOG_URI, ICEBERG_WAREHOUSE and ICEBERG_TOKEN name one; "
            "docs/how-to/iceberg.md tells more"
        )
    return settings.iceberg


def required_generation(settings: Settings) -> Generation:
    """The served generation; ServingMissingError when there is none of our making."""
    served = ServingStore(settings.serving_path).served()
    if served is None or served.number == FOREIGN_NUMBER:
        raise ServingMissingError(f"no generation is served at {settings.serving_path} yet; run `materia run-all`")
    return served


def _publish(job: "Job", address: CatalogAddress, served: Generation) -> str:
    from dataflows import export

    inputs = {
        "serving": job.serving,
        "iceberg": address,
        "dataset": job.settings.dataset,
        "created_at": utc_now(),
    }
    given = {"generations_synced": export.Published(served, "served already")}
    try:
        outcome = job.execute(export, "iceberg_published", inputs, given)
    except IcebergError as error:
        error.add_note("what is served is untouched; the next run tries again, or now: materia iceberg publish")
        raise
    job.recorder.snapshots = served.snapshots
    job.recorder.result = str(outcome)
    return job.recorder.result


def _arguments(address: CatalogAddress, generation: Generation) -> tuple[str, ...]:
    """What was published where, as the journal keeps it: the same on every host, though numbers may differ."""
    return f"generation {generation.number}", generation.sha256[:16], str(address)
