"""`materia scrub`: verify every stored file against its recorded hash."""

import click

from ops.cli.output import print_json
from ops.config.settings import Settings
from ops.host.exits import Exit


@click.command(short_help="Verify every stored file against its recorded hash.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def scrub(ctx: click.Context, as_json: bool) -> None:
    """Verify landed zips, generations, the lakehouse and unpacked rows, here and in the bucket.

    The lakehouse is a file, a DuckLake, or the warehouse of Spark where that is a folder.

    The supervisor does this weekly. `materia status` reports damage until it is repaired. Exits with 1 if a file is
    damaged or could not be read.
    """
    from ops.integrity.scrub import scrub as scrub_all
    from ops.journal.run import utc_now
    from ops.pipelines.remote import remote_of

    settings = Settings.from_environ()
    remote = remote_of(settings)
    bucket, generations = (remote.landing, remote.generations) if remote else (None, None)
    checked = []
    for each in scrub_all(settings, bucket, generations, utc_now()):
        checked.append(each)
        if each.damage is not None and not as_json:
            click.echo(f"{each.kind} {each.where} is damaged: {each.damage.why}")
    damaged = {each.where: each.damage for each in checked if each.damage}
    count = len({each.where for each in checked})
    if as_json:
        print_json({"ok": not damaged, "files": count, "damage": list(damaged.values())})
    else:
        verdict = (
            f"{len(damaged)} are damaged; see `materia status` for the repair" if damaged else "all match their records"
        )
        click.echo(f"{count} files read: {verdict}")
    ctx.exit(Exit.FAILED if damaged else Exit.DONE)
