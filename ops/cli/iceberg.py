"""`materia iceberg`: show the Iceberg catalog's state, or publish the served generation to it."""

from typing import TYPE_CHECKING, Any

import click

from ops.cli.output import ago_text, print_json, table
from ops.config.settings import Settings
from ops.host.exits import Exit
from ops.journal.run import utc_now

if TYPE_CHECKING:
    from dataflows.iceberg.published import Published
    from dataflows.serving.generation import Generation


@click.group(short_help="Show the Iceberg catalog's state, or publish to it.")
def iceberg() -> None:
    """Show the Iceberg catalog's state, or publish the served generation to it."""


@iceberg.command(short_help="Show which generation each table of the catalog holds.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """Show which generation each table of the catalog holds.

    A table whose rows did not change keeps the generation that changed them last. Exits with 3 if the catalog does
    not hold the served generation.
    """
    from dataflows.iceberg.publish import published_tables
    from ops.journal.journal import Journal
    from ops.pipelines.iceberg import lag_of, required_address, required_generation

    settings = Settings.from_environ()
    address, served = required_address(settings), required_generation(settings)
    found = published_tables(address)
    is_behind = lag_of(address, served, Journal(settings.journal_path)) is not None
    if as_json:
        tables = [_record(name, published) for name, published in found.items()]
        print_json({"ok": not is_behind, "catalog": str(address), "served": served.number, "tables": tables})
    else:
        click.echo(_text(found, served, is_behind))
    ctx.exit(Exit.UNWELL if is_behind else Exit.DONE)


@iceberg.command(short_help="Publish the served generation to the catalog now.")
@click.pass_obj
def publish(session: Any) -> None:
    """Publish the served generation to every table of the catalog.

    Every run does this; use the command to test the settings or after a failure. Unchanged tables are not written
    again.
    """
    from ops.pipelines.iceberg import publish_now

    session.log_to_terminal()
    click.echo(publish_now(Settings.from_environ()))


def _record(name: str, published: "Published | None") -> dict[str, Any]:
    if published is None:
        return {"table": name, "generation": None}
    return {
        "table": name,
        "generation": published.number,
        "made_at": published.created_at,
        "newest_released_on": published.newest_released_on,
        "sha256": published.sha256,
    }


def _text(found: "dict[str, Published | None]", served: "Generation", is_behind: bool) -> str:
    now = utc_now()
    rows = [
        (name, str(each.number), ago_text(each.created_at, now), each.newest_released_on)
        if each
        else (name, "not ours", "-", "-")
        for name, each in found.items()
    ]
    verdict = f"the served generation {served.number} is {'not yet ' if is_behind else ''}in Iceberg"
    next_step = "; next: materia iceberg publish" if is_behind else ""
    head = ("table", "generation", "made", "newest release")
    return f"{table(head, rows, right=('generation',)) or 'no table yet'}\n\n{verdict}{next_step}"
