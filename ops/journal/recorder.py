"""Recording a run while it happens: the journal's entries, the run's log, and how it ended."""

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
    """SIGTERM asked this process to end; handled as an interruption from the keyboard is."""


@dataclass
class StepNote:
    """What a step wants to have remembered: set `detail` before it ends."""

    detail: str = ""


class Recorder:
    """A run that is under way; may be used from several threads."""

    def __init__(self, journal: Journal, run: Run, log_dir: Path | None, redact: Redactor) -> None:
        self.journal = journal
        self.run = run
        self.result: str | None = None
        """The outcome in a line, such as `nothing new`; set it before the run ends."""
        self.snapshots: tuple[str, ...] = ()
        """The keys of the snapshots landed or used; set them before the run ends."""
        self._log_dir = log_dir
        self._redact = redact

    @contextmanager
    def step(self, name: str, detail: str = "") -> Iterator[StepNote]:
        """Record what happens inside as a step; an exception ends it as failed or interrupted."""
        note = StepNote(detail)
        begun = self.journal.begin_step(self.run.id, name, self._line(detail))
        with step_log(name):
            try:
                yield note
            except BaseException as error:
                self.end_step(begun, note.detail, error)
                raise
        self.end_step(begun, note.detail)

    def end_step(self, step: Step, detail: str, error: BaseException | None = None) -> None:
        """Record the end of a step that `journal.begin_step` began; with an error, which one."""
        if error is not None:
            detail = f"{detail}: {self.said(error)}" if detail else self.said(error)
        with _original_first(error):
            self.journal.finish_step(step.id, _status_of(error), self._line(detail))

    def child(self, pipeline: str, *, arguments: Sequence[str] = ()) -> AbstractContextManager["Recorder"]:
        """Record a run inside this one, such as a pipeline of `run-all`."""
        return run_recorded(
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
        """Record how the run ended; `run_recorded` does this."""
        trace = "".join(traceback.format_exception(error)) if error is not None else None
        with _original_first(error):
            self.journal.finish(
                self.run.id,
                _status_of(error),
                self._line(self.result) if self.result else None,
                error=self.said(error) if error is not None else None,
                error_detail=self._redact(trace)[-_DETAIL_CHARS:] if trace else None,
                snapshots=self.snapshots,
            )

    def said(self, error: BaseException) -> str:
        """An error in one redacted line: our own by their message, others by their type as well."""
        if (interruption := _interruption_in(error)) is not None:
            return "SIGTERM asked it to end" if isinstance(interruption, Terminated) else "interrupted by hand (SIGINT)"
        text = str(error)
        if not isinstance(error, MateriaError):
            text = f"{type(error).__name__}: {text}" if text else type(error).__name__
        return self._line(text)

    def _line(self, text: str) -> str:
        """What may be kept and shown of a text: one line, no secret, nothing that a terminal would obey."""
        line = " ".join(self._redact(text).split())[:_LINE_CHARS]
        return "".join(char if char.isprintable() else "?" for char in line)


@contextmanager
def run_recorded(
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
    """Record what happens inside as a run: done, failed with the exception's message, or interrupted.

    Every exception goes on to the caller, an interruption as one, whatever was made of it. SIGTERM arrives inside
    as Terminated, a KeyboardInterrupt. With `log_dir`, the run's events are written to `run-<id>.log` there, those
    of runs inside it included.
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
    with _terminated_by_sigterm(), run_log(run.id, Path(run.log_path) if run.log_path else None, redact):
        try:
            log.info("run began", extra={"pipeline": pipeline, "trigger": trigger})
            yield recorder
        except BaseException as error:
            interruption = _interruption_in(error)
            log.error("run %s", _status_of(error), exc_info=interruption is None)
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
    """The interruption that an error is, or that it comes of: DuckDB makes a RuntimeError of one within a query."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__
    return error


@contextmanager
def _original_first(error: BaseException | None) -> Iterator[None]:
    """A journal that cannot be written while an error is on its way only adds a note to that error."""
    try:
        yield
    except JournalError as trouble:
        if error is None:
            raise
        note = f"and it could not be recorded: {trouble}"
        # A step and its run fail alike: once is enough.
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)


@contextmanager
def _terminated_by_sigterm() -> Iterator[None]:
    """Raise Terminated in the main thread on SIGTERM, unless the program has its own way with it."""
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
    # A second one must not cut short how the first is recorded.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated("SIGTERM")
