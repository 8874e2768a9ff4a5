"""The dataflows' graphs, read from their source, and pictures of them in DOT and Mermaid.

A function is a node, its parameters are its incoming edges: the result equals Hamilton's graph, and Hamilton, which
takes a second to import, is not needed. In a picture a function is a box with its name, what it returns and its
docstring's first sentence. External inputs stand in a note at each function that takes them: drawn once, with an arrow
to every taker, they would hide the flow of the data.
"""

import ast
import hashlib
import html
import re
import subprocess
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from dataflows.errors import MissingToolError

DATAFLOWS = {
    "extract": ("dataflows.extract", "snapshot", "from USDA's archive to the landing"),
    "export": ("dataflows.export", "iceberg_published", "from the landing to a served generation"),
}
"""Each dataflow's module, its final node, and a title."""

_DOT_TIMEOUT_S = 60
_LINE_CHARS = 44
_MODULE_PATH = re.compile(r"\b(?:\w+\.)+(?=\w)")
_INK, _FAINT, _LINE, _PAPER, _NOTE = "#1f2933", "#7b8794", "#9aa5b1", "#f5f7fa", "#fffbea"
_DOT_HEAD = f"""\
  rankdir=TB; bgcolor="white"; nodesep=0.35; ranksep=0.4; pad=0.3;
  labelloc=t; fontname="Helvetica,Arial,sans-serif"; fontsize=15; fontcolor="{_INK}";
  node [fontname="Helvetica,Arial,sans-serif", fontsize=12, fontcolor="{_INK}", color="{_LINE}"];
  edge [color="{_LINE}", arrowsize=0.7];
"""
_DOT_FUNCTION = f'group=way, shape=box, style="rounded,filled", fillcolor="{_PAPER}", margin="0.16,0.1"'
_DOT_INPUT = f'shape=note, style=filled, fillcolor="{_NOTE}", color="#e9d8a6", fontsize=10, fontcolor="#8d6e1f"'
_MERMAID_STYLES = f"""\
  classDef function fill:{_PAPER},stroke:{_LINE},color:{_INK}
  classDef input fill:{_NOTE},stroke:#e9d8a6,color:#8d6e1f,stroke-dasharray:3
"""


@dataclass(frozen=True)
class Node:
    """A function of a dataflow; `needs` are its parameters that are nodes, `takes` its external inputs."""

    name: str
    returns: str
    summary: str
    needs: tuple[str, ...]
    takes: tuple[str, ...]


@dataclass(frozen=True)
class Dag:
    """A dataflow with its nodes in topological order, else in the order of the source."""

    name: str
    title: str
    nodes: tuple[Node, ...]


@cache
def dag_of(name: str, final: str | None = None) -> Dag:
    """Read a dataflow, up to the node `final` where one is given; runs nothing of it."""
    module, last, title = DATAFLOWS[name]
    spec = find_spec(module)
    assert spec is not None and spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    functions = {
        node.name: node for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }
    nodes: dict[str, Node] = {}
    _add(final or last, functions, nodes)
    return Dag(name, f"{name}: {title}", tuple(nodes.values()))


def _add(name: str, functions: Mapping[str, ast.FunctionDef], nodes: dict[str, Node]) -> None:
    function = functions[name]
    parameters = [argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)]
    needs = tuple(each for each in parameters if each in functions)
    for needed in sorted(needs, key=lambda each: functions[each].lineno):
        if needed not in nodes:
            _add(needed, functions, nodes)
    assert function.returns is not None
    sentence, _, _ = " ".join((ast.get_docstring(function) or "").split()).partition(". ")
    nodes[name] = Node(
        name=name,
        returns=_MODULE_PATH.sub("", ast.unparse(function.returns).strip("'")),
        summary=sentence.rstrip(".").replace("`", ""),
        needs=needs,
        takes=tuple(each for each in parameters if each not in functions),
    )


def dot_text(dag: Dag) -> str:
    """The picture in Graphviz's language."""
    lines = [f"digraph {dag.name} {{", _DOT_HEAD.rstrip(), f'  label="{dag.title}\\n ";', ""]
    for node in dag.nodes:
        summary = "".join(f"<br/>{html.escape(line)}" for line in textwrap.wrap(node.summary, _LINE_CHARS))
        returns = f'<font point-size="10" color="{_FAINT}">{html.escape(node.returns)}</font>'
        lines.append(
            f"  {node.name} [{_DOT_FUNCTION}, label=<<b>{node.name}</b><br/>{returns}"
            f'<font point-size="11">{summary}</font>>];'
        )
        if node.takes:
            takes = r"\n".join(node.takes)
            lines.append(f'  {node.name}_inputs [{_DOT_INPUT}, label="{takes}"];')
    lines.append("")
    for node in dag.nodes:
        lines += [f"  {needed} -> {node.name};" for needed in node.needs]
        if node.takes:
            lines.append(f"  {{rank=same; {node.name}_inputs -> {node.name} [style=dashed, arrowhead=none];}}")
    return "\n".join([*lines, "}", ""])


def mermaid_text(dag: Dag) -> str:
    """The picture in Mermaid's language, which GitLab and GitHub draw in Markdown."""
    lines = ["---", f'title: "{dag.title}"', "---", "flowchart TD"]
    for node in dag.nodes:
        label = "<br/>".join((f"<b>{node.name}</b>", *textwrap.wrap(_mermaid_escaped(node.summary), _LINE_CHARS)))
        lines.append(f'  {node.name}["{label}"]:::function')
        if node.takes:
            takes = "<br/>".join(node.takes)
            lines.append(f'  {node.name}_inputs(["{takes}"]):::input')
    for node in dag.nodes:
        lines += [f"  {needed} --> {node.name}" for needed in node.needs]
        if node.takes:
            lines.append(f"  {node.name}_inputs -.- {node.name}")
    return "\n".join([*lines, _MERMAID_STYLES])


def svg_bytes(dag: Dag) -> bytes:
    """The picture as SVG; it ends with the digest of its DOT text, which tells whether it is out of date."""
    return _draw(dag, "svg") + f"<!-- dot {dot_digest(dag)} -->\n".encode()


def png_bytes(dag: Dag) -> bytes:
    """The picture as PNG, at twice the usual resolution."""
    return _draw(dag, "png", "-Gdpi=144")


def dot_digest(dag: Dag) -> str:
    """A digest of the DOT text: versions of the `dot` program draw the same text differently."""
    return f"sha256:{hashlib.sha256(dot_text(dag).encode()).hexdigest()}"


def _draw(dag: Dag, kind: str, *options: str) -> bytes:
    """Have the program `dot` draw it; raises MissingToolError when it is not installed or fails."""
    try:
        drawn = subprocess.run(
            ["dot", f"-T{kind}", *options],
            input=dot_text(dag).encode(),
            capture_output=True,
            timeout=_DOT_TIMEOUT_S,
        )
    except FileNotFoundError as error:
        raise MissingToolError(
            f"drawing {kind} needs the program `dot`: apt-get install graphviz, or use --format mermaid"
        ) from error
    if drawn.returncode != 0:
        raise MissingToolError(f"`dot` could not draw {kind}: {drawn.stderr.decode(errors='replace').strip()}")
    return drawn.stdout


def _mermaid_escaped(text: str) -> str:
    return text.replace('"', "#quot;").replace("<", "&lt;").replace(">", "&gt;")
