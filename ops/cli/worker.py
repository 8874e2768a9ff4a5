"""`materia worker`: machines that exist only while they work."""

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ops.cli.output import ago_text, print_json, table
from ops.config.settings import Settings

if TYPE_CHECKING:
    from ops.workers.hiring import Hire
    from ops.workers.settings import WorkerSettings
    from ops.workers.view import Workers

_HEAD = ("worker", "state", "provider", "type", "location", "address", "age", "EUR/h", "EUR so far", "run")
_NUMBERS = ("age", "EUR/h", "EUR so far", "run")

_on = click.option(
    "--on",
    metavar="PROVIDER",
    envvar="MATERIA_RUN_ON",
    default=None,
    help="Where; needed only when the credentials of several providers are set.",
)


@click.group(short_help="List, create or destroy the machines that work for us.")
@click.pass_context
def worker(ctx: click.Context) -> None:
    """List, create or destroy the machines that work for us.

    `materia pipeline run NAME --on hetzner` needs none of this: it creates its worker and destroys it.
    """
    from ops.host.logs import log_to_terminal
    from ops.host.redact import Redactor

    handler = log_to_terminal(Redactor.from_environ(), debug=ctx.obj.debug)
    ctx.call_on_close(partial(logging.getLogger().removeHandler, handler))


@worker.command("list", short_help="List the machines that carry our label, and what they cost.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_workers(as_json: bool) -> None:
    """List the machines that carry our label, and what they cost."""
    from dataflows.errors import SettingsError
    from ops.journal.run import utc_now
    from ops.workers.settings import WorkerSettings, no_provider_reason
    from ops.workers.view import take_workers

    workers = WorkerSettings.from_environ()
    found = take_workers(workers, utc_now())
    if found.unavailable:
        raise SettingsError(no_provider_reason(workers))
    for error in found.errors:
        click.echo(error, err=True)
    if as_json:
        print_json(found.rows)
    else:
        click.echo(_text(found))


@worker.command(short_help="Create a machine by hand; it is reaped when its time is up.")
@click.argument("name", default="by-hand")
@click.option("--for", "pipeline", default="run-all", help="As large as this pipeline needs.")
@click.option(
    "--public-key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="Who may log in: a public SSH key's file.",
)
@_on
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def create(name: str, pipeline: str, public_key: Path, on: str | None, as_json: bool) -> None:
    """Create a machine within the caps, and print the line that makes SSH know it.

    It costs money until `materia worker destroy`, or `materia worker reap` once its time is up.
    """
    from ops.workers.keys import new_key
    from ops.workers.settings import WorkerSettings, chosen_provider

    workers = WorkerSettings.from_environ()
    hire = _hire(chosen_provider(workers, on), workers)
    made = _created(hire, name, pipeline, public_key.read_text().strip(), host_key := new_key())
    port = hire.workers.ssh_port
    known = f"{made.ip if port == 22 else f'[{made.ip}]:{port}'} {host_key.public}"
    if as_json:
        print_json({"worker": made, "known_hosts": known})
        return
    click.echo(f"{made.name}: {made.type} at {made.location}, {made.ip}, {made.eur_per_hour:.4f} EUR/h")
    click.echo(f"known_hosts: {known}")


@worker.command(short_help="Destroy a machine that carries our label.")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def destroy(name: str, as_json: bool) -> None:
    """Destroy the machine NAME and what belongs to it; nothing that lacks our label is touched."""
    from contextlib import suppress

    from ops.workers import hiring
    from ops.workers.errors import WorkerError
    from ops.workers.provider import GONE_WITHIN_S

    found = False
    for hire in _hires():
        is_here = False
        with suppress(WorkerError):
            names = {each.name for each in hire.provider.list_instances()}
            is_here = name in names | {each.name for each in hire.provider.list_belongings()}
        # Also where it is not found: then its end is recorded.
        hiring.destroy(hire, name, GONE_WITHIN_S if is_here or not found else 0)
        found |= is_here
    if as_json:
        print_json({"destroyed": [name] if found else []})
    else:
        click.echo(f"{name} is gone" if found else f"there was no worker {name}")


@worker.command(short_help="Destroy the machines whose time is up, or whose run is over.")
@click.option("--if-possible", is_flag=True, help="Without any provider's credentials do nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def reap(if_possible: bool, as_json: bool) -> None:
    """Destroy what carries our label and outlived its time, and ours whose run is over; keys and firewalls too."""
    from dataflows.errors import SettingsError
    from ops.health.memory import Reaping, recall, remember
    from ops.journal.journal import Journal
    from ops.journal.run import utc_now
    from ops.workers import hiring
    from ops.workers.settings import WorkerSettings, no_provider_reason, present

    workers, settings = WorkerSettings.from_environ(), Settings.from_environ()
    if not present(workers):
        if not if_possible:
            raise SettingsError(no_provider_reason(workers))
        click.echo("no provider's credentials are set, nothing to reap")
        return
    gone = hiring.reap_everywhere(workers, settings, Journal(settings.journal_path), utc_now())
    memory = recall(settings.supervisor_dir)
    if memory.reaping is not None and memory.reaping.failing_since is not None:
        remember(settings.supervisor_dir, replace(memory, reaping=Reaping(utc_now())))
    if as_json:
        print_json({"destroyed": gone})
    else:
        click.echo("\n".join(f"destroyed {name}" for name in gone) or "nothing to reap")


def _hires() -> "list[Hire]":
    """With every provider whose credentials are set."""
    from dataflows.errors import SettingsError
    from ops.workers.settings import WorkerSettings, no_provider_reason, present

    workers = WorkerSettings.from_environ()
    names = present(workers)
    if not names:
        raise SettingsError(no_provider_reason(workers))
    return [_hire(name, workers) for name in names]


def _hire(name: str, workers: "WorkerSettings") -> "Hire":
    from ops.workers.hiring import hire_of
    from ops.workers.settings import provider_of

    return hire_of(provider_of(name, workers), workers, Settings.from_environ())


def _created(hire: "Hire", name: str, pipeline: str, public_key: str, host_key: Any) -> Any:
    from dataflows.errors import SettingsError
    from ops.workers import hiring
    from ops.workers.labels import worker_name
    from ops.workers.provider import SIZES

    full_name = worker_name(hire.owner, name)
    if pipeline not in SIZES:
        raise SettingsError(f"there is no pipeline {pipeline!r}; there are {', '.join(SIZES)}")
    if any(each.name == full_name for each in hire.provider.list_instances()):
        raise SettingsError(f"there is a worker {full_name} already; choose another name, or destroy it")
    try:
        return hiring.create(hire, full_name, SIZES[pipeline], None, public_key, host_key)
    except BaseException as error:
        hiring.destroy_after(hire, full_name, error)
        raise


def _text(found: "Workers") -> str:
    from ops.journal.run import utc_now

    now = utc_now()
    rows = [
        (
            row.id,
            row.state,
            row.provider,
            row.type,
            row.location,
            row.ip or "-",
            ago_text(row.created_at, now).removesuffix(" ago") + (" overdue" if row.expires_at < now else ""),
            f"{row.eur_per_h:.4f}",
            f"{row.eur_so_far:.2f}",
            str(row.run_id) if row.run_id is not None else "-",
        )
        for row in found.rows
    ]
    if not rows:
        return "no worker, nothing is paid for"
    return f"{table(_HEAD, rows, right=_NUMBERS)}\n\n{len(rows)} in all, {found.eur_per_h:.4f} EUR/h"
