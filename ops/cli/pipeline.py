"""`materia pipeline`, `materia run-all`, `materia backfill`: run pipelines and show their progress."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import click

from dataflows.source.release import Month
from ops.cli.output import print_json, table
from ops.config.settings import Settings


class MonthType(click.ParamType):
    """A month, written YYYY-MM."""

    name = "YYYY-MM"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Month:
        return value if isinstance(value, Month) else Month.parse(value)


def _run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that all commands that run pipelines share."""
    as_of = click.option("--as-of", type=MonthType(), help="The month to start probing from. Default: this month.")
    force = click.option("--force", metavar="WHY", help="Publish even if the gate refuses; the reason is recorded.")
    on = click.option(
        "--on", metavar="WHERE", envvar="MATERIA_RUN_ON", default="local", help="`local` (default) or a provider."
    )
    # The supervisor passes the slot that it runs; not for people.
    trigger = click.option("--trigger", default="manual", hidden=True)
    return as_of(force(on(trigger(command))))


@click.group(short_help="List pipelines, or run one.")
def pipeline() -> None:
    """List pipelines, or run one."""


@pipeline.command("list", short_help="List the pipelines and what each does.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_pipelines(as_json: bool) -> None:
    """List the pipelines and what each does."""
    from ops.pipelines.run import PIPELINES

    if as_json:
        print_json([{"pipeline": name, "summary": each.summary} for name, each in PIPELINES.items()])
    else:
        click.echo(table(("pipeline", "what it does"), [(name, each.summary) for name, each in PIPELINES.items()]))


@pipeline.command("run", short_help="Run a pipeline.")
@click.argument("name", type=click.Choice(["extract", "transform", "export_serving", "run-all"]))
@_run_options
@click.pass_obj
def run_pipeline(session: Any, name: str, as_of: Month | None, force: str | None, on: str, trigger: str) -> None:
    """Run a pipeline, here or on a worker that exists only for this run."""
    _run(session, name, as_of, force, on, trigger)


@click.command("run-all", short_help="Extract; if anything is new, transform and publish.")
@_run_options
@click.pass_obj
def run_all(session: Any, as_of: Month | None, force: str | None, on: str, trigger: str) -> None:
    """Extract; if anything is new, transform and publish."""
    _run(session, "run-all", as_of, force, on, trigger)


@click.command(short_help="Land and serve every posted release of a range of months.")
@click.option("--from", "first", type=MonthType(), required=True, help="The first month.")
@click.option("--to", "last", type=MonthType(), required=True, help="The last month.")
@click.option("--land-only", is_flag=True, help="Land the releases; do not transform and publish.")
@click.option("--force", metavar="WHY", help="Publish even if the gate refuses; the reason is recorded.")
@click.pass_obj
def backfill(session: Any, first: Month, last: Month, land_only: bool, force: str | None) -> None:
    """Land every posted release of a range of months, a few in parallel, then transform and publish.

    Safe to interrupt and repeat: landed releases are not downloaded again.
    """
    from ops.pipelines import backfill as backfilling
    from ops.pipelines.job import Request

    def report(done: backfilling.MonthDone) -> None:
        click.echo(f"{done.month}  {done.outcome:<13}  {done.detail}")

    with _log_to_stderr(session):
        request = Request(forced_reason=force)
        outcome = backfilling.backfill(
            Settings.from_environ(), first, last, request, serve=not land_only, report=report
        )
    click.echo(outcome)


def _run(session: Any, name: str, as_of: Month | None, forced_reason: str | None, on: str, trigger: str) -> None:
    from ops.cli.progress import download_progress
    from ops.pipelines.job import Request
    from ops.pipelines.run import run

    settings = Settings.from_environ()
    request = Request(trigger=trigger, as_of=as_of, forced_reason=forced_reason)
    if on != "local":
        _run_on_worker(session, name, settings, request, on)
        return
    with _log_to_stderr(session) as console, download_progress(console) as progress:
        outcome = run(name, settings, replace(request, progress=progress))
    click.echo(outcome)


def _run_on_worker(session: Any, name: str, settings: Settings, request: Any, on: str) -> None:
    import os

    from ops.workers.hiring import hire_of
    from ops.workers.lifecycle import run_on
    from ops.workers.settings import WorkerSettings, provider_of

    workers = WorkerSettings.from_environ()
    with _log_to_stderr(session):
        hire = hire_of(provider_of(on, workers), workers, settings)
        outcome = run_on(hire, name, settings, request, os.environ)
    click.echo(outcome)


@contextmanager
def _log_to_stderr(session: Any) -> Iterator[Any]:
    """Log events to stderr; on a terminal through rich's console, which this yields, above the progress bar."""
    import sys

    console = None
    if sys.stderr.isatty():
        from rich.console import Console

        console = Console(stderr=True)
    session.log_to_terminal(console)
    yield console
