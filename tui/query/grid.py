"""The result grid; it draws only the visible rows, and keeps the key columns in view when it scrolls sideways.

Why not `textual-fastdatatable`: it renders every cell as a Rich renderable, which took 105 ms for a page of five
columns (measured, 140x40). Rendering a row as one line of text takes a hundredth of that.
"""

import bisect
from functools import partial
from typing import Any, ClassVar, NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.query.cells import NOTHING
from tui.query.spill import Spill
from tui.query.sql import View
from tui.query.window import Window
from tui.widgets.columns import fit_text

_GAP = "  "
_MOST_FIXED = 0.5
"""The share of the width that key columns may take."""
_SORTED = {False: "▲", True: "▼"}


class _Styles(NamedTuple):
    """The styles of a grid."""

    plain: Style
    header: Style
    here: Style
    cursor: Style
    nothing: Style
    nothing_here: Style


class ResultGrid(ScrollView, can_focus=True):
    """Shows one result with a cell cursor; a new view of the result reuses the grid."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"grid--header", "grid--cursor", "grid--cursor-row", "grid--nothing"}
    DEFAULT_CSS = """
    ResultGrid { height: 1fr; scrollbar-size-horizontal: 1; }
    ResultGrid > .grid--header { text-style: bold; color: $text-muted; }
    ResultGrid > .grid--cursor { text-style: reverse; }
    ResultGrid > .grid--cursor-row { background: $boost; }
    ResultGrid > .grid--nothing { text-style: dim; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "move(1, 0)", "Down", show=False),
        Binding("up,k", "move(-1, 0)", "Up", show=False),
        Binding("right", "move(0, 1)", show=False),
        Binding("left", "move(0, -1)", show=False),
        Binding("pagedown,space", "page(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("ctrl+home,g", "edge(0)", show=False),
        Binding("ctrl+end,G", "edge(1)", show=False),
        Binding("home", "side(0)", show=False),
        Binding("end", "side(1)", show=False),
    ]

    row = reactive(0, repaint=False)
    column = reactive(0, repaint=False)

    class CellMoved(Message):
        """The cursor moved to another cell."""

    class HeaderChosen(Message):
        """A column's header was clicked."""

        def __init__(self, column: str) -> None:
            super().__init__()
            self.column = column

    def __init__(self, **names: Any) -> None:
        super().__init__(**names)
        self.window: Window | None = None
        self._view = View()
        self._lefts: list[int] = []
        self._drawn_widths: tuple[int, ...] = ()
        self._fixed = 0
        self._styles: _Styles | None = None

    @property
    def row_count(self) -> int:
        return self.window.spill.row_count if self.window else 0

    @property
    def rows_in_use(self) -> int:
        """The number of rows that a refreshed result needs to keep cursor and scroll position; at least 1."""
        seen = self.scroll_offset.y + self.scrollable_content_region.height - 1
        return max(1, min(self.row_count, max(self.row + 1, seen)))

    @property
    def cell(self) -> tuple[str, Any] | None:
        """The name and the value under the cursor; None in an empty grid."""
        if not self.window or not self.row_count:
            return None
        return self.window.names[self.column], self.window.value_at(self.row, self.column)

    @property
    def record(self) -> list[tuple[str, Any]]:
        """The names and the values of the row under the cursor; empty in an empty grid."""
        window = self.window
        if window is None or not self.row_count:
            return []
        return [(name, window.value_at(self.row, index)) for index, name in enumerate(window.names)]

    def show_rows(self, spill: Spill, view: View, *, keep_row: bool = False, keep_column: bool = False) -> None:
        """Show `spill`; with `keep_row` and `keep_column` cursor and scroll position stay, as far as possible."""
        was_seen = keep_column and self._is_column_seen()
        window = Window(spill, view.sort_column)
        if keep_column and self.window and self.window.names == window.names:
            window.widen(self.window.widths)
        self.window, self._view = window, view
        self.set_reactive(ResultGrid.row, max(0, min(self.row, spill.row_count - 1)) if keep_row else 0)
        self.set_reactive(ResultGrid.column, min(self.column, len(window.names) - 1) if keep_column else 0)
        self._resize()
        x = None if keep_column else 0
        if was_seen:
            x = self._x_of_column()
        self.scroll_to(x, None if keep_row else 0, animate=False, immediate=True, force=True)
        self.refresh()
        self.post_message(self.CellMoved())

    def grow(self) -> None:
        """Called when rows arrive: update the scrollbar, and redraw if the screen had free lines."""
        had = self.virtual_size.height - 1
        self._resize()
        if had < self.scroll_offset.y + self.size.height:
            self.refresh()

    def clear_rows(self) -> None:
        """Show no rows."""
        self.window = None
        self.set_reactive(ResultGrid.row, 0)
        self.set_reactive(ResultGrid.column, 0)
        self._resize()
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Render the visible line `y`: the header, then rows."""
        styles = self._styles or self._resolve_styles()
        width = self.scrollable_content_region.width
        left, top = self.scroll_offset
        row = y - 1 + top
        if self.window is None or (y and row >= self.row_count):
            return Strip.blank(width, styles.plain)
        fixed, filler = self._fixed_width, styles.here if y and row == self.row else styles.plain

        def part(first: int, last: int) -> Strip:
            return Strip(self._header(styles, first, last) if y == 0 else self._row(row, styles, first, last))

        strip = part(*self._visible()).crop_extend(left + fixed, left + width, filler)
        if fixed:
            strip = Strip.join([part(0, self._fixed).crop_extend(0, fixed, filler), strip])
        if self._drawn_widths != tuple(self.window.widths):
            self.call_after_refresh(self._make_room)
        return strip.apply_offsets(left, y)

    def notify_style_update(self) -> None:
        self._styles = None
        super().notify_style_update()

    def on_focus(self) -> None:
        self._styles = None
        self.refresh()

    def on_blur(self) -> None:
        self._styles = None
        self.refresh()

    def watch_row(self, old: int, new: int) -> None:
        self._moved({old, new})

    def watch_column(self) -> None:
        self._moved({self.row})

    def validate_row(self, row: int) -> int:
        return max(0, min(row, self.row_count - 1))

    def validate_column(self, column: int) -> int:
        return max(0, min(column, len(self.window.names) - 1 if self.window else 0))

    def action_move(self, rows: int, columns: int) -> None:
        self.row += rows
        self.column += columns

    def action_page(self, direction: int) -> None:
        page = max(1, self.scrollable_content_region.height - 2)
        self.scroll_to(y=self.scroll_offset.y + direction * page, animate=False, immediate=True)
        self.row += direction * page

    def action_edge(self, end: int) -> None:
        self.row = self.row_count - 1 if end else 0

    def action_side(self, end: int) -> None:
        self.column = len(self._lefts) - 1 if end else 0

    def on_click(self, event: events.Click) -> None:
        if self.window is None:
            return
        x = event.x if event.x < self._fixed_width else event.x + self.scroll_offset.x
        column = max((i for i, left in enumerate(self._lefts) if left <= x), default=0)
        if event.y == 0:
            self.post_message(self.HeaderChosen(self.window.names[column]))
            return
        self.row, self.column = event.y - 1 + self.scroll_offset.y, column

    def _resolve_styles(self) -> "_Styles":
        """Resolve the styles once for all lines."""
        plain = self.rich_style
        part = partial(self.get_component_rich_style, partial=True)
        here = plain + part("grid--cursor-row")
        cursor = here + part("grid--cursor") if self.has_focus else here
        nothing = part("grid--nothing")
        self._styles = _Styles(plain, plain + part("grid--header"), here, cursor, plain + nothing, here + nothing)
        return self._styles

    def _header(self, styles: "_Styles", first: int, last: int) -> list[Segment]:
        assert self.window
        labels, window = [], self.window
        for i in range(first, last):
            name, title, width = window.names[i], window.titles[i], window.widths[i]
            sign = f" {_SORTED[self._view.descending]}" if name == self._view.sort_column else ""
            room = width - len(sign)
            label = title if len(title) <= room else title[: room - 1] + "…"
            labels.append(fit_text(label + sign, width, right=window.numeric[i]) + _GAP)
        return [Segment(" " * self._lefts[first] + "".join(labels), styles.header)]

    def _row(self, row: int, styles: "_Styles", first: int, last: int) -> list[Segment]:
        assert self.window
        here = row == self.row
        plain, nothing = (styles.here, styles.nothing_here) if here else (styles.plain, styles.nothing)
        segments: list[Segment] = []
        line, style = " " * self._lefts[first], plain
        for i, text in enumerate(self.window.texts_at(row, first, last), first):
            wanted = styles.cursor if here and i == self.column else nothing if text is None else plain
            if wanted is not style:
                segments.append(Segment(line, style))
                line, style = "", wanted
            line += fit_text(NOTHING if text is None else text, self.window.widths[i], right=self.window.numeric[i])
            if style is styles.cursor:
                segments.append(Segment(line, style))
                line, style = "", plain
            line += _GAP
        return [*segments, Segment(line, style)]

    def _visible(self) -> tuple[int, int]:
        """Return the first visible column that scrolls and the one after the last."""
        left = self.scroll_offset.x
        first = max(self._fixed, bisect.bisect_right(self._lefts, left + self._fixed_width) - 1)
        return first, bisect.bisect_left(self._lefts, left + self.size.width)

    @property
    def _fixed_width(self) -> int:
        return self._lefts[self._fixed] if self._fixed else 0

    def _moved(self, rows: set[int]) -> None:
        top = self.scroll_offset.y
        for row in rows:
            self.refresh(Region(0, row - top + 1, self.size.width, 1))
        if self._lefts and self.window:
            view = self.scrollable_content_region
            y = min(max(top, self.row - view.height + 2), self.row)
            x = self._x_of_column()
            if (x, y) != self.scroll_offset:
                self.scroll_to(x, y, animate=False, immediate=True)
        self.post_message(self.CellMoved())

    def _is_column_seen(self) -> bool:
        """Whether the start of the cursor's column is visible."""
        left, width = self.scroll_offset.x, self.scrollable_content_region.width
        if self.column < self._fixed:
            return True
        return bool(self._lefts) and left + self._fixed_width <= self._lefts[self.column] < left + width

    def _x_of_column(self) -> int:
        """Return the nearest scroll offset at which the cursor's column is completely visible."""
        assert self.window
        x, left, width = self.scroll_offset.x, self._lefts[self.column], self.window.widths[self.column]
        if self.column < self._fixed:
            return x
        return min(max(x, left + width - self.scrollable_content_region.width), left - self._fixed_width)

    def _make_room(self) -> None:
        if self.window and self._drawn_widths != tuple(self.window.widths):
            was_seen = self._is_column_seen()
            self._resize()
            if was_seen:
                self.scroll_to(x=self._x_of_column(), animate=False, immediate=True)
            self.refresh()

    def _count_fixed(self) -> int:
        """Return how many key columns stay in view: those that leave most of the width to the others."""
        room = self.size.width * _MOST_FIXED
        keys = range(1, (self.window.key_count if self.window else 0) + 1)
        return max((count for count in keys if self._lefts[count] <= room), default=0)

    def on_resize(self) -> None:
        self._fixed = self._count_fixed()
        self.refresh()

    def _resize(self) -> None:
        widths = self.window.widths if self.window else []
        self._drawn_widths = tuple(widths)
        self._lefts = [sum(widths[:i]) + len(_GAP) * i for i in range(len(widths))]
        self._fixed = self._count_fixed()
        self.virtual_size = Size(sum(widths) + len(_GAP) * max(0, len(widths) - 1), self.row_count + 1)
