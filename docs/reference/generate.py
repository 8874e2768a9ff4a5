"""Writes the pages of docs/reference from the code: `uv run just reference`. A test holds the pages to the code."""

import os
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
_MOST_COLUMNS = 40
"""A table with more has a column per attribute; these are described in one sentence."""
_NOTICE = "<!-- written by `just reference`; edit the code instead -->\n"


def settings_page() -> str:
    """Every setting by group, with its default and who gets it on a worker."""
    from ops.config.table import SETTINGS

    parts = [
        "# Settings\n",
        _NOTICE,
        "All settings are environment variables. In production Pulumi ESC fills them: `esc run beanflows/prod -- …`.",
        "`materia doctor` checks them all. A name that looks like one of these and is none has no effect; doctor and",
        "every run report it with the nearest setting.\n",
        "A *secret* appears in no log, message, file or process list. On a worker a pipeline gets the settings that",
        "name it in the last column, and nothing else.",
    ]
    for group, settings in groupby(SETTINGS, key=lambda setting: setting.group):
        parts += [
            f"\n## {group.capitalize()}\n",
            "| setting | meaning | default | secret | sent to workers |",
            "|---|---|---|---|---|",
        ]
        for each in settings:
            default = each.default_help or (f"`{each.default}`" if each.default else "")
            sent_to = "all" if len(each.sent_to) == 4 else ", ".join(each.sent_to)
            parts.append(f"| `{each.name}` | {each.help} | {default} | {'yes' if each.is_secret else ''} | {sent_to} |")
    return "\n".join(parts) + "\n"


def commands_page() -> str:
    """The help of every command."""
    import click

    from ops.cli import COMMANDS, Session, materia

    def helps(name: str, command: click.Command) -> Iterator[tuple[str, str]]:
        context = click.Context(command, info_name=name, max_content_width=100, terminal_width=100, obj=Session())
        yield name, command.get_help(context)
        if isinstance(command, click.Group):
            for each in command.list_commands(context):
                if (inner := command.get_command(context, each)) is not None:
                    yield from helps(f"{name} {each}", inner)

    parts = [
        "# Commands\n",
        _NOTICE,
        "Every command that reads takes `--json`. `materia completion bash` prints the shell's completion.",
        "`extract_psd` is `materia pipeline run extract`. [Exit codes](exit-codes.md) are the same for all.",
    ]
    for name in sorted(COMMANDS):
        command = materia.get_command(click.Context(materia), name)
        assert command is not None
        for full_name, text in helps(f"materia {name}", command):
            level = "##" if full_name.count(" ") == 1 else "###"
            parts.append(f"\n{level} {full_name}\n\n```text\n{text}\n```")
    return "\n".join(parts) + "\n"


def exit_codes_page() -> str:
    """What the exit codes mean."""
    from ops.host.exits import MEANINGS

    rows = [f"| `{int(code)}` | {meaning} |" for code, meaning in MEANINGS.items()]
    return "\n".join(["# Exit codes\n", _NOTICE, "| code | meaning |", "|---|---|", *rows]) + "\n"


def errors_page() -> str:
    """The error classes, which Python programs catch and the command line turns into exit codes."""
    from dataflows import errors

    parts = [
        "# Errors\n",
        _NOTICE,
        "Every expected failure is a `dataflows.errors.MateriaError`. The command line prints its text, which names",
        "the cause, the file, address or row, and the next step; `--debug` adds the traceback.\n",
        "| class | raised when | exit code |",
        "|---|---|---|",
    ]
    parts += [
        f"| `{name}` | {str(each.__doc__).splitlines()[0]} | {each.exit_code} |"
        for name, each in vars(errors).items()
        if isinstance(each, type) and issubclass(each, errors.MateriaError)
    ]
    return "\n".join(parts) + "\n"


def tables_page() -> str:
    """The served tables with every column, as the SQLMesh project describes them, and the as-of macros."""
    from dataflows.lakehouse.transform import PROJECT_DIR
    from dataflows.serving.build import ALL_TABLES
    from dataflows.serving.database import MACROS

    with TemporaryDirectory() as folder:
        # Resolving columns gives their types.
        os.environ |= {"MATERIA_DATA_DIR": folder, "SQLMESH_CHECK_COLUMNS": "1"}
        from sqlmesh import Context

        context = Context(paths=[str(PROJECT_DIR)])
        models = {name: context.get_model(f"serving.{name}", raise_if_missing=True) for name in ALL_TABLES}
    parts = [
        "# Tables and columns\n",
        _NOTICE,
        "The tables of schema `serving`, in every generation. The database describes itself in the same words:",
        "`materia tables` lists tables and macros, `materia tables fct_psd` columns; in SQL the comments are in",
        "`duckdb_columns()`. [Time and certainty](../explanation/time-and-certainty.md) explains certainty,",
        "[Groups and metrics](../explanation/groups-and-metrics.md) groups, metrics and units. `fct_wasde` and",
        "`agg_wasde_check` exist where [WASDE reports are landed](../how-to/wasde.md).",
    ]
    for name, model in models.items():
        parts += [f"\n## {name}\n", f"{model.description}\n", "| column | type | meaning |", "|---|---|---|"]
        columns = list((model.columns_to_types or {}).items())
        shown = [each for each in columns if len(columns) <= _MOST_COLUMNS or model.column_descriptions.get(each[0])][
            :_MOST_COLUMNS
        ]
        for column, kind in shown:
            meaning = re.sub(r"\s+", " ", model.column_descriptions.get(column, ""))
            parts.append(
                f"| `{column}` | {'' if kind.is_type('unknown') else kind.sql(dialect='duckdb')} | {meaning} |"
            )
        if len(shown) < len(columns):
            parts.append(f"\n{len(columns) - len(shown)} more columns: a value and a unit for each attribute.")
    parts += ["\n## Macros\n", "| call | answer |", "|---|---|"]
    parts += [f"| `serving.{call}` | {meaning} |" for call, meaning in MACROS.items()]
    return "\n".join(parts) + "\n"


PAGES = {
    "settings.md": settings_page,
    "commands.md": commands_page,
    "exit-codes.md": exit_codes_page,
    "errors.md": errors_page,
    "tables.md": tables_page,
}

if __name__ == "__main__":
    for page, written in PAGES.items():
        (HERE / page).write_text(written())
