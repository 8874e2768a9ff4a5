"""What a table holds, and how its columns share the width they get."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

GAP = 2
"""Characters between two columns."""

_WHOLE_AXIS = 1_000
"""More characters than any terminal has: a bar wants what there is."""
_ELLIPSIS = "…"


@dataclass(frozen=True)
class Column:
    """A column; `rank` 0 always stays, higher ranks give way first where the table is narrow.

    A flexible one may be cut to `least` characters: at its end, or, with `tail`, at its beginning.
    """

    title: str
    right: bool = False
    flexible: bool = False
    tail: bool = False
    rank: int = 0
    least: int = 16


@dataclass(frozen=True)
class Cell:
    """A text and the tone it is drawn in."""

    text: str
    tone: str = ""


@dataclass(frozen=True)
class Bar(Cell):
    """A stretch of an axis that is as wide as its column: from `first` to `last`, both from 0 to 1."""

    first: float = 0.0
    last: float = 1.0


@dataclass(frozen=True)
class Row:
    """A row under a key of its own; `exact` is what its relative times are exactly, shown on focus."""

    key: str
    cells: tuple[Cell, ...]
    exact: str = ""


def shared_out(columns: Sequence[Column], natural: Sequence[int], room: int) -> tuple[int, ...]:
    """The width of each column in `room` characters, 0 for those that give way.

    A flexible column is asked for as little as its title and a few words, and gets what the others leave, the
    narrowest first. Where even the least is too much, the widest of them are cut further.
    """
    least = [
        min(width, max(cell_len(column.title), column.least)) if column.flexible else width
        for column, width in zip(columns, natural, strict=True)
    ]
    kept = set(range(len(columns)))
    for rank in sorted({column.rank for column in columns} - {0}, reverse=True):
        if _total(least, kept) <= room:
            break
        kept -= {index for index, column in enumerate(columns) if column.rank == rank}
    spare = room - _total(least, kept)
    widths = [least[index] if index in kept else 0 for index in range(len(columns))]
    flexible = [index for index in sorted(kept) if columns[index].flexible]
    while spare < 0 and any(widths[index] > 1 for index in flexible):
        widths[max(flexible, key=lambda index: widths[index])] -= 1
        spare += 1
    while growing := [index for index in flexible if spare > 0 and widths[index] < natural[index]]:
        widths[min(growing, key=lambda index: widths[index])] += 1
        spare -= 1
    return tuple(widths)


def wanted_width(cell: Cell) -> int:
    """How wide a cell would like to be."""
    return _WHOLE_AXIS if isinstance(cell, Bar) else cell_len(cell.text)


def _total(widths: Sequence[int], kept: set[int]) -> int:
    return sum(widths[index] for index in kept) + GAP * max(len(kept) - 1, 0)


def drawn_cell(cell: Cell, width: int, column: Column) -> str:
    """A cell as text of just that many columns of the terminal."""
    if isinstance(cell, Bar):
        first = min(int(cell.first * width), width - 1)
        return (" " * first + cell.text * max(int(cell.last * width) - first, 1)).ljust(width)[:width]
    text = cell.text
    length = cell_len(text)
    if length > width and column.tail:
        return text[-width:]
    if length > width:
        return set_cell_size(text, width - 1) + _ELLIPSIS
    return " " * (width - length) + text if column.right else text + " " * (width - length)
