"""The screen Runs as one frozen snapshot: the history, and one run in full."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from dataflows.errors import JournalError
from ops.host.redact import Redactor
from ops.journal.history import History, RunStory, take_history, take_story
from ops.journal.journal import Journal
from ops.journal.run import RunStatus
from tui.shell.context import ConsoleContext
from tui.widgets.panel import Found, Part, attempt
from tui.widgets.table import Row

LOG_TAIL_BYTES = 16_384
LOG_TAIL_LINES = 100
_ERROR = re.compile(rb"\S+ (?:ERROR|CRITICAL) ")
_SEARCHED_BYTES = 32 << 20


@dataclass(frozen=True)
class Wanted:
    """Which runs the history shows: words in any of their texts, one pipeline, one status."""

    words: tuple[str, ...] = ()
    pipeline: str | None = None
    status: RunStatus | None = None


@dataclass(frozen=True)
class Detail:
    """One run in full, and the end of its log."""

    story: RunStory
    log: Part[tuple[str, ...]]


@dataclass(frozen=True)
class RunsSeen:
    """What the screen shows; `detail` is None while no run is chosen."""

    wanted: Wanted
    history: Part[History]
    rows: tuple[Row, ...]
    """The history as the table shows it: a thousand rows are made off the event loop."""
    detail: Part[Detail] | None
    marks: object = None
    """What tells whether anything has happened since."""


def look_at_history(context: ConsoleContext, wanted: Wanted) -> Part[History]:
    """The runs that a person wants to see."""
    journal = Journal(context.settings.journal_path)
    return attempt(lambda: _matching(take_history(journal, pipeline=wanted.pipeline, status=wanted.status), wanted))


def among(history: Part[History], run_id: int | None) -> int | None:
    """The run `run_id` if the history has it, else its first, if there is any."""
    runs = history.value.runs if isinstance(history, Found) else ()
    return next((run.id for run in runs if run.id == run_id), runs[0].id if runs else None)


def look_at_run(context: ConsoleContext, run_id: int | None) -> Part[Detail] | None:
    """The run `run_id` in full."""
    if run_id is None:
        return None
    return attempt(lambda: take_detail(Journal(context.settings.journal_path), run_id))


def take_detail(journal: Journal, run_id: int) -> Detail:
    """Everything about one run. Raises JournalError when there is no such run."""
    story = take_story(journal, run_id)
    if story is None:
        raise JournalError(f"there is no run {run_id} in {journal.path.name}; materia runs")
    return Detail(story, attempt(lambda: _log_tail(story.run.id, story.run.log_path)))


def parse_wanted(text: str, pipelines: frozenset[str]) -> Wanted:
    """What a person typed: the name of a status or a pipeline means that, everything else is looked for."""
    words: list[str] = []
    pipeline: str | None = None
    status: RunStatus | None = None
    for word in text.split():
        if word in RunStatus.__members__.values():
            status = RunStatus(word)
        elif word in pipelines:
            pipeline = word
        else:
            words.append(word.casefold())
    return Wanted(tuple(words), pipeline, status)


def line_of_step(path: Path, step: str, *, failed: bool) -> int | None:
    """The line (from 1) where a step says what went wrong, else where it first speaks; None when nowhere.

    Of one that failed without a word, what its run says of that: the last error there is.
    """
    mark = f" step={step} ".encode()
    first: int | None = None
    error: int | None = None
    with path.open("rb") as log:
        for number, line in enumerate(log, 1):
            if mark in line:
                first = first or number
                if b" ERROR " in line:
                    return number
            if failed and _ERROR.match(line):
                error = number
            if log.tell() > _SEARCHED_BYTES:
                break
    return error or first


def _matching(history: History, wanted: Wanted) -> History:
    if not wanted.words:
        return history
    kept = []
    for run in history.runs:
        texts = (
            str(run.id),
            run.pipeline,
            run.status,
            run.trigger,
            *run.arguments,
            run.result,
            run.error,
            run.code_version,
            run.host,
            run.worker,
            *run.snapshots,
        )
        text = " ".join(each for each in texts if each).casefold()
        if all(word in text for word in wanted.words):
            kept.append(run)
    return History(tuple(kept), history.unrepaired)


def _log_tail(run_id: int, log_path: str | None) -> tuple[str, ...]:
    if log_path is None:
        raise JournalError(f"run {run_id} kept no log; its steps say what is known")
    try:
        with Path(log_path).open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(end - LOG_TAIL_BYTES, 0))
            text = log.read().decode(errors="replace")
    except FileNotFoundError as error:
        raise JournalError(f"the log {Path(log_path).name} is gone; its steps say what is known") from error
    lines = text.splitlines()[1 if end > LOG_TAIL_BYTES else 0 :]
    return tuple(Redactor.from_environ()(line) for line in lines[-LOG_TAIL_LINES:])
