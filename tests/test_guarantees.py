"""docs/explanation/guarantees.md promises nothing that no test shows."""

import ast
import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
PAGE = (PROJECT / "docs" / "explanation" / "guarantees.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip().strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith(("| promise", "|--", "| --"))
]
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)))


def test_every_promise_names_the_test_that_shows_it() -> None:
    assert ROWS
    for row in ROWS:
        assert len(row) == 3, row
        assert re.search(r"`tests/[\w/]+\.py::\w+`", row[1]), row[0]


@pytest.mark.parametrize(("path", "name"), NAMED, ids="::".join)
def test_every_test_that_is_named_exists(path: str, name: str) -> None:
    tree = ast.parse((PROJECT / path).read_text())
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert not name or name in functions
