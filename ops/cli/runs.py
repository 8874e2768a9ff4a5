"""`materia runs`: list runs, or show one in detail."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from dataflows.errors import JournalError, SettingsError
from ops.cli.output import ago_text, duration_text, print_json, status_text, table
from ops.config.settings import Settings
from ops.journal.journal import Journal
from ops.journal.run import Run, RunStatus, Step, utc_now


@click.group(invoke_without_command=True, short_help="List the newest runs; `runs show ID` shows one in detail.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Maximum number of runs.")
@click.option("--pipeline", help="Only runs of this pipeline.")
@click.option("--status", type=click.Choice([str(status) for status in RunStatus]), help="Only runs with this status.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def runs(ctx: click.Context, limit: int, pipeline: str | None, status: str | None, as_json: bool) -> None:
    """List the newest runs, newest first."""
    if ctx.invoked_subcommand is not None:
        return
    wanted = RunStatus(status) if status else None
    found, now = _journal().runs(limit, pipeline=pipeline, status=wanted), utc_now()
    if as_json:
        print_json([_record(run, now) for run in found])
    else:
        click.echo(_runs_table(found, now) or "no runs")


@runs.command(short_help="Show a run with its steps, error and log.")
@click.argument("run_id", metavar="ID", type=click.IntRange(1, 2**63 - 1))
@click.option("--log", "with_log", is_flag=True, help="Print the run's log instead.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def show(session: Any, run_id: int, with_log: bool, as_json: bool) -> None:
    """Show a run: its outcome, steps, error and log file."""
    if with_log and as_json:
        raise click.UsageError("--log and --json cannot be combined; choose one")
    journal, now = _journal(), utc_now()
    run = journal.run(run_id)
    if run is None:
        raise SettingsError(f"there is no run {run_id} in {journal.path}; `materia runs` lists them")
    if with_log:
        _print_log(run)
        return
    steps, children = journal.steps(run_id), journal.children(run_id)
    if as_json:
        inner = {
            "steps": [_record(step, now) for step in steps],
            "runs": [_record(child, now) for child in children],
        }
        print_json(_record(run, now) | inner)
        return
    detail = run.error_detail if session.debug else None
    parts = [_run_text(run, now), _steps_table(steps, now), _runs_table(children, now), detail]
    click.echo("\n\n".join(part.rstrip() for part in parts if part))


def _journal() -> Journal:
    return Journal(Settings.from_environ().journal_path)


def _record(entry: Run | Step, now: datetime) -> dict[str, Any]:
    return asdict(entry) | {"duration_s": entry.duration_s(now)}


def _runs_table(found: Sequence[Run], now: datetime) -> str:
    rows = [
        (
            str(run.id),
            run.pipeline,
            status_text(run.status),
            ago_text(run.started_at, now),
            duration_text(run.duration_s(now)),
            run.trigger,
            run.result or run.error or "",
        )
        for run in found
    ]
    return table(("run", "pipeline", "status", "began", "took", "trigger", "outcome"), rows, right=("run", "took"))


def _steps_table(steps: Sequence[Step], now: datetime) -> str:
    rows = [(step.name, status_text(step.status), duration_text(step.duration_s(now)), step.detail) for step in steps]
    return table(("step", "status", "took", "detail"), rows, right=("took",))


def _run_text(run: Run, now: datetime) -> str:
    facts = {
        "pipeline": " ".join((run.pipeline, *run.arguments)),
        "status": status_text(run.status),
        "result": run.result,
        "error": run.error,
        "began": f"{run.started_at:%Y-%m-%d %H:%M:%S} UTC, {ago_text(run.started_at, now)}",
        "took": duration_text(run.duration_s(now)),
        "trigger": run.trigger + (f" (run {run.parent_id})" if run.parent_id else ""),
        "process": f"{run.pid} on {run.host}",
        "worker": run.worker,
        "code": run.code_version,
        "snapshots": ", ".join(run.snapshots),
        "log": run.log_path,
    }
    lines = [(f"run {run.id}", ""), *((f"  {name}", value) for name, value in facts.items() if value)]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:{width}}  {value}".rstrip() for name, value in lines)


def _print_log(run: Run) -> None:
    if run.log_path is None:
        raise JournalError(f"run {run.id} has no log; see `materia runs show {run.id}`")
    try:
        with Path(run.log_path).open("rb") as log:
            sys.stdout.flush()
            shutil.copyfileobj(log, sys.stdout.buffer)
    except FileNotFoundError as error:
        raise JournalError(f"the log file does not exist: {run.log_path}; see `materia runs show {run.id}`") from error
