"""`materia pipeline`, `materia run-all`, `materia backfill`: start work and follow it."""

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


def _asked(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of everything that runs pipelines."""
    as_of = click.option("--as-of", type=MonthType(), help="The month the probe starts from, instead of this one.")
    force = click.option("--force", metavar="WHY", help="Publish even what the gate refuses; the reason is recorded.")
    on = click.option(
        "--on", metavar="WHERE", envvar="MATERIA_RUN_ON", default="local", help="`local` (default) or a provider."
    )
    # The schedule says with it for which slot it runs; a person has no use for it.
    trigger = click.option("--trigger", default="manual", hidden=True)
    return as_of(force(on(trigger(command))))


@click.group(short_help="List pipelines, or run one.")
def pipeline() -> None:
    """List pipelines, or run one."""


@pipeline.command("list", short_help="List the pipelines and what each is for.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_pipelines(as_json: bool) -> None:
    """List the pipelines and what each is for."""
    from ops.pipelines.run import PIPELINES

    if as_json:
        print_json([{"pipeline": name, "summary": each.summary} for name, each in PIPELINES.items()])
    else:
        click.echo(table(("pipeline", "what it does"), [(name, each.summary) for name, each in PIPELINES.items()]))


@pipeline.command("run", short_help="Run a pipeline.")
@click.argument("name", type=click.Choice(["extract", "transform", "export_serving", "run-all"]))
@_asked
@click.pass_obj
def run_pipeline(session: Any, name: str, as_of: Month | None, force: str | None, on: str, trigger: str) -> None:
    """Run a pipeline from beginning to end, here or on a machine that exists only for this run."""
    _run(session, name, as_of, force, on, trigger)


@click.command("run-all", short_help="Extract and, when there is anything new, transform and publish.")
@_asked
@click.pass_obj
def run_all(session: Any, as_of: Month | None, force: str | None, on: str, trigger: str) -> None:
    """Extract and, when there is anything new, transform and publish."""
    _run(session, "run-all", as_of, force, on, trigger)


@click.command(short_help="Land and serve every posted release of a range of months.")
@click.option("--from", "first", type=MonthType(), required=True, help="The first month.")
@click.option("--to", "last", type=MonthType(), required=True, help="The last month.")
@click.option("--land-only", is_flag=True, help="Land the releases; do not transform and publish.")
@click.option("--force", metavar="WHY", help="Publish even what the gate refuses; the reason is recorded.")
@click.pass_obj
def backfill(session: Any, first: Month, last: Month, land_only: bool, force: str | None) -> None:
    """Land every posted release of a range of months, a few at a time, then transform and publish.

    May be interrupted and repeated; what is landed is not downloaded again.
    """
    from ops.pipelines import backfill as backfilling
    from ops.pipelines.job import Request

    def report(done: backfilling.MonthDone) -> None:
        click.echo(f"{done.month}  {done.outcome:<13}  {done.detail}")

    with _logging(session):
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
    with _logging(session) as console, download_progress(console) as progress:
        outcome = run(name, settings, replace(request, progress=progress))
    click.echo(outcome)


def _run_on_worker(session: Any, name: str, settings: Settings, request: Any, on: str) -> None:
    import os

    from ops.workers.hiring import hire_of
    from ops.workers.lifecycle import run_on
    from ops.workers.settings import WorkerSettings, provider_of

    workers = WorkerSettings.from_environ()
    with _logging(session):
        hire = hire_of(provider_of(on, workers), workers, settings)
        outcome = run_on(hire, name, settings, request, os.environ)
    click.echo(outcome)


@contextmanager
def _logging(session: Any) -> Iterator[Any]:
    """Events on stderr: drawn around the progress bar on a terminal, plain lines otherwise. Yields rich's console."""
    import sys

    from ops.host.logs import log_to_terminal
    from ops.host.redact import Redactor

    console = None
    if sys.stderr.isatty():
        from rich.console import Console

        console = Console(stderr=True)
    log_to_terminal(Redactor.from_environ(), debug=session.debug, console=console)
    yield console
