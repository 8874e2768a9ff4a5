"""A table that redraws only changed lines and keeps its cursor on the same row when rows come and go.

Columns adapt to the width: flexible ones take the remaining room, and the least important ones are dropped first.
Only visible rows are rendered, and of LazyRows only those are built, so a table may have a million.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from tui.widgets.columns import GAP, Bar, Cell, Column, LazyRows, Row, fit_columns, format_cell, preferred_width
from tui.widgets.tones import TONE_CLASSES

__all__ = ["Bar", "Cell", "Column", "LazyRows", "Row", "Table"]


_NOTHING = Cell("? no rows", "quiet")
_SAMPLE = 100
"""The lazy rows that are measured first; a wider one widens its columns when it is drawn."""


class Table(ScrollView, can_focus=True):
    """Rows below a header. Enter, or a click on the row under the cursor, opens the row."""

    COMPONENT_CLASSES: ClassVar = {"table--head", "table--cursor", "table--empty", *TONE_CLASSES}
    BINDINGS: ClassVar = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home,g", "edge(0)", "First", show=False),
        Binding("end,G", "edge(-1)", "Last", show=False),
        Binding("enter", "open", "Open", show=False),
    ]

    @dataclass
    class Opened(Message):
        """A row was opened."""

        table: "Table"
        key: str

        @property
        def control(self) -> "Table":
            return self.table

    @dataclass
    class Moved(Message):
        """The cursor moved to another row, or its row changed; `row` is None in an empty table."""

        table: "Table"
        row: Row | None
        by_user: bool
        """Whether the user moved the cursor, as opposed to changed rows or a focus change."""

        @property
        def control(self) -> "Table":
            return self.table

    def __init__(self, columns: Sequence[Column], *, empty: Cell | str = _NOTHING, id: str | None = None) -> None:
        super().__init__(id=id)
        self._columns = tuple(columns)
        self._rows: Sequence[Row] = ()
        self._natural: list[int] = []
        self._empty = _as_cell(empty)
        self._cursor = 0
        self._widths: tuple[int, ...] = ()
        self._measured_for = 0

    # What it shows

    @property
    def rows(self) -> Sequence[Row]:
        return self._rows

    @property
    def current(self) -> Row | None:
        """The row under the cursor."""
        return self._rows[self._cursor] if self._rows else None

    def show(self, rows: Sequence[Row], *, empty: Cell | str | None = None) -> None:
        """Show these rows. Unchanged lines are not redrawn, and the cursor keeps its row.

        An empty table shows `empty`: what is missing, and the command that creates it.
        """
        before, current, cursor = self._rows, self.current, self._cursor
        if empty is not None and _as_cell(empty) != self._empty:
            self._empty = _as_cell(empty)
            self.refresh(layout=not self._rows)
        rows = rows if isinstance(rows, LazyRows) else tuple(rows)
        if rows is before or rows == before:
            return
        self._rows = rows
        self._place_cursor(current)
        widths = self._widths
        self._measure()
        if len(before) != len(self._rows):
            self.virtual_size = Size(0, len(self._rows) + 1)
            if self.scroll_offset.y:  # at the top, new rows must become visible
                self.scroll_to(y=self.scroll_offset.y + self._cursor - cursor, animate=False, immediate=True)
            self.refresh(layout=True)
            self.call_after_refresh(self._follow)
        elif widths != self._widths:
            self.refresh()
        else:
            top = self.scroll_offset.y
            for index in range(top, min(top + max(self._page_size, 0), len(self._rows))):
                if before[index] != self._rows[index]:
                    self.refresh_line(index + 1)
        self._follow()
        if self.current != current:
            self.post_message(self.Moved(self, self.current, by_user=False))

    def move_to(self, key: str) -> bool:
        """Move the cursor to a row; returns False when there is no such row."""
        index = self._index_of(key)
        if index >= 0:
            self._go(index, by_user=False)
        return index >= 0

    def _index_of(self, key: str) -> int:
        if isinstance(self._rows, LazyRows):
            return self._rows.index_of(key)
        return next((index for index, row in enumerate(self._rows) if row.key == key), -1)

    def _place_cursor(self, current: Row | None) -> None:
        index = self._index_of(current.key) if current is not None else -1
        if index >= 0:
            self._cursor = index
        self._cursor = max(0, min(self._cursor, len(self._rows) - 1))

    # Moving

    def action_move(self, lines: int) -> None:
        self._go(self._cursor + lines)

    def action_page(self, pages: int) -> None:
        self._go(self._cursor + pages * max(self._page_size, 1))

    def action_edge(self, index: int) -> None:
        self._go(len(self._rows) - 1 if index else 0)

    def action_open(self) -> None:
        if row := self.current:
            self.post_message(self.Opened(self, row.key))

    def on_click(self, event: events.Click) -> None:
        index = event.y + self.scroll_offset.y - self.gutter.top - 1
        if not 0 <= index < len(self._rows) or event.y <= self.gutter.top:
            return
        if index == self._cursor:
            self.action_open()
        else:
            self._go(index)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        index = event.y + self.scroll_offset.y - self.gutter.top - 1
        exact = self._rows[index].exact if 0 <= index < len(self._rows) else ""
        self.tooltip = Content(exact) if exact else None

    def _go(self, index: int, *, by_user: bool = True) -> None:
        index = max(0, min(index, len(self._rows) - 1))
        if not self._rows or index == self._cursor:
            return
        self.refresh_line(self._cursor + 1)
        self._cursor = index
        self.refresh_line(self._cursor + 1)
        self._follow()
        self.post_message(self.Moved(self, self.current, by_user))

    @property
    def _page_size(self) -> int:
        return self.scrollable_content_region.height - 1

    def _follow(self) -> None:
        """Scroll this table and its scrollable ancestor until the cursor is visible."""
        top, page = self.scroll_offset.y, self._page_size
        if page <= 0:
            return
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False, immediate=True)
        elif self._cursor >= top + page:
            self.scroll_to(y=self._cursor - page + 1, animate=False, immediate=True)
        outer = next((each for each in self.ancestors if isinstance(each, Widget) and each.allow_vertical_scroll), None)
        if outer is not None and self.has_focus:
            line = self.content_region.y + 1 + self._cursor - self.scroll_offset.y
            beyond = max(line - outer.content_region.bottom + 1, 0) or min(line - outer.content_region.y, 0)
            if beyond:
                outer.scroll_relative(y=beyond, animate=False)

    # Drawing

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self._rows) + 1 if self._rows else max(len(self._empty.text.splitlines()), 1)

    def on_resize(self) -> None:
        self._measure()
        self._follow()
        self.refresh()

    def on_focus(self) -> None:
        self.refresh_line(self._cursor + 1)
        self.post_message(self.Moved(self, self.current, by_user=False))

    def on_blur(self) -> None:
        self.refresh_line(self._cursor + 1)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        if width != self._measured_for:
            self._measure()  # a scrollbar appeared or disappeared
        base = self.rich_style
        if not self._rows:
            lines = self._empty.text.splitlines()
            style = base + self._foreground(
                f"tone--{self._empty.tone}" if self._empty.tone and not y else "table--empty"
            )
            return Strip([Segment(set_cell_size(lines[y] if y < len(lines) else "", width), style)], width)
        if y == 0:
            return self._strip([Cell(column.title) for column in self._columns], "table--head", width)
        index = y - 1 + self.scroll_offset.y
        if index >= len(self._rows):
            return Strip.blank(width, base)
        cells = self._rows[index].cells
        if isinstance(self._rows, LazyRows):
            self._widen(cells)
        return self._strip(cells, "table--cursor" if index == self._cursor and self.has_focus else "", width)

    def _widen(self, cells: Sequence[Cell]) -> None:
        wanted = [max(pair) for pair in zip(self._natural, map(preferred_width, cells), strict=True)]
        if wanted != self._natural:
            self._natural = wanted
            widths, self._widths = self._widths, fit_columns(self._columns, wanted, self._measured_for)
            if widths != self._widths:
                self.call_after_refresh(self.refresh)

    def _strip(self, cells: Sequence[Cell], component: str, width: int) -> Strip:
        base = self.rich_style
        over = Style()
        if component == "table--head":
            over = self._foreground(component)
        elif component:
            over = self.get_component_rich_style(component, partial=True)
        segments: list[Segment] = []
        for column, cell, wide in zip(self._columns, cells, self._widths, strict=True):
            if wide:
                if segments:
                    segments.append(Segment(" " * GAP, base + over))
                segments.append(
                    Segment(
                        format_cell(cell, wide, column),
                        base + (self._foreground(f"tone--{cell.tone}") if cell.tone else Style()) + over,
                    )
                )
        return Strip(segments).adjust_cell_length(width, base + over)

    def _foreground(self, component: str) -> Style:
        style = self.get_component_rich_style(component)
        return Style(color=style.color, bold=style.bold)

    def _measure(self) -> None:
        """Compute the column widths for the current width."""
        rows = self._rows[:_SAMPLE] if isinstance(self._rows, LazyRows) else self._rows
        self._natural = [
            max([cell_len(column.title), *(preferred_width(row.cells[index]) for row in rows)])
            for index, column in enumerate(self._columns)
        ]
        self._measured_for = self.scrollable_content_region.width
        self._widths = fit_columns(self._columns, self._natural, self._measured_for)


def _as_cell(empty: Cell | str) -> Cell:
    return empty if isinstance(empty, Cell) else Cell(empty, "quiet")
