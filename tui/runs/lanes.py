"""Draws a graph as text: one node per line, edges to the next node on the spine, all other edges in lanes.

  ● probes
  │
  ● newest_posted
╭─┤
│ ● landed_already
├─┤
╰▶● download
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_CROSSED = {"│": "┼", "├": "┼", "┼": "┼", "╰": "┴", "┴": "┴"}
"""The character of a lane where a horizontal line crosses it."""


@dataclass(frozen=True)
class Line:
    """A line of the drawing: the text left of the node's mark, and the node (None between two nodes)."""

    lanes: str
    node: str | None


def draw_graph(nodes: Sequence[str], needs: Mapping[str, Sequence[str]]) -> tuple[Line, ...]:
    """Draw nodes in topological order.

    The line of a node ends before the node's mark; a line between nodes ends with the spine, the column of the marks.
    """
    place = {name: index for index, name in enumerate(nodes)}
    lanes = _lanes(nodes, needs, place)
    width = 2 * (max((lane for lane, _ in lanes.values()), default=-1) + 1)
    lines: list[Line] = []
    for index, name in enumerate(nodes):
        arriving = [lanes[source] for source in needs[name] if source in lanes and place[source] < index - 1]
        lines.append(Line(_node_line(index, lanes, place, arriving, width), name))
        if index + 1 < len(nodes):
            feeds_next = name in needs[nodes[index + 1]]
            lines.append(Line(_between(index, name, lanes, place, feeds_next, width), None))
    return tuple(lines)


def _lanes(
    nodes: Sequence[str], needs: Mapping[str, Sequence[str]], place: Mapping[str, int]
) -> dict[str, tuple[int, int]]:
    """Return the lane (counted from the spine) and its end for each node with an edge to a node other than the next."""
    ends: dict[str, int] = {}
    for name in nodes:
        for source in needs[name]:
            if place[name] > place[source] + 1:
                ends[source] = max(ends.get(source, 0), place[name])
    lanes: dict[str, tuple[int, int]] = {}
    for source, end in ends.items():
        taken = {lane for other, (lane, until) in lanes.items() if until > place[source]}
        lanes[source] = next(lane for lane in range(len(ends)) if lane not in taken), end
    return lanes


def _node_line(
    index: int,
    lanes: Mapping[str, tuple[int, int]],
    place: Mapping[str, int],
    arriving: Sequence[tuple[int, int]],
    width: int,
) -> str:
    cells = [" "] * width
    for source, (lane, end) in lanes.items():
        if place[source] < index <= end:
            cells[_column(lane, width)] = "│"
    for lane, end in arriving:
        column = _column(lane, width)
        cells[column] = "├" if end > index else "╰"
        for between in range(column + 1, width):
            cells[between] = _CROSSED.get(cells[between], "─")
    if arriving:
        cells[width - 1] = "▶"
    return "".join(cells)


def _between(
    index: int,
    name: str,
    lanes: Mapping[str, tuple[int, int]],
    place: Mapping[str, int],
    feeds_next: bool,
    width: int,
) -> str:
    cells = [" "] * width
    for source, (lane, end) in lanes.items():
        if place[source] < index < end:
            cells[_column(lane, width)] = "│"
    spine = "│" if feeds_next else " "
    if name in lanes:
        column = _column(lanes[name][0], width)
        cells[column] = "╭"
        for between in range(column + 1, width):
            cells[between] = "┼" if cells[between] == "│" else "─"
        spine = "┤" if feeds_next else "╯"
    return "".join(cells) + spine


def _column(lane: int, width: int) -> int:
    return width - 2 * (lane + 1)
