"""`materia tables`: what the served generation holds, with its comments."""

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import click

from dataflows.errors import SettingsError
from ops.cli.output import generation_text, print_json, table
from ops.config.settings import Settings
from ops.journal.run import utc_now

if TYPE_CHECKING:
    from dataflows.serving import ServingReader

_TABLES = """
FROM (
SELECT table_name AS name, estimated_size AS rows, comment FROM duckdb_tables() WHERE schema_name = 'serving'
UNION ALL
SELECT DISTINCT function_name || '(' || array_to_string(parameters, ', ') || ')', NULL, comment
FROM duckdb_functions() WHERE schema_name = 'serving' AND function_type IN ('macro', 'table_macro')
) ORDER BY rows IS NULL, name
"""
_COLUMNS = """
SELECT column_name AS name, data_type AS type, comment
FROM duckdb_columns() WHERE schema_name = 'serving' AND table_name = ? ORDER BY column_index
"""


@click.command(short_help="List the served tables and macros, or the columns of one.")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def tables(name: str | None, as_json: bool) -> None:
    """List tables and macros of the served generation with rows and comments; with NAME, the columns of a table.

    \b
    materia tables fct_metric
    """
    from dataflows.serving import ServingReader

    with ServingReader(Settings.from_environ().serving_path, threads=1) as reader:
        listed = _rows(reader, _TABLES)
        found = _columns(reader, name.removeprefix("serving."), listed) if name else listed
        generation = reader.query("SELECT 1").generation
    if as_json:
        print_json({"generation": generation.number, "columns" if name else "tables": found})
        return
    head = ("name", "type" if name else "rows", "comment")
    texts = [[_text(row[each]) for each in head] for row in found]
    click.echo(f"{table(head, texts, right=('rows',))}\n\n{generation_text(generation, utc_now())}")


def _columns(reader: "ServingReader", name: str, listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The columns of a table or of a table macro's answer; raises SettingsError for another name."""
    if columns := _rows(reader, _COLUMNS, name):
        return columns
    known = [row["name"].partition("(")[0] for row in listed]
    calls = [row["name"] for row in listed if row["name"].startswith(f"{name}(")]
    if not calls:
        near = get_close_matches(name, known, n=3) or known
        raise SettingsError(f"no table or macro is called {name!r}; near matches: {', '.join(near)}")
    comment = next(row["comment"] for row in listed if row["name"] == calls[0])
    arguments = ", ".join(["NULL"] * (calls[0].count(",") + 1 - calls[0].count("checked_on")))
    answer = "" if "convert(" in calls[0] else f"DESCRIBE FROM serving.{name}({arguments})"
    described = _rows(reader, answer) if answer else []
    return [
        {"name": calls[0], "type": "macro", "comment": comment},
        *({"name": row["column_name"], "type": row["column_type"], "comment": None} for row in described),
    ]


def _rows(reader: "ServingReader", sql: str, *parameters: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = reader.query(sql, list(parameters)).table.to_pylist()
    return found


def _text(value: object) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else " ".join(str(value).split())
