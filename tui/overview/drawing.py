"""Formats an overview snapshot as table rows and markup; contains no widgets."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from ops.health.pipelines import PipelineState
from ops.health.problem import Problem, Severity
from ops.host.formatting import ago_text, duration_text, size_text
from ops.journal.run import Run, RunStatus
from tui.overview.snapshot import Overview, Pipelines
from tui.widgets.formatting import TONES, due_text, exact, plural, sparkline
from tui.widgets.panel import Found
from tui.widgets.table import Cell, Column, Row
from tui.widgets.tones import toned

if TYPE_CHECKING:
    from ops.health.heartbeat import Heartbeat
    from ops.health.status import Status

ALERT_COLUMNS = (
    Column(""),
    Column("what", flexible=True),
    Column("since", right=True, rank=1),
    Column("key"),
)
PIPELINE_COLUMNS = (
    Column("pipeline"),
    Column("last run"),
    Column("began", right=True),
    Column("took", right=True),
    Column("last 30", right=True, flexible=True, tail=True, rank=3),
    Column("next due", right=True, rank=2),
    Column("outcome", flexible=True, rank=1),
)
_UNREADABLE = ("serving-damaged", "serving-broken")
"""The keys of the problems of a served file that cannot be read."""
_WORST_FIRST = (Severity.DAMAGED, Severity.FAILED, Severity.MISSING, Severity.STALE)


def problems(overview: Overview, now: datetime) -> tuple[Problem, ...]:
    """Return the alerts that need an operator, the worst first, including overdue workers."""
    from tui.shell.workers_summary import overdue

    known = overview.status.value.problems if isinstance(overview.status, Found) else ()
    found = (*known, *(overdue(overview.workers, now) if overview.workers else ()))
    # A known damage of the served file explains why screens cannot read it.
    sightings = () if any(problem.key in _UNREADABLE for problem in known) else overview.sightings
    return tuple(sorted((*found, *sightings), key=lambda problem: _WORST_FIRST.index(problem.severity)))


def is_readable(status: "Status", overview: Overview) -> bool:
    """Whether nothing is known against the served file."""
    return not overview.sightings and not any(problem.key in _UNREADABLE for problem in status.problems)


def states(overview: Overview) -> tuple[PipelineState, ...]:
    """Return the state of each pipeline; none if the journal cannot be read."""
    return overview.pipelines.value.states if isinstance(overview.pipelines, Found) else ()


def is_anything_running(overview: Overview) -> bool:
    """Whether the last run of any pipeline is still running."""
    return bool(_running(overview))


def _running(overview: Overview) -> list[Run]:
    return [each.last for each in states(overview) if each.last and each.last.status is RunStatus.RUNNING]


def last_run_id(overview: Overview, pipeline: str) -> int | None:
    """Return the id of a pipeline's newest run, None if it never ran."""
    return next((each.last.id for each in states(overview) if each.pipeline == pipeline and each.last), None)


def alert_key(problem: Problem) -> str:
    """Return the identity of an alert, independent of its position."""
    return problem.key or problem.what


def alert_rows(problems: Sequence[Problem], now: datetime) -> list[Row]:
    """Return a row per alert, with the key that opens its explanation or its fix."""
    rows = []
    for problem in problems:
        glyph, tone = TONES[problem.severity]
        cells = (
            Cell(glyph, tone),
            Cell(problem.what, tone),
            Cell(ago_text(problem.since, now) if problem.since else "", "quiet"),
            Cell(_alert_key_text(problem), "strong"),
        )
        rows.append(Row(alert_key(problem), cells, exact(problem.since) and f"since {exact(problem.since)}"))
    return rows


READING = "◌ reading"
ALL_IS_WELL = Cell("● all is well", "ok")


def served(status: "Status", now: datetime, *, is_readable: bool) -> str:
    """Return the served generation and its freshness as two lines of markup."""
    from ops.health.status import missed_release

    generation = status.generation
    if generation is None:
        return f"{toned('✗ no data is served yet', 'bad')}\n{toned('  next: materia run-all', 'quiet')}"
    release = generation.newest_released_on
    missed = missed_release(generation, status.current_file, status.checked_at)
    fresh = {
        True: toned("● fresh", "ok"),
        False: toned(f"▲ stale: {missed}", "warn"),
        None: toned("? freshness unknown", "quiet"),
    }[status.is_fresh]
    if not is_readable:
        fresh = toned("✗ cannot be read: see the alerts", "bad")
    facts = generation.row_counts.get("fct_psd")
    parts = [
        f"created {ago_text(generation.created_at, now)}",
        size_text(generation.size_bytes),
        *([plural(facts, "fact version")] if facts else []),
    ]
    forced = "\n" + toned(f"▲ forced: {generation.forced_reason}", "warn") if generation.forced_reason else ""
    return (
        f"{toned(f'generation {generation.number}', 'strong')}  {toned(' · '.join(parts), 'quiet')}\n"
        f"newest release {toned(str(release or 'unknown'), 'strong')}  {fresh}{forced}"
    )


def served_exactly(status: "Status") -> str:
    generation = status.generation
    return f"created {exact(generation.created_at)}, code {generation.code_version}" if generation else ""


def pipeline_rows(pipelines: Pipelines, now: datetime) -> list[Row]:
    return [_pipeline_row(state, pipelines, now) for state in pipelines.states]


def _pipeline_row(state: PipelineState, pipelines: Pipelines, now: datetime) -> Row:
    last = state.last
    glyph, tone = TONES[last.status] if last else ("?", "quiet")
    due = pipelines.due.get(state.pipeline)
    cells = (
        Cell(state.pipeline),
        Cell(f"{glyph} {last.status if last else 'never'}", tone),
        Cell(ago_text(last.started_at, now) if last else "-", "quiet"),
        Cell(duration_text(last.duration_s(now)) if last else "-"),
        Cell(sparkline(pipelines.recent.get(state.pipeline, ()), now), "quiet"),
        Cell(due_text(due, now), "quiet"),
        Cell(_outcome_text(last), tone if last and last.status is not RunStatus.DONE else "quiet"),
    )
    times = [f"began {exact(last.started_at)}"] if last else []
    if state.last_success and state.last_success is not last:
        times.append(f"last success {exact(state.last_success.ended_at)}")
    if due:
        times.append(f"due {exact(due)}")
    return Row(state.pipeline, cells, ", ".join(times))


def alert_text(problem: Problem | None) -> str:
    """Return an alert in full with its next step as markup; empty without one."""
    if problem is None:
        return ""
    return f"{toned(problem.what, TONES[problem.severity][1])}\n{toned(f'  next: {problem.next_step}', 'quiet')}"


def machine(overview: Overview) -> str:
    """Return what runs here, the free disk space, and who holds the writer's lock, as markup."""
    runs = ", ".join(f"run {run.id} {run.pipeline}" for run in _running(overview))
    free = overview.free_bytes
    parts = [toned(f"◌ {runs}", "busy") if runs else toned("no run in progress", "quiet")]
    parts += [toned(f"disk {size_text(free.value)} free", "quiet")] if isinstance(free, Found) else []
    line = toned(" · ", "quiet").join(parts)
    lock = overview.lock.value if isinstance(overview.lock, Found) else None
    if lock is None:
        return line
    who = f"run {lock.run_id}" if lock.run_id is not None else f"{lock.holder} (pid {lock.pid})"
    return f"{line}\n{toned(f'{who} holds the lock since {lock.since:%H:%M:%S} UTC', 'busy')}"


def heartbeat(beat: "Heartbeat | None", now: datetime) -> str:
    if beat is None:
        return f"{toned('? no supervisor has run here', 'quiet')}\n{toned('  next: materia supervisor run', 'quiet')}"
    word = "failing" if beat.is_failing else "late" if beat.is_late(now) else ""
    mark = toned(f"▲ {word}", "warn") if word else toned("● alive", "ok")
    return f"{mark}  {toned(ago_text(beat.at, now), 'quiet')}\n{toned(beat.doing, 'quiet')}"


def _alert_key_text(problem: Problem) -> str:
    return f"⏎ run {problem.run_id}" if problem.run_id is not None else "f fix" if problem.command else "⏎ how"


def _outcome_text(run: Run | None) -> str:
    return (run.result or run.error or "") if run else "never ran: materia run-all"
