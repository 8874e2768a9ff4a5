"""Records a run while it happens: its journal entries, its log and its outcome."""

import logging
import signal
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from dataflows.errors import JournalError, MateriaError
from ops.host.logs import run_log, step_log
from ops.host.redact import Redactor
from ops.host.version import code_version
from ops.journal.journal import Journal
from ops.journal.run import Run, RunStatus, Step

_LINE_CHARS = 500
_DETAIL_CHARS = 20_000

log = logging.getLogger(__name__)


class Terminated(KeyboardInterrupt):
    """SIGTERM was received; handled like Ctrl+C."""


@dataclass
class StepNote:
    """The note of a step: set `detail` before the step ends."""

    detail: str = ""


class Recorder:
    """A run in progress; thread-safe."""

    def __init__(self, journal: Journal, run: Run, log_dir: Path | None, redact: Redactor) -> None:
        self.journal = journal
        self.run = run
        self.result: str | None = None
        """The outcome as a line, such as `nothing new`; set it before the run ends."""
        self.snapshots: tuple[str, ...] = ()
        """The keys of the landed or used snapshots; set them before the run ends."""
        self._log_dir = log_dir
        self._redact = redact

    @contextmanager
    def step(self, name: str, detail: str = "") -> Iterator[StepNote]:
        """Record the block as a step; an exception ends it as failed or interrupted."""
        note = StepNote(detail)
        step = self.journal.begin_step(self.run.id, name, self._line(detail))
        with step_log(name):
            try:
                yield note
            except BaseException as error:
                self.end_step(step, note.detail, error)
                raise
        self.end_step(step, note.detail)

    def end_step(self, step: Step, detail: str, error: BaseException | None = None) -> None:
        """Record the end of a step of `journal.begin_step`, and its error, if any."""
        if error is not None:
            detail = f"{detail}: {self.error_text(error)}" if detail else self.error_text(error)
        with _note_on_original(error):
            self.journal.finish_step(step.id, _status_of(error), self._line(detail))

    def child(self, pipeline: str, *, arguments: Sequence[str] = ()) -> AbstractContextManager["Recorder"]:
        """Record a child run, such as a pipeline of `run-all`."""
        return record_run(
            self.journal,
            pipeline,
            trigger=self.run.pipeline,
            arguments=arguments,
            parent_id=self.run.id,
            worker=self.run.worker,
            log_dir=self._log_dir,
            redact=self._redact,
        )

    def end(self, error: BaseException | None) -> None:
        """Record the end of the run; `record_run` calls this."""
        trace = "".join(traceback.format_exception(error)) if error is not None else None
        with _note_on_original(error):
            self.journal.finish(
                self.run.id,
                _status_of(error),
                self._line(self.result) if self.result else None,
                error=self.error_text(error) if error is not None else None,
                error_detail=self._redact(trace)[-_DETAIL_CHARS:] if trace else None,
                snapshots=self.snapshots,
            )

    def error_text(self, error: BaseException) -> str:
        """An error as one redacted line: our own errors by their message, others also by their type."""
        if (interruption := _interruption_in(error)) is not None:
            return f"interrupted by {'SIGTERM' if isinstance(interruption, Terminated) else 'SIGINT (Ctrl+C)'}"
        text = str(error)
        if not isinstance(error, MateriaError):
            text = f"{type(error).__name__}: {text}" if text else type(error).__name__
        return self._line(text)

    def _line(self, text: str) -> str:
        """A text as one redacted line without control characters."""
        line = " ".join(self._redact(text).split())[:_LINE_CHARS]
        return "".join(char if char.isprintable() else "?" for char in line)


@contextmanager
def record_run(
    journal: Journal,
    pipeline: str,
    *,
    trigger: str = "manual",
    arguments: Sequence[str] = (),
    parent_id: int | None = None,
    worker: str | None = None,
    log_dir: Path | None = None,
    redact: Redactor | None = None,
) -> Iterator[Recorder]:
    """Record the block as a run: done, failed with the exception's message, or interrupted.

    Every exception is raised to the caller, and an interruption that a library converted is raised as an interruption
    again. SIGTERM raises Terminated, a KeyboardInterrupt, in the block. With `log_dir`, the events of the run and its
    children are written to `run-<id>.log` there.
    """
    redact = redact or Redactor.from_environ()
    run = journal.begin(
        pipeline,
        trigger=trigger,
        arguments=tuple(map(redact, arguments)),
        parent_id=parent_id,
        worker=worker,
        code_version=code_version(),
        log_dir=log_dir,
    )
    recorder = Recorder(journal, run, log_dir, redact)
    with _raise_on_sigterm(), run_log(run.id, Path(run.log_path) if run.log_path else None, redact):
        try:
            log.info("run began", extra={"pipeline": pipeline, "trigger": trigger})
            yield recorder
        except BaseException as error:
            interruption = _interruption_in(error)
            is_expected = interruption is not None or isinstance(error, MateriaError)
            log.error("run %s: %s", _status_of(error), recorder.error_text(error), exc_info=not is_expected)
            recorder.end(error)
            if interruption is None or interruption is error:
                raise
            raise type(interruption)(*interruption.args) from error
        log.info("run done", extra={"result": recorder.result or ""})
        recorder.end(None)


def _status_of(error: BaseException | None) -> RunStatus:
    if error is None:
        return RunStatus.DONE
    return RunStatus.FAILED if _interruption_in(error) is None else RunStatus.INTERRUPTED


def _interruption_in(error: BaseException | None) -> KeyboardInterrupt | None:
    """The interruption that an error is or was caused by: DuckDB converts one during a query to a RuntimeError."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__
    return error


@contextmanager
def _note_on_original(error: BaseException | None) -> Iterator[None]:
    """If the journal cannot be written while another error is raised, add a note to that error."""
    try:
        yield
    except JournalError as journal_error:
        if error is None:
            raise
        note = f"and it could not be recorded: {journal_error}"
        # A step and its run add the same note.
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)


@contextmanager
def _raise_on_sigterm() -> Iterator[None]:
    """Raise Terminated in the main thread on SIGTERM, unless the program has a handler of its own."""
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    # A second signal must not interrupt the recording of the first.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated("SIGTERM")
