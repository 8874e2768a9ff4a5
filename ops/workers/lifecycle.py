"""A pipeline on a worker: create, wait, send the code, run and follow, collect, destroy."""

import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace

from dataflows.errors import SettingsError
from dataflows.serving.store import ServingStore
from ops.config.settings import PROJECT_DIR, Settings
from ops.host.exits import Exit
from ops.host.lock import writer_lock
from ops.host.redact import Redactor
from ops.journal.journal import Journal
from ops.journal.recorder import Recorder, run_recorded
from ops.journal.run import utc_now
from ops.pipelines.job import Job, Request
from ops.pipelines.remote import landing_of, remote_of
from ops.pipelines.run import PIPELINES, has_work, sync_generations
from ops.workers import scripts
from ops.workers.code import Code, committed_code
from ops.workers.errors import RemoteFailedError, UnreachableError, WorkerError, WorkerLeftError
from ops.workers.hiring import Hire, hired, reap, undisturbed
from ops.workers.keys import new_key
from ops.workers.labels import worker_name
from ops.workers.mirror import Mirror
from ops.workers.provider import SIZES, Instance
from ops.workers.secrets import for_worker
from ops.workers.ssh import Access
from ops.workers.wire import Patience, Wire

log = logging.getLogger(__name__)

_RESERVE_S = 60.0
"""Kept of a worker's time to end the run and destroy it before its time is up."""


def check_shared_data(settings: Settings) -> None:
    """Raises SettingsError where a worker could not reach the data that it works on."""
    if settings.r2 is None:
        raise SettingsError(
            "a worker shares its data with this machine through object storage, and none is set; "
            "set R2_ENDPOINT, R2_BUCKET, R2_ACCESS_KEY and R2_SECRET_KEY, or run it with `--on local`"
        )
    if settings.used_ducklake and not settings.used_ducklake.is_shared:
        raise SettingsError(
            "a worker can't reach a DuckLake of this machine alone; DUCKLAKE_CATALOG=postgres:… and "
            "DUCKLAKE_DATA=s3://… can be shared, or run it with `--on local`"
        )


def run_on(
    hire: Hire,
    pipeline: str,
    settings: Settings,
    request: Request,
    environ: Mapping[str, str],
    patience: Patience | None = None,
) -> str:
    """Run a pipeline on a machine that exists for this run alone, and return its outcome in a line.

    Where a probe from this host finds no work, the pipeline ends here and no machine is created.

    Raises SettingsError without object storage, through which the machines share their data; CapError,
    NoCapacityError, UnreachableError, and RemoteFailedError with the exit code that the pipeline had there.
    """
    if pipeline not in PIPELINES:
        raise SettingsError(f"there is no pipeline {pipeline!r}; there are {', '.join(PIPELINES)}")
    check_shared_data(settings)
    code = committed_code(PROJECT_DIR)
    name = worker_name(hire.owner, pipeline)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    redact = Redactor.from_environ(environ)
    with writer_lock(settings.lock_path, pipeline) as lock, Journal(settings.journal_path) as journal:
        recorded = run_recorded(
            journal,
            pipeline,
            trigger=request.trigger,
            arguments=(*request.arguments, "--on", hire.provider.name),
            log_dir=settings.log_dir,
            redact=redact,
        )
        with recorded as recorder:
            lock.name_run(recorder.run.id)
            _reap(hire, journal)
            remote = remote_of(settings)
            job = Job(
                settings=settings,
                request=request,
                recorder=recorder,
                lock=lock,
                landing=landing_of(settings, remote),
                serving=ServingStore(settings.serving_path),
                remote=remote,
            )
            if not _has_work(pipeline, job):
                PIPELINES[pipeline].work(job)
                return recorder.result or "done"
            journal.set_worker(recorder.run.id, name)
            recorder.run = replace(recorder.run, worker=name)
            order = _order(pipeline, request, environ)
            mirror = Mirror(recorder, redact)
            _work(hire, name, pipeline, recorder, mirror, code, _extras(settings), order, patience or Patience())
            # What the worker published lies in the bucket, and is served here from now on.
            sync_generations(job)
            return recorder.result or "done"


def _has_work(pipeline: str, job: Job) -> bool:
    with job.recorder.step("has_work") as note:
        found = has_work(pipeline, job)
        job.recorder.result = None
        note.detail = "a worker is needed" if found else "no worker is needed"
    return found


def _reap(hire: Hire, journal: Journal) -> None:
    """A worker of an earlier run that cannot be destroyed is a problem of `status`, and no reason not to run."""
    try:
        reap(hire, journal, utc_now())
    except WorkerError as error:
        log.error("%s", error)


def _work(
    hire: Hire,
    name: str,
    pipeline: str,
    recorder: Recorder,
    mirror: Mirror,
    code: Code,
    extras: tuple[str, ...],
    order: bytes,
    patience: Patience,
) -> None:
    client_key, host_key = new_key(), new_key()
    deadline = time.monotonic() + hire.workers.ttl.total_seconds() - _RESERVE_S
    if code.is_dirty:
        log.warning("what differs from the commit is not sent", extra={"commit": code.commit[:12]})
    with (
        _left_to_the_reaper(),
        hired(hire, name, SIZES[pipeline], recorder.run.id, client_key, host_key) as create,
    ):
        with recorder.step("worker_created") as note:
            made = create()
            note.detail = f"{made.type} at {made.location}, {made.eur_per_hour:.4f} EUR/h"
        access = Access(_address(made), hire.workers.ssh_port, hire.provider.user, client_key, host_key.public)
        with closing(Wire(access, patience)) as wire:
            with recorder.step("worker_reached"):
                wire.reach(patience.boot_s)
            with recorder.step("code_sent") as note:
                script = scripts.prepare(len(code.bundle), code.commit, code.shallow, extras)
                wire.insist("install the code", script, timeout_s=patience.code_s, stdin=code.bundle)
                note.detail = f"commit {code.commit[:12]}"
            _run(wire, name, pipeline, mirror, order, deadline, patience)


@contextmanager
def _left_to_the_reaper() -> Iterator[None]:
    """A worker that outlives its run does not change how the run ended; `status` names it until it is gone."""
    try:
        yield
    except WorkerLeftError as left:
        log.error("%s", left)


def _run(
    wire: Wire, name: str, pipeline: str, mirror: Mirror, order: bytes, deadline: float, patience: Patience
) -> None:
    try:
        script = scripts.start(deadline - time.monotonic())
        wire.insist("start the pipeline", script, timeout_s=60, stdin=order)
        _follow(wire, mirror, deadline, patience)
    except BaseException as error:
        with undisturbed(), suppress(WorkerError):
            # The machine is about to be destroyed; asking first lets the pipeline end as an interrupted one does.
            wire.run(scripts.stop(patience.stop_s), timeout_s=patience.stop_s + 5)
        mirror.close(str(error) or type(error).__name__)
        raise
    if mirror.exit_code != Exit.DONE:
        failure = _failure(name, pipeline, mirror)
        mirror.close(str(failure))
        raise failure


def _follow(wire: Wire, mirror: Mirror, deadline: float, patience: Patience) -> None:
    """Take what the worker tells until it says how it ended; comes back after a lost connection, where it left off."""
    losses = 0
    while True:
        left_s = deadline + 15 - time.monotonic()
        if left_s <= 0:
            raise WorkerError("the worker's time is up, and its pipeline did not end; set MATERIA_WORKER_TTL_MINUTES")
        taken_bytes = mirror.offset_bytes
        script = scripts.follow(taken_bytes)
        ended = wire.run(script, timeout_s=left_s, on_line=mirror.take, quiet_s=patience.quiet_s)
        if mirror.exit_code is not None or mirror.is_lost:
            return
        losses = 1 if mirror.offset_bytes > taken_bytes else losses + 1
        if losses > patience.losses:
            raise UnreachableError(f"the connection to the worker was lost {losses} times: {ended.complaint}")
        log.warning("the connection to the worker was lost; following on", extra={"lost": losses})
        time.sleep(patience.pause_s)


def _failure(name: str, pipeline: str, mirror: Mirror) -> WorkerError:
    if mirror.exit_code is None:
        return WorkerError(
            f"{pipeline} on worker {name} is gone without a word: out of memory, or the machine went down"
        )
    known = {int(code) for code in Exit}
    why = mirror.error or {124: "its time was up", 137: "it was killed"}.get(mirror.exit_code, "no reason given")
    return RemoteFailedError(
        f"{pipeline} on worker {name} ended with exit code {mirror.exit_code}: {why}",
        mirror.exit_code if mirror.exit_code in known else Exit.FAILED,
    )


def _order(pipeline: str, request: Request, environ: Mapping[str, str]) -> bytes:
    content = {
        "pipeline": pipeline,
        "trigger": request.trigger,
        "as_of": str(request.as_of) if request.as_of else None,
        "forced_reason": request.forced_reason,
        "environ": for_worker(pipeline, environ),
    }
    return json.dumps(content).encode() + b"\n"


def _extras(settings: Settings) -> tuple[str, ...]:
    """What a worker installs beyond the usual."""
    wanted = {"iceberg": settings.iceberg, "ducklake": settings.used_ducklake}
    return tuple(extra for extra, used in wanted.items() if used)


def _address(made: Instance) -> str:
    if made.ip is None:
        raise WorkerError(f"the worker {made.name} has no address")
    return made.ip
