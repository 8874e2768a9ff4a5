"""The status of everything as one frozen value, for `materia status` and the console.

Cheap: reads the journal, sidecars, and the beginning and end of each stored file; imports no database.
"""

import re
import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

from dataflows.errors import JournalError, MateriaError, ServingError
from dataflows.serving.generation import Generation
from dataflows.serving.store import ServingStore
from dataflows.source.release import Month
from dataflows.source.release_dates import last_listed_month, next_release_due, usda_release_days
from ops.config.settings import Settings
from ops.health.damage import damage_problems
from ops.health.disk import disk_space
from ops.health.heartbeat import read_heartbeat
from ops.health.memory import Memory, Reaping, read_memory
from ops.health.pipelines import PipelineState, pipeline_states
from ops.health.problem import Problem, Severity
from ops.host.formatting import size_text
from ops.journal.journal import Journal
from ops.journal.run import Run, RunStatus
from ops.pipelines import iceberg
from ops.pipelines.current_file import CurrentFile, current_file
from ops.workers.caps import LEDGER_NAME, Ledger
from ops.workers.errors import WorkerError

LAST_USUAL_RELEASE_DAY = 15
FETCH_STALE_AFTER = timedelta(hours=24)
_COMMANDS = {
    "run-all": "run-all",
    "backfill": "backfill",
    "rollback": "serving rollback",
    "repair": "landing repair",
    "land_reports": "wasde land",
    "extract_wasde": "run-all",
    "demo": "demo",
}
"""Pipelines whose command is not `pipeline run`."""


@dataclass(frozen=True)
class Status:
    """The status at `checked_at` (UTC)."""

    checked_at: datetime
    generation: Generation | None
    expected_release: Month
    pipelines: tuple[PipelineState, ...]
    problems: tuple[Problem, ...]
    gateway: str = "duckdb"
    """Where transforms write: `duckdb` (a file in the data directory), `ducklake` or `spark`."""
    lakehouse: str = ""
    """The lakehouse's type and location, without secrets."""
    current_file: CurrentFile | None = None
    """The last known check of USDA's current file."""

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def is_fresh(self) -> bool | None:
        """Whether the served release is the newest one due; None if the served release is unknown."""
        if self.generation is None or self.generation.newest_released_on is None:
            return None
        return missed_release(self.generation, self.current_file, self.checked_at) is None


def take_status(settings: Settings, now: datetime) -> Status:
    """Read the journal and the served generation; if one of them is broken, that is a problem, not an error."""
    problems: list[Problem] = []
    generation, checked = None, None
    try:
        store = ServingStore(settings.serving_path)
        generation = store.served()
        checked = current_file(settings, generation)
        problems.extend(_generation_problems(store, generation, checked, now))
        problems.extend(_wasde_problems(generation))
    except ServingError as error:
        problems.append(_problem_of(error, "serving-broken"))
    pipelines: tuple[PipelineState, ...] = ()
    try:
        journal = Journal(settings.journal_path)
        pipelines = pipeline_states(journal)
        problems.extend(_failures(journal))
        problems.extend(_iceberg_problems(settings, generation, journal))
        # If extract fails, that explains why it is stale.
        if not {"failed-extract", "failed-run-all"} & {problem.key for problem in problems}:
            problems.extend(_extract_problems(journal, generation, now, settings.supervision.stale_after))
    except JournalError as error:
        problems.append(_problem_of(error, "journal-broken"))
    problems.extend(damage_problems(settings))
    problems.extend(_lakehouse_problems(settings))
    problems.extend(_disk_problems(settings))
    worker_problems = tuple(_worker_problems(settings, now))
    problems.extend(worker_problems)
    problems.extend(_supervisor_problems(settings, now, {problem.what for problem in worker_problems}))
    lakehouse = str(settings.lake or settings.lakehouse_path)
    expected = expected_release(now)
    return Status(now, generation, expected, pipelines, tuple(problems), settings.gateway, lakehouse, checked)


def served_release(settings: Settings) -> Month | None:
    """The month of the newest served release; None if it is unknown."""
    try:
        generation = ServingStore(settings.serving_path).served()
    except ServingError:
        return None
    return generation.newest_month if generation else None


def expected_release(now: datetime) -> Month:
    """The newest release that USDA must have posted by `now`: the last day for it is over, in UTC.

    A month that is missing from the calendar has no release.
    """
    today = now.astimezone(UTC).date()
    month = Month.of(today)
    while (last_day := _last_day(month)) is None or last_day >= today:
        month = month.back(1)
    return month


def _last_day(month: Month) -> date | None:
    """The last day on which USDA posts a month's release; None if the calendar has none for it."""
    if days := usda_release_days(month):
        return days[0]
    return None if month <= last_listed_month() else date(month.year, month.month, LAST_USUAL_RELEASE_DAY)


@dataclass(frozen=True)
class MissedRelease:
    """A release that USDA may have posted and that is not served: its due day is over, and no check found it absent."""

    due_on: date
    must_be_out: Month | None
    """The newest month that USDA has posted by its calendar or habit; None on days on which it may or may not have."""

    def __str__(self) -> str:
        if self.must_be_out:
            return f"{self.must_be_out} should be out"
        return f"{Month.of(self.due_on)} is due since {self.due_on}, and no check shows that it is not out"


def missed_release(generation: Generation, checked: CurrentFile | None, now: datetime) -> MissedRelease | None:
    """The release that makes the served generation stale at `now`; None if it is fresh.

    It is fresh as long as the as-of macros call its newest release certain: until `next_release_due` inclusive, and
    later if a check of today or yesterday found that release in the current file. A check does not make up for a month
    that USDA must have posted.
    """
    released_on, today = generation.newest_released_on, now.astimezone(UTC).date()
    if released_on is None or (due_on := next_release_due(released_on)) >= today:
        return None
    expected = expected_release(now)
    if generation.newest_month is not None and generation.newest_month < expected:
        return MissedRelease(due_on, expected)
    is_checked = checked is not None and checked.is_served and checked.checked_on >= today - timedelta(days=1)
    return None if is_checked else MissedRelease(due_on, None)


def _generation_problems(
    store: ServingStore, generation: Generation | None, checked: CurrentFile | None, now: datetime
) -> Iterator[Problem]:
    if generation is None:
        yield Problem(Severity.MISSING, "nothing is served yet", None, "materia run-all", key="serving-missing")
    elif generation.newest_released_on is None:
        what = "the release of the served generation is unknown"
        yield Problem(Severity.STALE, what, generation.created_at, "materia run-all", key="release-unknown")
    elif missed := missed_release(generation, checked, now):
        due = datetime.combine(missed.due_on, time(), UTC) + timedelta(days=1)
        what = f"the newest served release is of {generation.newest_released_on}, {missed}"
        next_step = "materia run-all; if USDA has not posted it, wait"
        if newer := _rolled_back_from(store, generation):
            what = f"rolled back to generation {generation.number}; {newer.number} has {newer.newest_released_on}"
            next_step = f"materia serving rollback {newer.number}, if it is good; a new release also ends the rollback"
            due = datetime.fromtimestamp(store.serving_path.lstat().st_mtime, UTC)  # when the link was replaced
        yield Problem(Severity.STALE, what, due, next_step, key="release-stale")


def _wasde_problems(generation: Generation | None) -> Iterator[Problem]:
    """The problem that USDA's own report contradicts the served world totals."""
    check = generation.wasde_check if generation else None
    if generation and check and check.differing:
        what = f"{len(check.differing)} of {check.compared} world totals differ from WASDE of {check.month}"
        next_step = (
            "materia wasde land FILE, if USDA corrected the report; else a corrected release ends it; "
            "`FROM serving.agg_wasde_check WHERE NOT agrees` lists them"
        )
        yield Problem(Severity.FAILED, f"{what}: {check.named}", generation.created_at, next_step, key="wasde-differs")


def _rolled_back_from(store: ServingStore, served: Generation) -> Generation | None:
    """The newest kept generation if its release is newer than the served one; then a run finds nothing new."""
    newest = max(store.generations(), key=lambda each: each.number, default=served)
    if newest.number <= served.number or not newest.newest_released_on or not served.newest_released_on:
        return None
    return newest if newest.newest_released_on > served.newest_released_on else None


def _failures(journal: Journal) -> Iterator[Problem]:
    """Pipelines that failed or died and have not succeeded since."""
    succeeded = journal.last_success_by_pipeline()
    for pipeline, failure in journal.last_failure_by_pipeline().items():
        repaired = pipeline in succeeded and succeeded[pipeline].id > failure.id
        if pipeline != iceberg.PIPELINE and not repaired and not _is_caused_by_child(journal, failure):
            yield Problem(
                Severity.FAILED,
                f"{pipeline} {failure.status} (run {failure.id}): {failure.error or 'no reason recorded'}",
                failure.ended_at or failure.started_at,
                f"{_retry_command(failure)}; `materia runs show {failure.id}` shows the error",
                failure.id,
                key=f"failed-{pipeline}",
            )


def _iceberg_problems(settings: Settings, generation: Generation | None, journal: Journal) -> Iterator[Problem]:
    """The problem that the Iceberg catalog does not hold the served generation, and why."""
    lag = iceberg.lag_of(settings.iceberg, generation, journal) if settings.iceberg else None
    if lag is None:
        return
    what = f"Iceberg is behind: it has {lag.last_got or 'nothing yet'}, generation {lag.generation.number} is served"
    if lag.failure is None:
        next_step = "materia iceberg publish, or wait for the next run"
        yield Problem(Severity.STALE, what, lag.generation.created_at, next_step, key="iceberg-behind")
    else:
        failure = lag.failure
        what = f"{what}; run {failure.id} {failure.status}: {failure.error or 'no reason recorded'}"
        next_step = f"materia iceberg publish; materia runs show {failure.id} shows details"
        since = failure.ended_at or failure.started_at
        yield Problem(Severity.FAILED, what, since, next_step, failure.id, key="iceberg-behind")


def _retry_command(failure: Run) -> str:
    """The command that repeats a failed run."""
    command = _COMMANDS.get(failure.pipeline, f"pipeline run {failure.pipeline}")
    return shlex.join(["materia", *command.split(), *failure.arguments])


def _is_caused_by_child(journal: Journal, failure: Run) -> bool:
    """Whether a run failed because of a child run, which is then reported instead."""
    return any(child.status in (RunStatus.FAILED, RunStatus.DIED) for child in journal.children(failure.id))


def _extract_problems(
    journal: Journal, generation: Generation | None, now: datetime, stale_after: timedelta
) -> Iterator[Problem]:
    success = journal.last_success_by_pipeline().get("extract")
    if success is None and generation is not None:
        yield Problem(Severity.STALE, "extract has never succeeded here", None, "materia run-all", key="extract-stale")
    elif success is not None and now - (success.ended_at or success.started_at) > stale_after:
        hours = stale_after // timedelta(hours=1)
        what = f"extract has not succeeded for more than {hours} h"
        next_step = "materia run-all; check that it is scheduled"
        yield Problem(Severity.STALE, what, success.ended_at, next_step, key="extract-stale")


def _lakehouse_problems(settings: Settings) -> Iterator[Problem]:
    """What the gateway lacks on this machine; `materia doctor` also checks what is elsewhere."""
    lake = settings.lake
    if lake is None:
        return
    from dataflows.lakehouse.ducklake import DuckLake, SqliteCatalog

    if missing := lake.missing_packages():
        what = f"the gateway is {settings.gateway}, and {', '.join(missing)} is not installed"
        next_step = f"uv sync --extra {lake.extra}, on the supervisor's host MATERIA_EXTRAS={lake.extra}"
        yield Problem(Severity.MISSING, what, None, next_step, key="lakehouse-packages")
    if not isinstance(lake, DuckLake):
        return
    has_catalog = isinstance(lake.catalog, SqliteCatalog) and lake.catalog.path.exists()
    if has_catalog and lake.data_dir is not None and not lake.data_dir.is_dir():
        what = f"the DuckLake's catalog exists, but its data directory does not: {lake.data_dir}"
        yield Problem(Severity.MISSING, what, None, "mount or restore it, or fix DUCKLAKE_DATA", key="ducklake-data")


def _disk_problems(settings: Settings) -> Iterator[Problem]:
    disk = disk_space(settings)
    if disk.is_low:
        free, needed = size_text(disk.free_bytes), size_text(disk.needed_bytes)
        what = f"{disk.folder} has {free} free, and the next release needs {needed}"
        yield Problem(
            Severity.FAILED,
            what,
            None,
            "free some space, or lower MATERIA_MIN_FREE_MB; until then no scheduled run starts",
            key="disk-full",
        )


def _worker_problems(settings: Settings, now: datetime) -> Iterator[Problem]:
    """Workers that may still cost money after their run, according to the local ledger; no provider is asked."""
    try:
        entries = Ledger(settings.data_dir / LEDGER_NAME).unconfirmed(now)
    except WorkerError as error:
        yield _problem_of(error, "workers-unknown")
        return
    for entry in entries:
        next_step, since = f"materia worker destroy {entry.name}", entry.left_at or entry.due_at
        yield Problem(Severity.FAILED, entry.warning(), since, next_step, key=f"worker-left-{entry.name}")


def _supervisor_problems(settings: Settings, now: datetime, reported: Collection[str]) -> Iterator[Problem]:
    """Problems that the supervisor recorded, except those in `reported`; none if no supervisor has ever run."""
    try:
        heartbeat = read_heartbeat(settings.supervisor_dir)
    except JournalError as error:
        yield _problem_of(error, "heartbeat-broken")
        heartbeat = None
    if heartbeat is not None and heartbeat.is_failing:
        succeeded = (
            f"the last success was at {heartbeat.succeeded_at:%Y-%m-%d %H:%M} UTC"
            if heartbeat.succeeded_at
            else "none has succeeded yet"
        )
        what = f"{heartbeat.error}: {heartbeat.failures} ticks of the supervisor failed in a row, {succeeded}"
        next_step = (
            f"see {settings.log_dir / 'supervisor.log'} on {heartbeat.host}; fix the cause, the next tick retries"
        )
        yield Problem(Severity.FAILED, what, heartbeat.failing_since, next_step, key="supervisor-failing")
    elif heartbeat is not None and heartbeat.is_late(now):
        next_step = f"on {heartbeat.host}: systemctl restart materia-supervisor; see journalctl -u materia-supervisor"
        what = f"the supervisor does not respond (last heartbeat: {heartbeat.doing})"
        yield Problem(Severity.STALE, what, heartbeat.at, next_step, key="supervisor-late")
    memory = read_memory(settings.supervisor_dir)
    if (
        memory.reaping is not None
        and memory.reaping.failing_since is not None
        and not _is_reported(memory.reaping, reported)
    ):
        what = f"workers could not be reaped, and may cost money: {memory.reaping.error}"
        next_step = f"materia worker reap; see {settings.log_dir / 'scheduled-reap.log'}; the supervisor retries"
        since = memory.reaping.failing_since
        yield Problem(Severity.FAILED, what, since, next_step, key="workers-not-reaped")
    yield from _unrecorded_problems(settings, memory)
    yield from _update_problems(settings, now)


def _unrecorded_problems(settings: Settings, memory: Memory) -> Iterator[Problem]:
    """Scheduled runs that ended before the journal recorded them: one problem per cause."""
    causes: dict[str, list[str]] = {}
    for pipeline, attempts in memory.attempts.items():
        if attempts.unrecorded is not None:
            causes.setdefault(attempts.unrecorded, []).append(pipeline)
    for cause, pipelines in causes.items():
        first = memory.attempts[pipelines[0]]
        what = f"{cause}: {' and '.join(pipelines)} could not be run for {first.trigger}"
        next_step = f"see {settings.log_dir / f'scheduled-{pipelines[0]}.log'}; a later tick retries"
        yield Problem(Severity.FAILED, what, first.last_at, next_step, key=f"unrecorded-{pipelines[0]}")


def _is_reported(reaping: Reaping, reported: Collection[str]) -> bool:
    """Whether a worker that the reaper could not destroy is already a problem of its own."""
    return any(what in reaping.error for what in reported)


def _update_problems(settings: Settings, now: datetime) -> Iterator[Problem]:
    """Problems that `supervisor.sh` recorded: the refused commit and why, and the last successful fetch."""
    refused, fetched = settings.supervisor_dir / "refused", settings.supervisor_dir / "fetched"
    if refused.is_file():
        commit, _, why = refused.read_text(errors="replace").strip()[:500].partition(": ")
        what = f"{why or 'no reason recorded'}: the newest commit, {commit[:12]}, is not used"
        next_step = "fix it and push; the last good commit stays in use"
        yield Problem(Severity.FAILED, what, _modified_at(refused), next_step, key="update-refused")
    if fetched.is_file() and now - _modified_at(fetched) > FETCH_STALE_AFTER:
        what = "no new code could be fetched for a day"
        next_step = "check that the remote is reachable and GITLAB_READ_TOKEN is valid"
        yield Problem(Severity.STALE, what, _modified_at(fetched), next_step, key="fetch-stale")


def _modified_at(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _problem_of(error: MateriaError, key: str) -> Problem:
    """An error as a problem; the next step begins with the command: "run `materia run-all`, …" loses its "run"."""
    what, _, next_step = str(error).partition("; ")
    return Problem(Severity.FAILED, what, None, re.sub(r"^run `([^`]+)`", r"\1", next_step), key=key)
