"""Formats the status line of a result: row count, duration, generation and its age."""

from datetime import datetime

from dataflows.serving import Generation
from ops.host.formatting import ago_text
from tui.query.cells import plain
from tui.query.run import QueryRun
from tui.query.sql import View
from tui.widgets.formatting import plural

NOTHING_SERVED = "nothing is served yet: run `materia run-all` or `materia demo`"


def generation_text(generation: Generation, now: datetime) -> str:
    """`generation 12, 5 min ago`; a file that Materia did not publish has no number."""
    name = f"generation {generation.number}" if generation.number else "a file that Materia did not publish"
    return f"{name}, {ago_text(generation.created_at, now)}"


def result_text(
    run: QueryRun, now: datetime, *, live: bool, newer: bool, below: QueryRun | None = None
) -> tuple[str, str]:
    """Return the line above the rows and its status: `success`, `warning`, `error` or empty.

    `below` is the run whose rows are shown until those of `run` arrive.
    """
    rows = plural(run.row_count, "row")
    if not run.finished:
        glyph, status, caption = "◌", "", f"{rows} so far · {run.elapsed_s:.1f} s · esc cancels"
    elif run.error:
        glyph, status, caption = "✗", "error", f"failed after {run.elapsed_s:.1f} s"
        if run.row_count:
            glyph, status, caption = "▲", "warning", f"ended early: the first {rows}"
    elif run.cancelled:
        glyph, status, caption = "■", "warning", f"stopped after {run.elapsed_s:.1f} s: the first {rows}"
    else:
        glyph, status, caption = "●", "success", f"{rows} in {run.elapsed_s:.2f} s"
    parts, look = [f"{glyph} {caption}"], view_parts(run.view)
    if below and below.row_count and below.generation:
        parts += [*look, f"rows below are older: {generation_text(below.generation, now)}"]
        look = []
    elif run.generation:
        parts.append(generation_text(run.generation, now))
    if newer:
        parts.append("▲ newer data is served: press F5")
    parts += [*(["◉ live"] if live else []), *look]
    return " · ".join(parts), status


def view_parts(view: View) -> list[str]:
    """Describe the filter and the sort order of a view."""
    parts = [f"where {' '.join(view.condition.split())}"] if view.condition.strip() else []
    if view.sort_column is not None:
        parts.append(f"by {plain(view.sort_column)} {'▼' if view.descending else '▲'}")
    return parts
