"""Reads the dataflow graphs from their source: a function is a node, its parameters are its incoming edges.

The result equals Hamilton's graph. Hamilton takes a second to import, so the console does not import it.
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
"""The dataflows that a pipeline runs: a module and its final node."""


@dataclass(frozen=True)
class Node:
    """A function of a dataflow; `needs` are its parameters that are nodes, `takes` its external inputs."""

    name: str
    summary: str
    needs: tuple[str, ...]
    takes: tuple[str, ...]


@dataclass(frozen=True)
class Dag:
    """A dataflow with its nodes in topological order."""

    name: str
    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class NodeState:
    """The status of a node in a run, and its duration (s)."""

    status: RunStatus
    duration_s: float | None


def dags_of(pipeline: str) -> tuple[Dag, ...]:
    """Return the dataflows of a pipeline, empty if it has none."""
    return tuple(_read(module, run_filter) for module, run_filter in DAGS.get(pipeline, ()))


@cache
def _read(module: str, run_filter: str) -> Dag:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{module} has no source")
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    functions = {
        node.name: node for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }
    nodes: dict[str, Node] = {}
    _add(run_filter, functions, nodes)
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
