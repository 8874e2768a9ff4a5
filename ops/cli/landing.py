"""`materia landing`: list, verify, repair and mirror the landed snapshots."""

from typing import Any

import click

from ops.cli.output import print_json, size_text, table
from ops.config.settings import Settings
from ops.host.exits import Exit


@click.group(short_help="List, verify, repair or mirror the landed snapshots.")
def landing() -> None:
    """List, verify, repair or mirror the landed snapshots.

    They are in the bucket if one is configured, otherwise in the local folder.
    """


@landing.command("list", short_help="List the landed snapshots.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_landed(as_json: bool) -> None:
    """List the landed snapshots, oldest release first."""
    from dataflows.source.formats import FORMATS
    from ops.pipelines.remote import landing_of, remote_of

    settings = Settings.from_environ()
    landed = landing_of(settings, remote_of(settings))
    found = [snapshot for format in FORMATS for snapshot in landed.of(format).snapshots()]
    if as_json:
        print_json(found)
        return
    head = ("released", "month", "dataset", "facts", "size", "key")
    rows = [
        (
            str(each.released_on),
            str(each.month),
            each.dataset,
            f"{each.row_count:,}",
            size_text(each.size_bytes),
            each.key,
        )
        for each in found
    ]
    shown = table(head, rows, right=("facts", "size"))
    click.echo(shown or "nothing is landed yet; run `materia pipeline run extract`")


@landing.command("verify", short_help="Recompute every snapshot's sha256 and row count.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def verify_landed(ctx: click.Context, as_json: bool) -> None:
    """Read every landed zip and recompute its size, sha256 and row count. Exits with 1 if one differs."""
    from dataflows.landing.local import LocalLanding
    from dataflows.landing.verify import verify
    from dataflows.source.formats import FORMATS
    from ops.host.lock import writer_lock
    from ops.pipelines.remote import landing_of, remote_of

    settings = Settings.from_environ()
    verdicts = []
    with writer_lock(settings.lock_path, "landing verify"):
        landed, local = landing_of(settings, remote_of(settings)), LocalLanding(settings.landing_dir)
        for verdict in (each for format in FORMATS for each in verify(landed.of(format), local.of(format))):
            verdicts.append(verdict)
            if not as_json:
                click.echo(f"{verdict.month}  {verdict.key}  {verdict.problem or 'as landed'}")
    if as_json:
        print_json(verdicts)
    ctx.exit(Exit.FAILED if any(verdict.problem for verdict in verdicts) else Exit.DONE)


@landing.command("repair", short_help="Restore damaged snapshots from the other copy or from USDA's archive.")
@click.pass_obj
def repair_landed(session: Any) -> None:
    """Restore each damaged zip from the bucket or the local folder, else from USDA's archive if it still has the file.

    Repairs the damage that `materia status` reports and `materia scrub` finds. Markers and unpacked rows are rebuilt
    from the zip. Exits with 1 if a file could not be restored.
    """
    from ops.pipelines.job import Request, open_job
    from ops.pipelines.repair import repair_landing

    session.log_to_terminal()
    with open_job("repair", Settings.from_environ(), Request(), ()) as repair_job:
        repairs = repair_landing(repair_job)
        repair_job.recorder.result = "; ".join(repairs) or "no damage is known"
    click.echo("\n".join(repairs) or "no damage is known; `materia scrub` reads every byte")


@landing.command("sync", short_help="Copy missing snapshots between this host and the bucket, both ways.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def sync_landings(as_json: bool) -> None:
    """Copy missing snapshots both ways, so that the bucket and the local folder hold the same zips."""
    from dataflows.landing.local import LocalLanding
    from dataflows.landing.verify import sync
    from dataflows.source.formats import FORMATS
    from ops.host.lock import writer_lock
    from ops.pipelines.remote import required_remote

    settings = Settings.from_environ()
    remote = required_remote(settings)
    copied = []
    with writer_lock(settings.lock_path, "landing sync"):
        local, bucket = LocalLanding(settings.landing_dir), remote.landing
        for each in (copy for format in FORMATS for copy in sync(local.of(format), bucket.of(format))):
            copied.append(each)
            if not as_json:
                click.echo(f"{each.month}  {each.key}  copied to the {each.to}")
    if as_json:
        print_json(copied)
    elif not copied:
        click.echo("nothing to do: both sides have the same snapshots")
