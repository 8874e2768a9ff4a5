"""`materia worker`: list, create and destroy workers."""

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
    help="The provider; needed only if the credentials of several providers are set.",
)


@click.group(short_help="List, create or destroy workers.")
@click.pass_context
def worker(ctx: click.Context) -> None:
    """List, create or destroy workers: machines that exist only for a run.

    `materia pipeline run NAME --on hetzner` creates and destroys its worker.
    """
    ctx.call_on_close(partial(logging.getLogger().removeHandler, ctx.obj.log_to_terminal()))


@worker.command("list", short_help="List the workers and what they cost.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_workers(as_json: bool) -> None:
    """List the machines with Materia's label, and what they cost."""
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


@worker.command(short_help="Create a worker by hand; it is destroyed when it expires.")
@click.argument("name", default="by-hand")
@click.option("--for", "pipeline", default="run-all", help="The pipeline that determines the machine's size.")
@click.option(
    "--public-key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="Public SSH key file; its owner may log in.",
)
@_on
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def create(name: str, pipeline: str, public_key: Path, on: str | None, as_json: bool) -> None:
    """Create a machine within the spending caps, and print its line for `known_hosts`.

    It costs money until `materia worker destroy`, or until `materia worker reap` after it expired.
    """
    from ops.workers.keys import new_key
    from ops.workers.settings import WorkerSettings, choose_provider

    workers = WorkerSettings.from_environ()
    hire = _hire(choose_provider(workers, on), workers)
    instance = _create(hire, name, pipeline, public_key.read_text().strip(), host_key := new_key())
    port = hire.workers.ssh_port
    known_hosts = f"{instance.ip if port == 22 else f'[{instance.ip}]:{port}'} {host_key.public}"
    if as_json:
        print_json({"worker": instance, "known_hosts": known_hosts})
        return
    click.echo(
        f"{instance.name}: {instance.type} at {instance.location}, {instance.ip}, {instance.eur_per_hour:.4f} EUR/h"
    )
    click.echo(f"known_hosts: {known_hosts}")


@worker.command(short_help="Destroy a worker.")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def destroy(name: str, as_json: bool) -> None:
    """Destroy the machine NAME and its resources. Machines without Materia's label are not touched."""
    from contextlib import suppress

    from ops.workers import hiring
    from ops.workers.errors import WorkerError
    from ops.workers.provider import DESTROY_TIMEOUT_S

    found = False
    for hire in _hires():
        is_here = False
        with suppress(WorkerError):
            names = {each.name for each in hire.provider.list_instances()}
            is_here = name in names | {each.name for each in hire.provider.list_belongings()}
        # Also if it is not found: this records its end.
        hiring.destroy(hire, name, DESTROY_TIMEOUT_S if is_here or not found else 0)
        found |= is_here
    if as_json:
        print_json({"destroyed": [name] if found else []})
    else:
        click.echo(f"destroyed {name}" if found else f"there was no worker {name}")


@worker.command(short_help="Destroy workers that have expired or whose run has ended.")
@click.option("--if-possible", is_flag=True, help="Do nothing if no provider's credentials are set.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def reap(if_possible: bool, as_json: bool) -> None:
    """Destroy expired machines with Materia's label, and this host's workers whose run has ended.

    Their keys and firewalls are deleted, too.
    """
    from dataflows.errors import SettingsError
    from ops.health.memory import Reaping, read_memory, write_memory
    from ops.journal.journal import Journal
    from ops.journal.run import utc_now
    from ops.workers import hiring
    from ops.workers.settings import WorkerSettings, configured_providers, no_provider_reason

    workers, settings = WorkerSettings.from_environ(), Settings.from_environ()
    if not configured_providers(workers):
        if not if_possible:
            raise SettingsError(no_provider_reason(workers))
        click.echo("nothing to reap: no provider's credentials are set")
        return
    destroyed = hiring.reap_everywhere(workers, settings, Journal(settings.journal_path), utc_now())
    memory = read_memory(settings.supervisor_dir)
    if memory.reaping is not None and memory.reaping.failing_since is not None:
        write_memory(settings.supervisor_dir, replace(memory, reaping=Reaping(utc_now())))
    if as_json:
        print_json({"destroyed": destroyed})
    else:
        click.echo("\n".join(f"destroyed {name}" for name in destroyed) or "nothing to reap")


def _hires() -> "list[Hire]":
    """One hire for every provider whose credentials are set."""
    from dataflows.errors import SettingsError
    from ops.workers.settings import WorkerSettings, configured_providers, no_provider_reason

    workers = WorkerSettings.from_environ()
    names = configured_providers(workers)
    if not names:
        raise SettingsError(no_provider_reason(workers))
    return [_hire(name, workers) for name in names]


def _hire(name: str, workers: "WorkerSettings") -> "Hire":
    from ops.workers.hiring import hire_of
    from ops.workers.settings import provider_of

    return hire_of(provider_of(name, workers), workers, Settings.from_environ())


def _create(hire: "Hire", name: str, pipeline: str, public_key: str, host_key: Any) -> Any:
    from dataflows.errors import SettingsError
    from ops.workers import hiring
    from ops.workers.labels import worker_name
    from ops.workers.provider import SIZES

    full_name = worker_name(hire.owner, name)
    if pipeline not in SIZES:
        raise SettingsError(f"there is no pipeline {pipeline!r}; choose one of {', '.join(SIZES)}")
    if any(each.name == full_name for each in hire.provider.list_instances()):
        raise SettingsError(f"worker {full_name} exists already; choose another name, or destroy it")
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
        return "no workers"
    return f"{table(_HEAD, rows, right=_NUMBERS)}\n\n{len(rows)} in all, {found.eur_per_h:.4f} EUR/h"
