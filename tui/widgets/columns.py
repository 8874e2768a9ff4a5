"""The cells, rows and columns of a table, and the layout of column widths."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import overload

from rich.cells import cell_len, set_cell_size

GAP = 2
"""Characters between two columns."""

_WHOLE_AXIS = 1_000
"""Wider than any terminal: a bar takes all available width."""
_ELLIPSIS = "…"


@dataclass(frozen=True)
class Column:
    """A column. In a narrow table the columns with the highest `rank` are dropped first; rank 0 is never dropped.

    A flexible column may be cut to `least` characters: at its end, or with `tail` at its beginning.
    """

    title: str
    right: bool = False
    flexible: bool = False
    tail: bool = False
    rank: int = 0
    least: int = 16


@dataclass(frozen=True)
class Cell:
    """A text and the tone in which it is drawn."""

    text: str
    tone: str = ""


@dataclass(frozen=True)
class Bar(Cell):
    """A bar from `first` to `last` (fractions from 0 to 1) of an axis as wide as its column."""

    first: float = 0.0
    last: float = 1.0


@dataclass(frozen=True)
class Row:
    """A row with a unique key; `exact` holds its exact times, shown on focus."""

    key: str
    cells: tuple[Cell, ...]
    exact: str = ""


@dataclass(frozen=True)
class LazyRows(Sequence[Row]):
    """Rows that are built when they are drawn, for lists of any length. Equal if built from the same `source`."""

    source: object
    """Identifies the content, such as the question that was answered."""
    size: int = field(compare=False)
    row_at: Callable[[int], Row] = field(compare=False)
    index_of: Callable[[str], int] = field(compare=False)
    """The index of a key, -1 if there is no such row."""

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        if isinstance(index, slice):
            return [self.row_at(each) for each in range(*index.indices(self.size))]
        if not -self.size <= index < self.size:
            raise IndexError(index)
        return self.row_at(index % self.size)


def fit_columns(columns: Sequence[Column], natural: Sequence[int], room: int) -> tuple[int, ...]:
    """Return the width of each column for `room` characters, 0 for dropped columns.

    A flexible column starts at its least width and grows into the remaining room, the narrowest first. If even the
    least widths do not fit, the widest flexible columns are cut further.
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


def preferred_width(cell: Cell) -> int:
    """Return the width that a cell needs to be shown whole."""
    return _WHOLE_AXIS if isinstance(cell, Bar) else cell_len(cell.text)


def _total(widths: Sequence[int], kept: set[int]) -> int:
    return sum(widths[index] for index in kept) + GAP * max(len(kept) - 1, 0)


def format_cell(cell: Cell, width: int, column: Column) -> str:
    """Return a cell as text of exactly `width` terminal columns."""
    if isinstance(cell, Bar):
        first = min(int(cell.first * width), width - 1)
        return (" " * first + cell.text * max(int(cell.last * width) - first, 1)).ljust(width)[:width]
    if column.tail and cell_len(cell.text) > width:
        return cell.text[-width:]
    return fit_text(cell.text, width, right=column.right)


def fit_text(text: str, width: int, *, right: bool) -> str:
    """Pad or cut `text` to exactly `width` cells; a cut text ends in an ellipsis."""
    if text.isascii() and len(text) <= width:
        return text.rjust(width) if right else text.ljust(width)
    length = cell_len(text)
    if length > width:
        return set_cell_size(text, width - 1) + _ELLIPSIS
    padding = " " * (width - length)
    return padding + text if right else text + padding
