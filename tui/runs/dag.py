"""The dataflows as graphs, read from their source: a function is a node, its parameters are the edges to it.

That is what Hamilton makes of them too, but it takes a second to import, and the console never does.
"""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from ops.journal.run import RunStatus

DAGS = {
    "extract": (("dataflows.extract", "snapshot"),),
    "transform": (("dataflows.export", "audited"),),
    "export_serving": (("dataflows.export", "generation"),),
    "run-all": (("dataflows.extract", "snapshot"), ("dataflows.export", "generation")),
    "backfill": (("dataflows.export", "generation"),),
}
"""The dataflows that a pipeline runs: a module, and the node that is wanted of it."""


@dataclass(frozen=True)
class Node:
    """A function of a dataflow; `needs` are other functions, `takes` what comes in from outside."""

    name: str
    summary: str
    needs: tuple[str, ...]
    takes: tuple[str, ...]


@dataclass(frozen=True)
class Dag:
    """A dataflow, every node after those that it needs."""

    name: str
    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class NodeState:
    """How a node stands in a run, and how long it took (s)."""

    status: RunStatus
    duration_s: float | None


def dags_of(pipeline: str) -> tuple[Dag, ...]:
    """The dataflows of a pipeline; none for one that has no dataflow."""
    return tuple(_read(module, wanted) for module, wanted in DAGS.get(pipeline, ()))


@cache
def _read(module: str, wanted: str) -> Dag:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{module} has no source")
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    functions = {
        node.name: node for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }
    nodes: dict[str, Node] = {}
    _add(wanted, functions, nodes)
    return Dag(module.rpartition(".")[2], tuple(nodes.values()))


def _add(name: str, functions: Mapping[str, ast.FunctionDef], nodes: dict[str, Node]) -> None:
    function = functions[name]
    parameters = [argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)]
    needs = tuple(parameter for parameter in parameters if parameter in functions)
    for needed in sorted(needs, key=lambda needed: functions[needed].lineno):
        if needed not in nodes:
            _add(needed, functions, nodes)
    summary = (ast.get_docstring(function) or "").partition("\n")[0].partition(". ")[0].rstrip(".")
    nodes[name] = Node(name, summary, needs, tuple(each for each in parameters if each not in functions))
