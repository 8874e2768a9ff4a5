"""The documentation says what the code does: links, commands, recipes and generated pages."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from ops.cli import COMMANDS, Session, materia
from ops.config.table import BY_NAME

PROJECT = Path(__file__).resolve().parents[1]
README = (PROJECT / "README.md").read_text()
PAGES = sorted(
    path
    for path in (*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md"), *(PROJECT / "transform").rglob("*.md"))
    if ".venv" not in path.parts
)
GENERATED = sorted((PROJECT / "docs" / "reference").glob("*.md"))


def of(path: Path) -> str:
    return str(path.relative_to(PROJECT))


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitLab and GitHub make them."""
    heads = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def shell_lines(page: Path) -> Iterator[str]:
    """The lines of a page's shell blocks, continued ones joined."""
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL):
        yield from re.sub(r"\\\n\s*", "", block).splitlines()


@pytest.mark.parametrize("page", PAGES, ids=of)
def test_every_link_of_a_page_exists(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#\s]*)(?:#([^)]*))?\)", page.read_text()):
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{of(page)} links to {target}"
        assert not anchor or anchor in anchors(path), f"{of(page)} links to {target}#{anchor}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen, waiting = set(), [PROJECT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen:
            continue
        seen.add(page)
        links = re.findall(r"\]\((?!https?://)([^)#\s]+\.md)", page.read_text())
        waiting += [(page.parent / link).resolve() for link in links]
    assert set(PAGES) - seen == set()


def test_the_readme_fits_two_screens() -> None:
    assert len(README.splitlines()) <= 160


def test_the_settings_that_the_readme_names_exist() -> None:
    table = README.split("## Settings", 1)[1].split("## ", 1)[0]
    named = re.findall(r"^\| `(\w+)`", table, re.MULTILINE)
    assert len(named) == 6 and set(named) <= BY_NAME.keys()


@pytest.mark.parametrize("page", PAGES, ids=of)
def test_the_recipes_that_a_page_names_exist(page: Path) -> None:
    recipes = set(re.findall(r"^(\w[\w-]*)(?: \*args)?:", (PROJECT / "justfile").read_text(), re.MULTILINE))
    assert set(re.findall(r"uv run just ([\w-]+)", page.read_text())) <= recipes


@pytest.mark.parametrize("page", [page for page in PAGES if page not in GENERATED], ids=of)
def test_the_commands_in_a_page_exist(page: Path) -> None:
    """Each `materia …` of a shell block names a command and options that there are."""
    for line in shell_lines(page):
        for words in re.findall(r"(?:^|\s)(?:\S*/)?materia ((?!supervisor\.)[a-z][^|;&#>()]*)", line):
            group: click.Command = materia
            context = click.Context(materia, obj=Session())
            for word in words.split():
                if isinstance(group, click.Group) and not word.startswith("-"):
                    found = group.get_command(context, word)
                    assert found is not None or group.invoke_without_command, f"{of(page)}: materia {words}"
                    if found is None:
                        break
                    group, context = found, click.Context(found, parent=context)
                elif word.startswith("--"):
                    options = {option for each in group.params for option in each.opts} | {"--help"}
                    assert word.partition("=")[0] in options, f"{of(page)}: materia {words}"


def test_the_reference_pages_match_the_code(tmp_path: Path) -> None:
    """Written by another process: SQLMesh takes seconds to import, and reads its settings from the environment."""
    code = (
        "import runpy, sys; from pathlib import Path; pages = runpy.run_path(sys.argv[1])['PAGES']\n"
        "for name, page in pages.items(): Path(sys.argv[2], name).write_text(page())"
    )
    generator = PROJECT / "docs" / "reference" / "generate.py"
    environ = {**os.environ, "HOME": str(tmp_path)}
    subprocess.run(
        [sys.executable, "-c", code, generator, tmp_path],
        check=True,
        cwd=PROJECT,
        env=environ,
        stdout=subprocess.DEVNULL,
    )
    written = {path.name: path.read_text() for path in tmp_path.glob("*.md")}
    assert written == {path.name: path.read_text() for path in GENERATED}, "run `uv run just reference`"


def test_every_command_is_in_the_reference() -> None:
    page = (PROJECT / "docs" / "reference" / "commands.md").read_text()
    assert all(f"\n## materia {name}\n" in page for name in COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=of)
def test_no_page_refers_to_what_no_reader_has(page: Path) -> None:
    found = re.findall(r"DESIGN \d|STYLE \d|FACTS \d|\.\./shared(?!`, or in)", page.read_text())
    assert found == []
