"""`materia lakehouse`: moving it between its file and a DuckLake."""

import click

from ops.cli import Session
from ops.cli.output import print_json
from ops.settings import Settings


@click.group(short_help="Move the lakehouse between its file and a DuckLake.")
def lakehouse() -> None:
    """Move the lakehouse between its file and a DuckLake, which several machines can share."""


@lakehouse.command(short_help="Move the lakehouse to a DuckLake, or back into its file.")
@click.option("--to", type=click.Choice(["ducklake", "duckdb"]), required=True, help="Where it is to be.")
@click.option("--replace", is_flag=True, help="Put it in the place of another lakehouse that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def migrate(session: Session, to: str, replace: bool, as_json: bool) -> None:
    """Copy every table, compare each row by row, and take SQLMesh's state along.

    What is moved stays where it was, and is used until MATERIA_GATEWAY says otherwise. May be repeated.
    """
    from ops.logs import log_to_terminal
    from ops.migrate import migrate as moved
    from ops.redact import Redactor

    log_to_terminal(Redactor.from_environ(), debug=session.debug)
    tables: list[dict[str, object]] = []

    def told(table: str, row_count: int) -> None:
        tables.append({"table": table, "row_count": row_count})
        if not as_json:
            click.echo(f"the same on both sides: {table}, {row_count:,} rows")

    result = moved(Settings.from_environ(), to, replace=replace, told=told)
    if as_json:
        print_json({"result": result, "tables": tables})
    else:
        click.echo(result)
