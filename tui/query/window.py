"""Formats a spill for the grid: column names, widths, and the visible rows as text."""

from collections.abc import Sequence
from typing import Any

from rich.cells import cell_len

from ops.query.values import value_of
from tui.query.cells import MAX_WIDTH, formatter, is_key, is_number, natural_width, plain
from tui.query.spill import Spill
from tui.query.sql import unique_names

_SIGN = 2
"""Room for the sign of the sorted column."""


class Window:
    """A spill as columns of text. Widths only grow, and only when a visible row needs it."""

    def __init__(self, spill: Spill, sort_column: str | None = None) -> None:
        self.spill = spill
        self.names: tuple[str, ...] = unique_names(spill.schema.names)
        self.titles: tuple[str, ...] = tuple(map(plain, self.names))
        """The names, each on one line."""
        self.numeric: tuple[bool, ...] = tuple(is_number(kind) for kind in spill.schema.types)
        self.key_count = next(
            (
                i
                for i, (name, numeric) in enumerate(zip(self.names, self.numeric, strict=True))
                if numeric and not is_key(name)
            ),
            0,
        )
        """The number of columns at the left that identify a row; 0 if all do."""
        self._show = [formatter(name) for name in self.names]
        first = spill.batch_of(0)[0] if spill.row_count else None
        found = [natural_width(first.column(i), show) if first else 1 for i, show in enumerate(self._show)]
        self.widths = [
            min(MAX_WIDTH, max(width, cell_len(title) + (_SIGN if name == sort_column else 0)))
            for name, title, width in zip(self.names, self.titles, found, strict=True)
        ]

    def widen(self, widths: Sequence[int]) -> None:
        """Widen the columns to at least `widths`, so that a refreshed result keeps its layout."""
        if len(widths) == len(self.widths):
            self.widths = [max(pair) for pair in zip(self.widths, widths, strict=True)]

    def value_at(self, row: int, column: int) -> Any:
        """Return a value."""
        batch, start = self.spill.batch_of(row)
        return value_of(batch.column(column), row - start)

    def texts_at(self, row: int, first: int, last: int) -> list[str | None]:
        """Return the texts of a row from column `first` to before `last` (None for NULL); widens narrow columns."""
        batch, start = self.spill.batch_of(row)
        texts: list[str | None] = []
        for i in range(first, last):
            value = value_of(batch.column(i), row - start)
            text = None if value is None else self._show[i](value)
            if text is not None and len(text) > self.widths[i] < MAX_WIDTH:
                self.widths[i] = min(MAX_WIDTH, cell_len(text))
            texts.append(text)
        return texts
