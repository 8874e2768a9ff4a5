"""`materia query`: run SQL on the served generation."""

import math
import os
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import click

from dataflows.errors import QueryError
from ops.cli.output import generation_text, record_text
from ops.config.settings import Settings
from ops.journal.run import utc_now

if TYPE_CHECKING:
    from dataflows.serving import Answer

ROWS_SHOWN = 50
MAX_RESULT_BYTES = 2 << 30


@click.command(short_help="Run a query on the served generation.")
@click.argument("sql")
@click.option(
    "--limit",
    type=click.IntRange(1, 10**12),
    help=f"Maximum number of rows. Default: {ROWS_SHOWN} in a table, all in CSV and JSON.",
)
@click.option("--timeout", "timeout_s", type=click.FloatRange(0.001, 86_400), default=60.0, show_default=True)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def query(sql: str, limit: int | None, timeout_s: float, as_csv: bool, as_json: bool) -> None:
    """Run one read-only SQL statement and print which generation answered; `-` reads it from standard input.

    \b
    materia query "SELECT * FROM serving.psd_asof('2026-03-01') LIMIT 5"
    materia query --csv - < balance.sql > balance.csv
    """
    if as_csv and as_json:
        raise click.UsageError("--csv and --json cannot be combined; choose one")
    if math.isnan(timeout_s):
        raise click.UsageError("--timeout must be a number of seconds")
    text = sys.stdin.read() if sql == "-" else sql
    answer = _answer(text, Settings.from_environ(), timeout_s)
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


def _answer(sql: str, settings: Settings, timeout_s: float) -> "Answer":
    """Run a query in a sandbox and return all rows; raises QueryError if they exceed the memory limit."""
    from dataflows.serving.sandbox import Sandbox

    with closing(Sandbox(settings.serving_path, memory_bytes=_memory_bytes())) as sandbox:
        import pyarrow as pa  # while the sandbox starts

        from dataflows.serving import Answer

        batches, size_bytes = [], 0
        with sandbox.answer(sql, timeout_s=timeout_s) as answer:
            schema, rows = answer.read()
            for batch in rows:
                size_bytes += batch.nbytes
                if size_bytes > MAX_RESULT_BYTES:
                    raise QueryError(f"the result has more than {MAX_RESULT_BYTES >> 20} MiB; ask for fewer rows")
                batches.append(batch)
            return Answer(pa.Table.from_batches(batches, schema), answer.generation)


def _memory_bytes() -> int:
    """The memory limit of a query: half of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _print_json(answer: "Answer", limit: int) -> None:
    """Print one JSON object, one row per line, without building it in memory."""
    from ops.cli.rows import json_text, rows_of

    generation = answer.generation
    head = {
        "number": generation.number,
        "created_at": generation.created_at,
        "age_s": round((utc_now() - generation.created_at).total_seconds(), 1),
        "newest_released_on": generation.newest_released_on,
    }
    sys.stdout.write(f'{{"generation": {record_text(head)},\n "columns": {json_text(answer.table.column_names)},\n')
    sys.stdout.write(f' "more_rows": {max(answer.table.num_rows - limit, 0)},\n "rows": [')
    for number, row in enumerate(rows_of(answer.table.slice(0, limit))):
        sys.stdout.write((",\n  " if number else "\n  ") + json_text(row))
    sys.stdout.write("]}\n")
