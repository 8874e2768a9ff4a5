"""`materia query`: run SQL on the served generation."""

import math
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from dataflows.errors import QueryError
from ops.cli.output import generation_record, generation_text, print_json, record_text, table
from ops.config.settings import Settings
from ops.journal.run import utc_now
from ops.query.saved import SAVED

if TYPE_CHECKING:
    from dataflows.serving import Answer

ROWS_SHOWN = 50
MAX_RESULT_BYTES = 2 << 30

saved_option = click.option(
    "--saved",
    metavar="NAME",
    type=click.Choice([each.name for each in SAVED]),
    help="Run a saved query of the console.",
)


@click.command(short_help="Run a query on the served generation.")
@click.argument("sql", required=False)
@saved_option
@click.option("--list", "is_list", is_flag=True, help="List the saved queries; with --json also their SQL.")
@click.option(
    "--limit",
    type=click.IntRange(1, 10**12),
    help=f"Maximum number of rows. Default: {ROWS_SHOWN} in a table, all in CSV and JSON.",
)
@click.option("--timeout", "timeout_s", type=click.FloatRange(0.001, 86_400), default=60.0, show_default=True)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def query(
    sql: str | None, saved: str | None, is_list: bool, limit: int | None, timeout_s: float, as_csv: bool, as_json: bool
) -> None:
    """Run one read-only SQL statement and print which generation answered; `-` reads it from standard input.

    \b
    materia query "SELECT * FROM serving.psd_asof('2026-03-01') LIMIT 5"
    materia query --csv - < balance.sql > balance.csv
    materia query --saved largest-revisions
    """
    if as_csv and as_json:
        raise click.UsageError("--csv and --json cannot be combined; choose one")
    if math.isnan(timeout_s):
        raise click.UsageError("--timeout must be a number of seconds")
    if is_list:
        _list_saved(as_json)
        return
    settings = Settings.from_environ()
    answer = _read_all(sql_text(sql, saved, settings), settings, timeout_s)
    if as_json:
        _print_json(answer, limit or answer.table.num_rows)
    elif as_csv:
        from ops.cli.rows import csv_of

        csv_of(answer.table, limit or answer.table.num_rows, sys.stdout)
        click.echo(generation_text(answer.generation, utc_now()), err=True)
    else:
        from ops.cli.rows import text_of

        click.echo(text_of(answer.table, limit or ROWS_SHOWN))
        click.echo(f"\n{generation_text(answer.generation, utc_now())}")


def sql_text(sql: str | None, saved: str | None, settings: Settings) -> str:
    """Return the SQL of a command's argument, `-` for standard input, or of a saved query; exactly one is given."""
    if (sql is None) == (saved is None):
        raise click.UsageError("give one SQL statement, or --saved NAME")
    if sql is not None:
        return sys.stdin.read() if sql == "-" else sql
    from dataflows.serving import ServingReader

    with ExitStack() as stack:
        [found] = (each for each in SAVED if each.name == saved)
        return found.current_text(settings, lambda: stack.enter_context(ServingReader(settings.serving_path)))


def _list_saved(as_json: bool) -> None:
    """Print the saved queries."""
    if as_json:
        print_json(SAVED)
    else:
        click.echo(table(("name", "answers"), [(each.name, f"{each.title}: {each.explains}") for each in SAVED]))


def _read_all(sql: str, settings: Settings, timeout_s: float) -> "Answer":
    """Run a query in a sandbox and return all rows; raises QueryError if they exceed the memory limit."""
    from ops.query.run import answer_of

    batches, size_bytes = [], 0
    with answer_of(sql, settings, timeout_s) as answer:
        import pyarrow as pa

        from dataflows.serving import Answer

        schema, rows = answer.read()
        for batch in rows:
            size_bytes += batch.nbytes
            if size_bytes > MAX_RESULT_BYTES:
                raise QueryError(f"the result has more than {MAX_RESULT_BYTES >> 20} MiB; ask for fewer rows")
            batches.append(batch)
        return Answer(pa.Table.from_batches(batches, schema), answer.generation)


def _print_json(answer: "Answer", limit: int) -> None:
    """Print one JSON object, one row per line, without building it in memory."""
    from ops.cli.rows import rows_of
    from ops.query.values import json_text

    head = generation_record(answer.generation, utc_now())
    sys.stdout.write(f'{{"generation": {record_text(head)},\n "columns": {json_text(answer.table.column_names)},\n')
    sys.stdout.write(f' "more_rows": {max(answer.table.num_rows - limit, 0)},\n "rows": [')
    for number, row in enumerate(rows_of(answer.table.slice(0, limit))):
        sys.stdout.write((",\n  " if number else "\n  ") + json_text(row))
    sys.stdout.write("]}\n")
