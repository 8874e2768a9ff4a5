"""Runs a pipeline on a worker: create it, wait for SSH, send the code, run and follow, destroy."""

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
from ops.journal.recorder import Recorder, record_run
from ops.journal.run import utc_now
from ops.pipelines.job import Job, Request
from ops.pipelines.remote import landing_of, remote_of
from ops.pipelines.run import PIPELINES, has_work, sync_generations
from ops.workers import scripts
from ops.workers.code import Code, committed_code
from ops.workers.connection import WorkerConnection, WorkerTimeouts
from ops.workers.errors import RemoteFailedError, UnreachableError, WorkerError, WorkerLeftError
from ops.workers.hiring import Hire, ignore_signals, reap, temporary_worker
from ops.workers.keys import new_key
from ops.workers.labels import worker_name
from ops.workers.mirror import Mirror
from ops.workers.provider import SIZES, Instance
from ops.workers.secrets import worker_environ
from ops.workers.ssh import Access

log = logging.getLogger(__name__)

_RESERVE_S = 60.0
"""Reserved at the end of a worker's lifetime to stop the run and destroy the worker."""


def check_shared_data(settings: Settings) -> None:
    """Raise SettingsError if a worker could not reach the data."""
    if settings.r2 is None:
        raise SettingsError(
            "object storage is not configured, and workers share their data through it; "
            "set R2_ENDPOINT, R2_BUCKET, R2_ACCESS_KEY and R2_SECRET_KEY, or run it with `--on local`"
        )
    if settings.lake and not settings.lake.is_shared:
        raise SettingsError(
            f"a worker cannot reach {settings.lake}; {settings.lake.sharing_step}, or run it with `--on local`"
        )


def run_on(
    hire: Hire,
    pipeline: str,
    settings: Settings,
    request: Request,
    environ: Mapping[str, str],
    timeouts: WorkerTimeouts | None = None,
) -> str:
    """Run a pipeline on a machine that exists only for this run, and return its outcome as a line.

    If a probe from this host finds no work, the pipeline ends here and no machine is created.

    Raises SettingsError without object storage, through which the machines share their data; WorkerError,
    NoCapacityError, UnreachableError, and RemoteFailedError with the pipeline's exit code on the worker.
    """
    if pipeline not in PIPELINES:
        raise SettingsError(f"there is no pipeline {pipeline!r}; there are {', '.join(PIPELINES)}")
    check_shared_data(settings)
    code = committed_code(PROJECT_DIR)
    name = worker_name(hire.owner, pipeline)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    redact = Redactor.from_environ(environ)
    with writer_lock(settings.lock_path, pipeline) as lock, Journal(settings.journal_path) as journal:
        recorded = record_run(
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
            _work(hire, name, pipeline, recorder, mirror, code, _extras(settings), order, timeouts or WorkerTimeouts())
            # Serve here what the worker published to the bucket.
            sync_generations(job)
            return recorder.result or "done"


def _has_work(pipeline: str, job: Job) -> bool:
    with job.recorder.step("has_work") as note:
        found = has_work(pipeline, job)
        job.recorder.result = None
        note.detail = "a worker is needed" if found else "no worker is needed"
    return found


def _reap(hire: Hire, journal: Journal) -> None:
    """Reap leftover workers. A failure does not stop the run; `status` reports it."""
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
    timeouts: WorkerTimeouts,
) -> None:
    client_key, host_key = new_key(), new_key()
    deadline = time.monotonic() + hire.workers.ttl.total_seconds() - _RESERVE_S
    if code.is_dirty:
        log.warning("uncommitted changes are not sent to the worker", extra={"commit": code.commit[:12]})
    with (
        _leave_to_reaper(),
        temporary_worker(hire, name, SIZES[pipeline], recorder.run.id, client_key, host_key) as create,
    ):
        with recorder.step("worker_created") as note:
            instance = create()
            note.detail = f"{instance.type} at {instance.location}, {instance.eur_per_hour:.4f} EUR/h"
        access = Access(_address(instance), hire.workers.ssh_port, hire.provider.user, client_key, host_key.public)
        with closing(WorkerConnection(access, timeouts)) as connection:
            with recorder.step("worker_reached"):
                connection.reach(timeouts.boot_s)
            with recorder.step("code_sent") as note:
                script = scripts.prepare(len(code.bundle), code.commit, code.shallow, extras)
                connection.run_until_done("install the code", script, timeout_s=timeouts.code_s, stdin=code.bundle)
                note.detail = f"commit {code.commit[:12]}"
            _run(connection, name, pipeline, mirror, order, deadline, timeouts)


@contextmanager
def _leave_to_reaper() -> Iterator[None]:
    """Log a worker that could not be destroyed; the run's outcome stays, and `status` reports the worker."""
    try:
        yield
    except WorkerLeftError as left:
        log.error("%s", left)


def _run(
    connection: WorkerConnection,
    name: str,
    pipeline: str,
    mirror: Mirror,
    order: bytes,
    deadline: float,
    timeouts: WorkerTimeouts,
) -> None:
    try:
        script = scripts.start(deadline - time.monotonic())
        connection.run_until_done("start the pipeline", script, timeout_s=60, stdin=order)
        _follow(connection, mirror, deadline, timeouts)
    except BaseException as error:
        with ignore_signals(), suppress(WorkerError):
            # Before the machine is destroyed, let the pipeline end as an interrupted one does.
            connection.run(scripts.stop(timeouts.stop_s), timeout_s=timeouts.stop_s + 5)
        mirror.close(str(error) or type(error).__name__)
        raise
    if mirror.exit_code != Exit.DONE:
        failure = _failure(name, pipeline, mirror)
        mirror.close(str(failure))
        raise failure


def _follow(connection: WorkerConnection, mirror: Mirror, deadline: float, timeouts: WorkerTimeouts) -> None:
    """Process the worker's events until its exit code arrives; resume after a lost connection."""
    losses = 0
    while True:
        left_s = deadline + 15 - time.monotonic()
        if left_s <= 0:
            raise WorkerError("timeout: the worker expired before its pipeline ended; raise MATERIA_WORKER_TTL_MINUTES")
        previous_bytes = mirror.offset_bytes
        script = scripts.follow(previous_bytes)
        result = connection.run(script, timeout_s=left_s, on_line=mirror.take, quiet_s=timeouts.quiet_s)
        if mirror.exit_code is not None or mirror.is_lost:
            return
        losses = 1 if mirror.offset_bytes > previous_bytes else losses + 1
        if losses > timeouts.losses:
            raise UnreachableError(f"the connection to the worker was lost {losses} times: {result.stderr}")
        log.warning("the connection to the worker was lost; reconnecting", extra={"lost": losses})
        time.sleep(timeouts.pause_s)


def _failure(name: str, pipeline: str, mirror: Mirror) -> WorkerError:
    if mirror.exit_code is None:
        return WorkerError(
            f"{pipeline} on worker {name} ended without an exit code: out of memory, or the machine went down"
        )
    known = {int(code) for code in Exit}
    why = mirror.error or {124: "timeout", 137: "it was killed"}.get(mirror.exit_code, "no reason given")
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
        "environ": worker_environ(pipeline, environ),
    }
    return json.dumps(content).encode() + b"\n"


def _extras(settings: Settings) -> tuple[str, ...]:
    """The extras that a worker must install."""
    return (*(("iceberg",) if settings.iceberg else ()), *((settings.lake.extra,) if settings.lake else ()))


def _address(instance: Instance) -> str:
    if instance.ip is None:
        raise WorkerError(f"the worker {instance.name} has no address")
    return instance.ip
