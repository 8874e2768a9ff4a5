"""`materia export`: write a served table, or the rows of any query, to a file."""

import re
from dataclasses import asdict
from pathlib import Path

import click

from ops.cli.output import generation_record, generation_text, print_json, size_text
from ops.cli.query import saved_option, sql_text
from ops.config.settings import Settings
from ops.journal.run import utc_now
from ops.query.export import FORMATS, write_file

_TABLE = re.compile(r"(?:serving\.)?(\w+)")


@click.command(short_help="Write a served table or the rows of a query to a CSV, Parquet or Excel file.")
@click.argument("source", metavar="TABLE|SQL", required=False)
@saved_option
@click.option("--format", "file_format", type=click.Choice([*FORMATS]), help="Default: that of --output, or csv.")
@click.option(
    "-o",
    "--output",
    "target",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Default: TABLE.FORMAT.",
)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(0.001, 86_400), default=600.0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def export(
    source: str | None,
    saved: str | None,
    file_format: str | None,
    target: Path | None,
    force: bool,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Write a served table, or the rows of one read-only SQL statement (`-`: standard input), to a file.

    The file appears when it is complete. Prints its rows, its size and the generation they came from.

    \b
    materia export agg_world_balance --format parquet
    materia export "SELECT * FROM serving.psd_asof('2026-03-01')" -o march.xlsx
    """
    from ops.query.run import answer_of

    settings = Settings.from_environ()
    table = _TABLE.fullmatch(source or "")
    sql = sql_text(f"SELECT * FROM serving.{table[1]}" if table else source, saved, settings)
    name = table[1] if table else saved
    target = target or (Path(f"{name}.{file_format or 'csv'}") if name else None)
    if target is None:
        raise click.UsageError("a query needs --output FILE")
    endings = [f".{each}" for each in ([file_format] if file_format else FORMATS)]
    if target.suffix.lower() not in endings:
        raise click.UsageError(f"{target.name} does not end in {' or '.join(endings)}")
    with answer_of(sql, settings, timeout_s) as answer:
        schema, batches = answer.read()
        written = write_file(schema, batches, target, overwrite=force)
        generation, now = answer.generation, utc_now()
    if as_json:
        print_json({**asdict(written), "generation": generation_record(generation, now)})
    else:
        click.echo(f"wrote {written.path}: {written.rows:,} rows, {size_text(written.size_bytes)}")
        click.echo(generation_text(generation, now))
