"""A pipeline at work: what was asked for, everything it may touch, and the lock and the journal around it."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from dataflows.files import disk_refusal
from dataflows.landing.local import Landing
from dataflows.serving.store import ServingStore
from dataflows.source.archive import RetryPolicy
from dataflows.source.release import Month
from ops.config.settings import Settings
from ops.config.table import unknown_names
from ops.host.lakehouse_lock import lakehouse_lock
from ops.host.lock import WriterLock, writer_lock
from ops.host.redact import Redactor
from ops.journal.file import set_aside_if_damaged
from ops.journal.journal import Journal
from ops.journal.recorder import Recorder, record_run
from ops.pipelines.remote import Remote, landing_of, remote_of

log = logging.getLogger(__name__)

Progress = Callable[[int, int | None], None]
"""Called with the bytes received so far and, where known, the size of the whole."""


@dataclass(frozen=True)
class Request:
    """What somebody, or the schedule, asks of a pipeline."""

    trigger: str = "manual"
    as_of: Month | None = None
    """The month the probe starts from; this month when None."""
    forced_reason: str | None = None
    """Why the gate is to let a worse generation through."""
    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)
    progress: Progress = lambda received_bytes, total_bytes: None
    open_journal: Callable[[Path], Journal] = Journal
    """Opens the journal that records the run; a worker's journal also sends each event to its host."""
    redact: Redactor | None = None
    """Knows the secrets where the environment does not hold them."""

    @property
    def arguments(self) -> tuple[str, ...]:
        """As they would be typed."""
        as_of = ("--as-of", str(self.as_of)) if self.as_of else ()
        return (*as_of, *(("--force", self.forced_reason) if self.forced_reason else ()))


@dataclass(frozen=True)
class Job:
    """A pipeline at work: what was asked, and everything it may touch."""

    settings: Settings
    request: Request
    recorder: Recorder
    lock: WriterLock
    landing: Landing
    serving: ServingStore
    remote: Remote | None = None
    """The bucket's side of everything, where settings name one."""
    shared_lock_fds: tuple[int, ...] = ()
    """The lock of a lakehouse that other machines share, while it is held."""

    def execute(
        self,
        dataflow: ModuleType,
        wanted: str,
        inputs: Mapping[str, Any],
        given: Mapping[str, Any] | None = None,
        adapters: Sequence[Any] = (),
    ) -> Any:
        """Compute a node of a dataflow, its nodes recorded as steps; values in `given` replace nodes."""
        from dataflows import driver
        from ops.journal.steps import step_recorder

        return driver.execute(
            dataflow, wanted, inputs, overrides=given, adapters=[step_recorder(self.recorder), *adapters]
        )

    @contextmanager
    def inside(self, pipeline: str, arguments: Sequence[str] | None = None) -> Iterator["Job"]:
        """The same job as a run of `pipeline` inside this one, asked for in the same way unless `arguments` differ."""
        asked = self.request.arguments if arguments is None else arguments
        with self.recorder.child(pipeline, arguments=asked) as recorder:
            yield replace(self, recorder=recorder)

    @contextmanager
    def holding_lakehouse(self) -> Iterator["Job"]:
        """The same job with the lakehouse's lock, which excludes writers on all machines; raises LockHeldError."""
        with lakehouse_lock(self.settings.lake, self.recorder.run.pipeline) as fds:
            yield replace(self, shared_lock_fds=fds)


@contextmanager
def _intact_journal(path: Path) -> Iterator[None]:
    """A damaged journal is set aside before a run is recorded."""
    set_aside_if_damaged(path)
    yield


@contextmanager
def open_job(pipeline: str, settings: Settings, request: Request, arguments: Sequence[str]) -> Iterator[Job]:
    """The lock, the journal and the stores, held while a pipeline works; what the disk refuses is a typed error."""
    with (
        disk_refusal(settings.data_dir),
        writer_lock(settings.lock_path, pipeline) as lock,
        _intact_journal(settings.journal_path),
        request.open_journal(settings.journal_path) as journal,
        record_run(
            journal,
            pipeline,
            trigger=request.trigger,
            arguments=arguments,
            log_dir=settings.log_dir,
            redact=request.redact,
        ) as recorder,
        disk_refusal(settings.data_dir),  # checked again, so that the journal and the log record this reason
    ):
        lock.name_run(recorder.run.id)
        for name, nearest in unknown_names(os.environ):
            log.warning(
                "%s is not a setting and has no effect%s", name, f"; did you mean {nearest}?" if nearest else ""
            )
        remote = remote_of(settings)
        yield Job(
            settings=settings,
            request=request,
            recorder=recorder,
            lock=lock,
            landing=landing_of(settings, remote),
            serving=ServingStore(settings.serving_path),
            remote=remote,
        )
