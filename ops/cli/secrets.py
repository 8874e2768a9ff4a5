"""`materia secrets`: check which secrets are set; never prints a value."""

import os
from typing import TYPE_CHECKING

import click

from dataflows.errors import SettingsError
from ops.cli.output import print_json, table
from ops.config.iceberg import iceberg_of
from ops.config.table import Values
from ops.host.exits import Exit

if TYPE_CHECKING:
    from ops.workers.secrets import Presence


@click.group(short_help="Check which secrets are set; never prints a value.")
def secrets() -> None:
    """Check which secrets are set, and which pipelines need them; never prints a value."""


@secrets.command(short_help="List the secrets, whether each is set, and which pipelines need it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def check(ctx: click.Context, as_json: bool) -> None:
    """List the secrets, whether each is set, and which pipelines need it; never prints a value.

    Exits with 2 if object storage or Iceberg is only partly configured: object storage needs all of its names or none,
    Iceberg its address and either a token or a credential, or none.
    """
    from ops.workers import secrets as declared

    found = declared.check()
    if as_json:
        print_json(found)
    else:
        rows = [(each.name, _state(each.is_present), _for(each)) for each in found]
        click.echo(table(("name", "", "for"), rows))
    storage = {each.is_present for each in found if each.name in declared.OBJECT_STORAGE_NAMES}
    if len(storage) == 2:
        click.echo(
            "object storage is only partly configured; every run will fail; set all four R2 names, or none", err=True
        )
        ctx.exit(Exit.USAGE)
    try:
        iceberg_of(Values.from_environ(os.environ))
    except SettingsError as error:
        click.echo(str(error), err=True)
        ctx.exit(Exit.USAGE)


def _for(presence: "Presence") -> str:
    where = f" at {presence.provider}" if presence.provider else ""
    return f"{', '.join(presence.wanted_by)}{where}"


def _state(is_present: bool) -> str:
    return click.style("present", fg="green") if is_present else click.style("missing", fg="yellow")
