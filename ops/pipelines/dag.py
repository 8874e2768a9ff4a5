"""Pictures of the dataflows: DOT and Mermaid from Hamilton's own graph, the same text on every machine.

A function is a box with its name, what it returns and its docstring's first sentence. What comes in from outside
stands in a small note at the function that takes it: drawn once each, with an arrow to every taker, the inputs
would hide the way of the data.
"""

import hashlib
import html
import re
import subprocess
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dataflows.errors import MissingToolError, SettingsError

DATAFLOWS = {
    "extract": ("dataflows.extract", "snapshot", "from USDA's archive to the landing"),
    "export": ("dataflows.export", "generation", "from the landing to a served generation"),
}
"""The module of each dataflow, the node that is wanted of it, and its way in a few words."""

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
    """A function of a dataflow; `needs` are other functions, `takes` inputs, both in the order of its parameters."""

    name: str
    returns: str
    summary: str
    needs: tuple[str, ...]
    takes: tuple[str, ...]


@dataclass(frozen=True)
class Dag:
    """A dataflow as a picture shows it: every node after those it needs."""

    name: str
    title: str
    nodes: tuple[Node, ...]


def dag_of(name: str) -> Dag:
    """Read a dataflow's graph; runs nothing of it. Raises SettingsError for an unknown name."""
    from importlib import import_module

    from dataflows import driver

    if name not in DATAFLOWS:
        raise SettingsError(f"there is no dataflow {name!r}; there are {', '.join(DATAFLOWS)}")
    module, wanted, way = DATAFLOWS[name]
    graph = driver.build(import_module(module)).graph
    leading, _ = graph.get_upstream_nodes([wanted])
    nodes = {node.name: _node(node) for node in leading if not node.user_defined}
    return Dag(name, f"{name}: {way}", tuple(_in_order(nodes)))


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
    return _drawn(dag, "svg") + f"<!-- dot {dot_digest(dag)} -->\n".encode()


def png_bytes(dag: Dag) -> bytes:
    """The picture as PNG, at twice the usual resolution."""
    return _drawn(dag, "png", "-Gdpi=144")


def dot_digest(dag: Dag) -> str:
    """A digest of the DOT text: versions of the `dot` program draw the same text differently."""
    return f"sha256:{hashlib.sha256(dot_text(dag).encode()).hexdigest()}"


def _drawn(dag: Dag, kind: str, *options: str) -> bytes:
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


def _node(node: Any) -> Node:
    parents = {parent.name: parent for parent in node.dependencies}
    given = [name for name in node.input_types if name in parents]
    sentence, _, _ = " ".join((node.documentation or "").split()).partition(". ")
    return Node(
        name=node.name,
        returns=_type_text(node.type),
        summary=sentence.rstrip(".").replace("`", ""),
        needs=tuple(name for name in given if not parents[name].user_defined),
        takes=tuple(name for name in given if parents[name].user_defined),
    )


def _type_text(kind: Any) -> str:
    text = kind.__name__ if isinstance(kind, type) and not hasattr(kind, "__args__") else str(kind)
    return _MODULE_PATH.sub("", text)


def _in_order(nodes: dict[str, Node]) -> Iterator[Node]:
    """Every node after those it needs; what could stand in any order stands by its name."""
    done: set[str] = set()
    while waiting := sorted(nodes.keys() - done):
        ready = next(name for name in waiting if done.issuperset(nodes[name].needs))
        done.add(ready)
        yield nodes[ready]


def _mermaid_escaped(text: str) -> str:
    return text.replace('"', "#quot;").replace("<", "&lt;").replace(">", "&gt;")
