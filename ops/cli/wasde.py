"""`materia wasde`: land WASDE reports, a second source beside PSD."""

from pathlib import Path
from typing import Any

import click

from ops.config.settings import Settings


@click.group(short_help="Land WASDE reports, a second source beside PSD.")
def wasde() -> None:
    """Land USDA's WASDE reports, a second source beside PSD: served as fct_wasde, compared with PSD's world totals."""


@wasde.command(short_help="Land WASDE reports: XML, CSV, or zips of them.")
@click.argument(
    "files", nargs=-1, required=True, metavar="FILE…", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--land-only", is_flag=True, help="Land the reports; do not transform and publish.")
@click.option("--force", metavar="WHY", help="Publish even if the gate refuses; the reason is recorded.")
@click.pass_obj
def land(session: Any, files: tuple[Path, ...], land_only: bool, force: str | None) -> None:
    """Land WASDE reports as USDA publishes them, XML or CSV, or zips of such files, then transform and publish.

    A report with an unknown table, a moved column or a DOCTYPE is refused by name; then none of the files is landed.
    Safe to repeat: landed reports are recognised.
    """
    from ops.pipelines.job import Request
    from ops.pipelines.wasde import land_files

    session.log_to_terminal()
    click.echo(land_files(Settings.from_environ(), files, Request(forced_reason=force), serve=not land_only))
