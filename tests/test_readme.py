"""The README's tables say what the code says."""

import re
from pathlib import Path

import pytest

from ops.cli import COMMANDS, materia
from ops.config.table import SETTINGS
from ops.host.exits import MEANINGS

PROJECT = Path(__file__).resolve().parents[1]
README = (PROJECT / "README.md").read_text()


def table_after(mark: str) -> list[tuple[str, str]]:
    """The two-column table that follows `<!-- mark -->`, without its head."""
    text = README.split(f"<!-- {mark} -->\n", 1)[1].split("\n\n", 1)[0]
    rows = [tuple(cell.strip() for cell in line.strip("|").split(" | ", 1)) for line in text.splitlines()]
    return rows[2:]


def commands() -> list[tuple[str, str]]:
    found = ((name, materia.get_command(None, name)) for name in sorted(COMMANDS))
    return [(f"`materia {name}`", command.get_short_help_str(200)) for name, command in found]


def test_the_commands_are_those_of_the_command_line():
    assert table_after("commands") == commands()


def test_the_settings_are_those_that_are_read():
    assert table_after("settings") == [(f"`{each.name}`", each.meaning) for each in SETTINGS]


def test_the_exit_codes_are_those_that_are_returned():
    assert table_after("exit codes") == [(f"`{int(code)}`", meaning) for code, meaning in MEANINGS.items()]


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\((?!https?://)([^)#]+)\)", README))))
def test_what_the_readme_links_to_is_there(path):
    assert (PROJECT / path).exists()


def test_the_recipes_the_readme_names_exist():
    recipes = set(re.findall(r"^(\w[\w-]*)(?: \*args)?:", (PROJECT / "justfile").read_text(), re.MULTILINE))
    assert set(re.findall(r"uv run just ([\w-]+)", README)) <= recipes


def test_the_served_tables_are_those_that_are_built():
    from dataflows.serving.build import SERVING_TABLES

    listed = README.split("## What is served")[1].split("serving.psd_asof(day)")[0]
    assert set(re.findall(r"`((?:dim|fct|obt|agg)_\w+)`", listed)) == set(SERVING_TABLES)
