"""Formats runs, steps and dataflows as table rows and markup; contains no widgets."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ops.host.formatting import ago_text, duration_text
from ops.journal.history import History, RunStory
from ops.journal.run import Run, RunStatus, Step
from ops.pipelines.dag import Dag
from tui.runs.lanes import draw_graph
from tui.widgets.formatting import TONES, exact
from tui.widgets.table import Bar, Cell, Column, LazyRows, Row
from tui.widgets.tones import toned

HISTORY_COLUMNS = (
    Column("run", right=True),
    Column("status"),
    Column("pipeline"),
    Column("began", right=True),
    Column("took", right=True, rank=1),
    Column("trigger", rank=3),
    Column("outcome", flexible=True, rank=2),
)
STEP_COLUMNS = (Column(""), Column("step"), Column("took", right=True), Column("when", flexible=True, rank=1))

NO_RUNS = Cell("? no runs yet\n  next: press s, or materia run-all", "quiet")
NO_MATCHES = Cell("? no run matches the filter\n  next: esc clears the filter", "quiet")
NO_STEPS = Cell("? no steps recorded", "quiet")
_WORST = (RunStatus.RUNNING, RunStatus.FAILED, RunStatus.DIED, RunStatus.INTERRUPTED, RunStatus.DONE)


def history_rows(history: History, now: datetime) -> LazyRows:
    """Return a row per run, as of `now`. Only drawn rows are formatted: a thousand would cost 30 ms per refresh."""
    runs = history.runs
    return LazyRows(
        (history, now),
        len(runs),
        lambda index: _history_row(runs[index], runs[index].id in history.unrepaired, now),
        lambda key: next((index for index, run in enumerate(runs) if str(run.id) == key), -1),
    )


def _history_row(run: Run, unrepaired: bool, now: datetime) -> Row:
    glyph, tone = TONES[run.status]
    quiet = "" if unrepaired or run.status is RunStatus.RUNNING else "quiet"
    cells = (
        Cell(str(run.id), quiet),
        Cell(f"{glyph} {run.status}", tone),
        Cell(run.pipeline, "strong" if unrepaired else ""),
        Cell(ago_text(run.started_at, now), "quiet"),
        Cell(duration_text(run.duration_s(now))),
        Cell(run.trigger, "quiet"),
        Cell(run.result or run.error or "", tone if unrepaired else "quiet"),
    )
    return Row(str(run.id), cells, times_text(run))


def times_text(entry: Run | Step) -> str:
    began, ended = exact(entry.started_at), exact(entry.ended_at)
    if entry.ended_at and entry.ended_at.date() == entry.started_at.date():
        ended = f"{entry.ended_at:%H:%M:%S}"
    return f"began {began}, ended {ended}" if ended else f"began {began}"


def facts(story: RunStory, now: datetime, data_dir: Path) -> str:
    """Return the facts of a run as lines of markup."""
    run = story.run
    glyph, tone = TONES[run.status]
    command = " ".join((run.pipeline, *run.arguments))
    origins = (
        f"{run.trigger} (run {run.parent_id})" if run.parent_id else run.trigger,
        f"pid {run.pid} on {run.host}",
        f"worker {run.worker}" if run.worker else "",
        f"code {run.code_version}" if run.code_version else "",
        f"log {_below(Path(run.log_path), data_dir)}" if run.log_path else "",
    )
    times = f"began {ago_text(run.started_at, now)}, took {duration_text(run.duration_s(now))}"
    lines = [
        f"{toned(f'{glyph} {run.status}', tone)}  {toned(command, 'strong')}  {toned(times, 'quiet')}",
        toned(" · ".join(filter(None, origins)), "quiet"),
    ]
    if run.snapshots:
        lines.append(toned(f"snapshots {', '.join(run.snapshots)}", "quiet"))
    if run.result:
        lines.append(toned(run.result, ""))
    return "\n".join(lines)


def error_text(story: RunStory) -> str:
    """Return the error of a run as markup, empty if it has none."""
    return toned(story.run.error, "bad") if story.run.error else ""


def traceback_text(story: RunStory) -> str:
    """Return the traceback of an unexpected error as markup. The text of an expected one says what is wrong."""
    detail, name = story.run.error_detail or "", (story.run.error or "").partition(":")[0]
    is_unexpected = name.isidentifier() and re.search(rf"^(?:[\w.]+\.)?{name}\b", detail, re.MULTILINE)
    return toned(detail.rstrip(), "quiet") if is_unexpected else ""


# Steps on a time axis


def step_rows(story: RunStory, now: datetime) -> list[Row]:
    """Return a row per step; steps of child runs follow their run. All bars share the run's time axis."""
    end = _last_moment(story, now)
    return [_step_row(key, name, entry, story.run, end, now) for key, name, entry in _entries(story)]


def _last_moment(story: RunStory, now: datetime) -> datetime:
    """Return the end of the time axis. For a run that died it is the last recorded time."""
    if story.run.status is RunStatus.RUNNING:
        return now
    known = [each.ended_at or each.started_at for _, _, each in _entries(story)]
    return story.run.ended_at or max(known, default=story.run.started_at)


def _entries(story: RunStory) -> Iterator[tuple[str, str, Run | Step]]:
    for step in story.steps:
        yield f"{story.run.id}/{step.name}/{step.id}", step.name, step
    for child in story.inside:
        yield f"run/{child.run.id}", child.run.pipeline, child.run
        for step in child.steps:
            yield f"{child.run.id}/{step.name}/{step.id}", f"  {step.name}", step


def _bar(entry: Run | Step, run: Run, tone: str, end: datetime, now: datetime) -> Bar:
    """Return the bar of an entry on the run's time axis, which ends at `end`."""
    span_s = max((end - run.started_at).total_seconds(), 0.001)
    ended_at = entry.ended_at or (now if entry.status is RunStatus.RUNNING else entry.started_at)
    first, last = ((moment - run.started_at).total_seconds() / span_s for moment in (entry.started_at, ended_at))
    return Bar("─" if isinstance(entry, Run) else "━", tone, max(first, 0.0), min(last, 1.0))


def _step_row(key: str, name: str, entry: Run | Step, run: Run, end: datetime, now: datetime) -> Row:
    glyph, tone = TONES[entry.status]
    cells = (
        Cell(glyph, tone),
        Cell(name, "strong" if isinstance(entry, Run) else ""),
        Cell(duration_text(entry.duration_s(now)), "quiet"),
        _bar(entry, run, tone, end, now),
    )
    detail = entry.detail if isinstance(entry, Step) else entry.result or entry.error or ""
    return Row(key, cells, f"{detail}, {times_text(entry)}" if detail else times_text(entry))


# The graph


@dataclass(frozen=True)
class NodeState:
    """The status of a node in a run, and its duration (s)."""

    status: RunStatus
    duration_s: float | None


def node_states(story: RunStory, now: datetime) -> dict[str, NodeState]:
    """Return the state of each node: that of its step, the worst if several steps share its name."""
    states: dict[str, NodeState] = {}
    for step in (*story.steps, *(step for child in story.inside for step in child.steps)):
        state = NodeState(step.status, step.duration_s(now))
        before = states.get(step.name)
        if before is None or _WORST.index(state.status) <= _WORST.index(before.status):
            states[step.name] = state
    return states


def graph_text(dags: Sequence[Dag], states: Mapping[str, NodeState]) -> str:
    """Draw the dataflows as markup, each node in the colour of its state."""
    return "\n\n".join(_dag_text(dag, states) for dag in dags)


def _dag_text(dag: Dag, states: Mapping[str, NodeState]) -> str:
    nodes = {node.name: node for node in dag.nodes}
    width = max(map(len, nodes))
    lines = []
    for line in draw_graph(tuple(nodes), {name: node.needs for name, node in nodes.items()}):
        text = toned(line.lanes, "quiet")
        if line.node is not None:
            state = states.get(line.node)
            glyph, tone = TONES[state.status] if state else ("○", "quiet")
            took = duration_text(state.duration_s) if state else ""
            text += (
                f"{toned(f'{glyph} {line.node:<{width}}', tone)}  {took:>9}  {toned(nodes[line.node].summary, 'quiet')}"
            )
        lines.append(text)
    return "\n".join([toned(dag.name, "strong"), *lines])


_MODEL = re.compile(r" \[\d+/\d+\] (\w+\.\w+) +\[([^\]]*)\]")
"""A line that SQLMesh prints for each model that it has executed."""
_ROWS = re.compile(r"\(([^()]+ rows?)")


def progress_text(lines: Sequence[str], model_count: int) -> str:
    """Return which model a running transform has finished last and the rows of its table, as markup; else empty."""
    models = {found[1]: found[2] for line in lines if (found := _MODEL.search(line))}
    if not models:
        return ""
    name, what = list(models.items())[-1]
    rows = f", {found[1]}" if (found := _ROWS.search(what)) else ""
    return toned(f"◌ model {len(models)} of at most {max(model_count, len(models))}: {name}{rows}", "busy")


def _below(path: Path, data_dir: Path) -> str:
    return str(path.relative_to(data_dir)) if path.is_relative_to(data_dir) else str(path)
