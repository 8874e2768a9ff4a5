"""`materia status`: what is served, how the pipelines last ran, and what is wrong."""

from typing import Any

import click

from ops.cli.output import ago_text, duration_text, generation_text, print_json, size_text, status_text, table
from ops.config.settings import Settings
from ops.health.pipelines import PipelineState
from ops.health.status import Status, take_status
from ops.host.exits import Exit
from ops.journal.run import utc_now


@click.command(short_help="Show what is served, how pipelines last ran, and what is wrong.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """Show what is served, how the pipelines last ran, and what is wrong.

    Exits with 3 if something is stale, failed, missing or damaged.
    """
    found = take_status(Settings.from_environ(), utc_now())
    if as_json:
        print_json(_record(found))
    else:
        click.echo(_text(found))
    ctx.exit(Exit.DONE if found.ok else Exit.UNWELL)


def _record(found: Status) -> dict[str, Any]:
    return {
        "checked_at": found.checked_at,
        "ok": found.ok,
        "generation": found.generation,
        "expected_release": str(found.expected_release),
        "current_file": found.current_file,
        "gateway": found.gateway,
        "lakehouse": found.lakehouse,
        "pipelines": [_pipeline_record(state, found) for state in found.pipelines],
        "problems": found.problems,
    }


def _pipeline_record(state: PipelineState, found: Status) -> dict[str, Any]:
    last, success = state.last, state.last_success
    return {
        "pipeline": state.pipeline,
        "status": last and last.status,
        "run_id": last and last.id,
        "started_at": last and last.started_at,
        "ended_at": last and last.ended_at,
        "duration_s": last and last.duration_s(found.checked_at),
        "result": last and last.result,
        "error": last and last.error,
        "last_success_at": success and success.ended_at,
    }


def _text(found: Status) -> str:
    rows = [_pipeline_row(state, found) for state in found.pipelines]
    head = ("pipeline", "last run", "status", "took", "run", "outcome")
    wasde = str((found.generation and found.generation.wasde_check) or "")
    gateway = f"gateway: {found.gateway}, {found.lakehouse}"
    head_lines = (_generation_text(found), wasde, _current_file_text(found), gateway)
    parts = [
        "\n".join(line for line in head_lines if line),
        table(head, rows, right=("took", "run")),
        _problems_text(found),
    ]
    return "\n\n".join(part for part in parts if part)


def _generation_text(found: Status) -> str:
    generation = found.generation
    if generation is None:
        return "served: nothing"
    forced = f", forced: {generation.forced_reason}" if generation.forced_reason else ""
    return f"served: {generation_text(generation, found.checked_at)}, {size_text(generation.size_bytes)}{forced}"


def _current_file_text(found: Status) -> str:
    check = found.current_file
    if check is None:
        return ""
    what = "it is served" if check.is_served else f"it was {check.snapshot_key}, which is not served"
    return f"current file last checked on {check.checked_on}: {what}"


def _pipeline_row(state: PipelineState, found: Status) -> tuple[str, ...]:
    last = state.last
    if last is None:
        return state.pipeline, "never", "-", "-", "-", ""
    return (
        state.pipeline,
        ago_text(last.started_at, found.checked_at),
        status_text(last.status),
        duration_text(last.duration_s(found.checked_at)),
        str(last.id),
        last.result or last.error or "",
    )


def _problems_text(found: Status) -> str:
    if found.ok:
        return click.style("all is well", fg="green")
    lines = []
    for problem in found.problems:
        since = f", {ago_text(problem.since, found.checked_at)}" if problem.since else ""
        lines.append(f"{click.style(problem.severity, fg='red')}: {problem.what}{since}")
        lines.append(f"  next: {problem.next_step}")
    return "\n".join(lines)
