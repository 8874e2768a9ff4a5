"""Reads the Runs screen as one frozen snapshot: the filtered history, and one run in detail."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from dataflows.errors import JournalError
from ops.journal.history import History, RunStory, take_history, take_story
from ops.journal.journal import Journal
from ops.journal.run import Run, RunStatus
from tui.shell.context import ConsoleContext
from tui.widgets.log_tail import read_tail
from tui.widgets.panel import Found, Part, attempt
from tui.widgets.table import Row

_ERROR = re.compile(rb"\S+ (?:ERROR|CRITICAL) ")
_SEARCHED_BYTES = 32 << 20


_NO_DURATION = timedelta(0)
ORDERS: dict[str, Callable[[Run], Any]] = {
    "newest first": lambda run: -run.id,
    "longest first": lambda run: (run.started_at - run.ended_at if run.ended_at else _NO_DURATION, -run.id),
    "failed first": lambda run: (run.status not in (RunStatus.FAILED, RunStatus.DIED), -run.id),
}
"""The orders of the history, each with its sort key."""


@dataclass(frozen=True)
class RunFilter:
    """Selects runs by words in any of their texts, by pipeline and by status."""

    words: tuple[str, ...] = ()
    pipeline: str | None = None
    status: RunStatus | None = None


@dataclass(frozen=True)
class Detail:
    """One run with its steps, and the end of its log."""

    story: RunStory
    log: Part[tuple[str, ...]]


@dataclass(frozen=True)
class Marks:
    """Compared with newer marks to detect changes: of the content, and of the relative times."""

    content: tuple[object, ...]
    time: int


@dataclass(frozen=True)
class RunsSnapshot:
    """The content of the screen; `detail` is None when no run is selected."""

    run_filter: RunFilter
    order: str
    history: Part[History]
    rows: Sequence[Row]
    """The history as table rows."""
    detail: Part[Detail] | None
    marks: Marks | None = None


def read_history(context: ConsoleContext, run_filter: RunFilter) -> Part[History]:
    """Read the runs that match the filter."""
    journal = Journal(context.settings.journal_path)
    return attempt(
        lambda: _apply_filter(take_history(journal, pipeline=run_filter.pipeline, status=run_filter.status), run_filter)
    )


def in_order(history: History, order: str) -> History:
    """Return the history in one of `ORDERS`."""
    return replace(history, runs=tuple(sorted(history.runs, key=ORDERS[order])))


def select_run(history: Part[History], run_id: int | None) -> int | None:
    """Return `run_id` if the history contains it, else the first run's id, or None if the history is empty."""
    runs = history.value.runs if isinstance(history, Found) else ()
    return next((run.id for run in runs if run.id == run_id), runs[0].id if runs else None)


def read_run(context: ConsoleContext, run_id: int | None) -> Part[Detail] | None:
    """Read the run `run_id` in detail; None without an id."""
    if run_id is None:
        return None
    return attempt(lambda: read_detail(Journal(context.settings.journal_path), run_id))


def read_detail(journal: Journal, run_id: int) -> Detail:
    """Read one run in detail. Raises JournalError when there is no such run."""
    story = take_story(journal, run_id)
    if story is None:
        raise JournalError(f"run {run_id} is not in {journal.path.name}; materia runs")
    return Detail(story, attempt(lambda: _log_tail(story.run.id, story.run.log_path)))


def parse_filter(text: str, pipelines: frozenset[str]) -> RunFilter:
    """Parse a filter: names of statuses and pipelines select these, all other words are searched for."""
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
    return RunFilter(tuple(words), pipeline, status)


def find_step_line(path: Path, step: str, *, failed: bool) -> int | None:
    """Return the line (from 1) of a step's error, else its first line; None if there is none.

    For a failed step without an error line, return the first error of its run.
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
            if failed and error is None and _ERROR.match(line):
                error = number
            if log.tell() > _SEARCHED_BYTES:
                break
    return error or first


def _apply_filter(history: History, run_filter: RunFilter) -> History:
    if not run_filter.words:
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
        if all(word in text for word in run_filter.words):
            kept.append(run)
    return History(tuple(kept), history.unrepaired)


def _log_tail(run_id: int, log_path: str | None) -> tuple[str, ...]:
    if log_path is None:
        raise JournalError(f"run {run_id} has no log; see its steps")
    try:
        return read_tail(Path(log_path))
    except FileNotFoundError as error:
        raise JournalError(f"the log {Path(log_path).name} no longer exists; see the steps") from error
