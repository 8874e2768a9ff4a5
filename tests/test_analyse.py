"""The guide for analysts and its notebook: every block and every cell runs on served data and answers."""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import BIN
from tests.support.served_demo import ServedDemo

HOW_TO = Path(__file__).resolve().parents[1] / "docs" / "how-to"
WRITTEN_IN = 2026
"""The releases of the demo follow the clock, so the years in the examples do, too."""


def read(name: str) -> str:
    """A file of the guide with its years from 2000 on moved to today."""
    years = datetime.now(UTC).year - WRITTEN_IN
    return re.sub(r"\b20\d\d\b", lambda year: str(int(year[0]) + years), (HOW_TO / name).read_text())


INTRODUCTION, *SECTIONS = read("analyse.md").split("\n## ")
NOTEBOOK = json.loads(read("analyse.ipynb"))


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Language and text of each code block."""
    yield from re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)


SHELL_BLOCKS = [text for section in (INTRODUCTION, *SECTIONS) for language, text in blocks(section) if language == "sh"]
QUESTIONS = [section for section in SECTIONS if section[0].isdigit()]


@pytest.fixture
def work_dir(served_demo: ServedDemo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a reader of the guide, whose `data/` is served."""
    (tmp_path / "data").symlink_to(served_demo.data_dir)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def value_of(block: str, names: dict[str, Any]) -> Any:
    """Run Python as a notebook does; return the value of the last expression, None for a statement."""
    tree = ast.parse(block)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "analyse.md", "exec"), names)
    return eval(compile(ast.Expression(last.value), "analyse.md", "eval"), names) if last else None


def test_the_guide_has_ten_questions_and_no_other_blocks() -> None:
    assert [section.partition(".")[0] for section in QUESTIONS] == [str(number) for number in range(1, 11)]
    for section in QUESTIONS:
        assert [language for language, _ in blocks(section) if language != "sh"] == ["sql", "python"]
    assert {language for section in (INTRODUCTION, *SECTIONS) for language, _ in blocks(section)} == {
        "sh",
        "sql",
        "python",
    }


@pytest.mark.parametrize("section", QUESTIONS, ids=lambda section: section.splitlines()[0])
def test_a_question_is_answered_with_rows_in_sql_and_pandas(work_dir: Path, section: str) -> None:
    names: dict[str, Any] = {}
    for language, text in blocks(INTRODUCTION):
        if language == "python":
            value_of(text, names)
    for language, text in blocks(section):
        if language == "sql":
            names["sql"] = text
            assert len(names["ask"](text)) > 0
        elif language == "python":
            assert len(value_of(text, names)) > 0
    names["reader"].close()


@pytest.mark.parametrize("block", SHELL_BLOCKS, ids=lambda block: block.splitlines()[0][:40])
def test_a_shell_block_of_the_guide_runs(work_dir: Path, block: str) -> None:
    environ = {**os.environ, "MATERIA_DATA_DIR": "data", "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-euc", block], env=environ, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout
    for target in re.findall(r"wrote (\S+):", done.stdout):
        assert (work_dir / target).stat().st_size > 0
    assert done.stdout.count("wrote ") == block.count("materia export")


def test_the_notebook_is_whole_and_holds_no_output() -> None:
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    cells = NOTEBOOK["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells)
    for cell in cells:
        extra = {"outputs", "execution_count"} if cell["cell_type"] == "code" else set()
        assert cell.keys() == {"cell_type", "id", "metadata", "source"} | extra
        assert not cell.get("outputs") and cell.get("execution_count") is None


def test_every_cell_of_the_notebook_runs_and_shows_rows(work_dir: Path) -> None:
    """By IPython itself, in a process of its own, as a kernel runs cells."""
    done = subprocess.run(
        [sys.executable, "-c", RUN_CELLS],
        input=json.dumps(NOTEBOOK),
        env={**os.environ, "MATERIA_DATA_DIR": "data", "IPYTHONDIR": str(work_dir / "ipython")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    shown = json.loads(done.stdout.splitlines()[-1])
    code = [cell["source"] for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert len(shown) == len(code)
    # Each cell after the first two, install and `ask`, ends with a table.
    assert all(rows for rows in shown[2:]), shown


RUN_CELLS = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell

shell, shown = InteractiveShell.instance(), []
for cell in json.load(sys.stdin)["cells"]:
    if cell["cell_type"] == "code":
        result = shell.run_cell("".join(cell["source"]))
        result.raise_error()
        shown.append(None if result.result is None else len(result.result))
print(json.dumps(shown))
"""
"""Prints the number of rows that each cell shows."""
