"""The widget that shows the lines of a document; it reads only the visible lines."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import ClassVar

from rich.cells import chop_cells
from rich.segment import Segment as Piece
from rich.style import Style
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.geometry import Region
from textual.message import Message
from textual.scrollbar import ScrollBar, ScrollDown, ScrollTo, ScrollUp
from textual.strip import Strip
from textual.widget import Widget

from ops.host.redact import Redactor
from tui.logs.document import NOTICE, AllPlaces, Document, Places, Position
from tui.logs.follow import Segment
from tui.logs.lines import line_start
from tui.widgets.log_line import GLYPHS, MAX_CHARS, SECRET_BYTES, ShownLine, notice_line, shown_line, spans
from tui.widgets.log_match import Term
from tui.widgets.tones import TONE_CLASSES

_COMPACT_BELOW = 110
_GUTTER = 2
_WHEEL = 3
_TYPICAL_LINE_BYTES = 100
_COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class _Row:
    position: Position
    pieces: tuple[Piece, ...]
    line_chars: int


class LogView(Widget, can_focus=True):
    """Shows the lines of a document that `places` selects, with a cursor; can follow the end."""

    COMPONENT_CLASSES: ClassVar = {"log--cursor", "log--match", *TONE_CLASSES}
    BINDINGS: ClassVar = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "Page up", show=False),
        Binding("pagedown,ctrl+f", "page(1)", "Page down", show=False),
        Binding("left", "sideways(-1)", "Left", show=False),
        Binding("right", "sideways(1)", "Right", show=False),
    ]

    @dataclass
    class Moved(Message):
        """The visible part or the cursor changed."""

        view: "LogView"

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, LogView.Moved)

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.document: Document | None = None
        self.cursor: Position | None = None
        """The current line; None when no line is shown."""
        self.anchor_position: Position | None = None
        """The line that the cursor stays at while the filter is still being scanned."""
        self.follow = True
        self.wrap = False
        self.terms: tuple[Term, ...] = ()
        """The highlighted terms."""
        self._places: Callable[[Segment], Places | None] = AllPlaces
        self._redact = Redactor.from_environ()
        self._top: Position | None = None
        self._left = 0
        self._rows: list[_Row] = []
        self._drawn_cursor: Position | None = None
        self._base: Style | None = None
        self._bar = _Bar(self)

    def compose(self) -> ComposeResult:
        yield self._bar

    def show(self, document: Document | None) -> None:
        """Show another document at its end."""
        self.document = document
        self._places, self.terms, self.follow, self._left = AllPlaces, (), True, 0
        self.cursor = self.anchor_position = self._top = None
        self.refresh()
        self.draw()

    def see(self, places: Callable[[Segment], Places | None]) -> None:
        """Show only the lines of these places; the cursor stays, or moves to the nearest shown line before it."""
        self._places = places
        self.draw()

    # Navigation

    def go(self, position: Position) -> None:
        """Move the cursor to a line, centred if it was not visible."""
        if position not in {row.position for row in self._rows}:
            self._top = self._step_back(position, self.size.height // 2)
        self._move_cursor_to(position)

    def go_to_end(self) -> None:
        """Move the cursor to the last line and follow the end."""
        self.follow = True
        self.draw()

    def go_to_start(self) -> None:
        if self.document and (first := self.document.first()):
            self.go(first)

    def action_move(self, lines: int) -> None:
        if self.document is None or self.cursor is None:
            return
        step = self.document.next if lines > 0 else self.document.previous
        at = self.cursor
        for _ in range(abs(lines)):
            position = step(at, self._places)
            if position is None:
                break
            at = position
        self._move_cursor_to(at)

    def _move_cursor_to(self, position: Position | None) -> None:
        self.follow, self.cursor, self.anchor_position = False, position, position
        self.draw()

    def action_page(self, direction: int) -> None:
        self.action_move(direction * max(self.size.height - 1, 1))

    def action_sideways(self, direction: int) -> None:
        if not self.wrap:
            step = max(self._text_width // 2, 1)
            furthest = max((row.line_chars for row in self._rows), default=0) - self._text_width // 2
            self._left = max(min(self._left + direction * step, furthest), 0)
            self.draw()

    def copied_line(self) -> str:
        """Return the line under the cursor with secrets redacted, at most 1 MiB."""
        if self.document is None or self.cursor is None:
            return ""
        data, _ = self.document.read(self.cursor, _COPY_BYTES)
        before = self.document.read_before(self.cursor, SECRET_BYTES)
        text = self._redact((before + data).decode("utf-8", "replace"))
        return text[len(self._redact(before.decode("utf-8", "replace"))) :] if before else text

    # Drawing

    def draw(self) -> None:
        """Read and draw the visible lines; the cost does not depend on the document's size."""
        rows: list[_Row] = []
        cursor = self._drawn_cursor
        if self.document and self.size.height:
            self._place_cursor(self.document)
            shown = self._shown_from(self._top)
            if self.cursor and self.cursor not in shown:
                above = self._top is None or self.cursor < self._top
                self._top = self.cursor if above else self._step_back(self.cursor, self.size.height - 1)
                shown = self._shown_from(self._top)
            rows = [row for position in shown for row in self._rows_of(position)][: self.size.height]
        self._rows, before = rows, self._rows
        self._drawn_cursor = self.cursor
        if self.document:
            self._move_bar(self.document)
        self._refresh_rows(before, cursor)
        self.post_message(self.Moved(self))

    def _refresh_rows(self, before: list[_Row], cursor: Position | None) -> None:
        """Repaint only the rows that changed, or that have or had the cursor."""
        for y, (old, new) in enumerate(zip_longest(before, self._rows)):
            had, has = (row is not None and row.position == at for row, at in ((old, cursor), (new, self.cursor)))
            if old != new or had != has:
                self.refresh(Region(0, y, self.size.width, 1))

    def _place_cursor(self, document: Document) -> None:
        """Move cursor and top to existing lines; the old ones may have been truncated or filtered out."""
        last = document.last(self._places)
        if last is None:
            self.cursor = self._top = None
        elif self.follow or self.anchor_position is None:
            self.cursor = self.anchor_position = last
            self._top = self._step_back(last, self.size.height - 1)
        else:
            # Read this first: the scan may advance meanwhile.
            is_known = document.knows(self.anchor_position.just_after, -1, self._places)
            self.cursor = self._nearest(document, self.anchor_position) or last
            self._top = self._nearest(document, self._top or self.cursor) or self.cursor
            if is_known:
                self.anchor_position = self.cursor

    def _nearest(self, document: Document, position: Position) -> Position | None:
        if position.offset >= 0 and (before := document.previous(position.just_after, self._places)):
            return before
        exists = any(segment.serial == position.segment and segment.notice for segment in document.segments)
        if position.offset == NOTICE and exists:
            return position
        return document.next(position, self._places)

    def _shown_from(self, position: Position | None) -> list[Position]:
        """Return the lines that are visible if `position` is the first."""
        shown: list[Position] = []
        left = self.size.height
        while self.document and position and left > 0:
            shown.append(position)
            left -= self._height_of(position)
            position = self.document.next(position, self._places)
        return shown

    def _step_back(self, position: Position, rows: int) -> Position:
        """Return the line `rows` rows further up."""
        rows -= self._height_of(position) - 1
        while rows > 0 and self.document and (before := self.document.previous(position, self._places)):
            rows -= self._height_of(before)
            if rows < 0:
                break
            position = before
        return position

    def _height_of(self, position: Position) -> int:
        return len(self._rows_of(position)) if self.wrap else 1

    @property
    def _text_width(self) -> int:
        return max(self.size.width - _GUTTER - 1, 1)

    def _line(self, position: Position) -> ShownLine:
        assert self.document is not None
        data, size_bytes = self.document.read(position, MAX_CHARS + SECRET_BYTES)
        if position.offset == NOTICE:
            return notice_line(data.decode())
        before = self.document.read_before(position, SECRET_BYTES)
        return shown_line(data, size_bytes, before, self._redact, compact=self.size.width < _COMPACT_BELOW)

    def _rows_of(self, position: Position) -> list[_Row]:
        line, width = self._line(position), self._text_width
        marked = spans(line.text, self.terms)
        if self.wrap:
            parts = self._wrapped(line, marked, width)
        elif line.text.isascii():
            # ASCII characters are one cell wide, so only the visible part is created.
            parts = [self._pieces(line, marked, self._left, self._left + width)]
        else:
            parts = [list(Strip(self._pieces(line, marked, 0, len(line.text))).crop(self._left, self._left + width))]
        glyph, tone = GLYPHS.get(line.level, (" ", ""))
        gutter = Piece(f"{glyph} ", self._tone(tone) if tone else None)
        chars = len(line.text)
        return [
            _Row(position, (gutter if number == 0 else Piece("  "), *part), chars) for number, part in enumerate(parts)
        ]

    def _wrapped(self, line: ShownLine, marked: list[tuple[int, int]], width: int) -> list[list[Piece]]:
        parts = chop_cells(line.text, width) or [""]
        most = max(self.size.height - 2, 1)
        rows, at = [], 0
        for part in parts[:most]:
            rows.append(self._pieces(line, marked, at, at + len(part)))
            at += len(part)
        if len(parts) > most:
            rest = f"… {len(line.text) - at:,} more characters: unwrap with w, then scroll right"
            rows.append([Piece(rest[:width], self._tone("quiet"))])
        return rows

    def _pieces(self, line: ShownLine, marked: list[tuple[int, int]], start: int, stop: int) -> list[Piece]:
        """Return the styled characters `start` to `stop` of a line."""
        stop = min(stop, len(line.text))
        tone = "busy" if line.is_notice else GLYPHS.get(line.level, ("", "quiet" if line.is_continued else ""))[1]
        body = self._tone(tone) if tone else None
        edges = {start, stop, line.stamp_chars, *(edge for span in marked for edge in span)}
        cuts = sorted(edge for edge in edges if start <= edge <= stop)
        pieces = []
        for at, end in pairwise(cuts):
            style = self._tone("quiet") if end <= line.stamp_chars else body
            if any(first <= at < last for first, last in marked):
                style = (style or Style.null()) + self._style("log--match")
            pieces.append(Piece(line.text[at:end], style))
        return pieces

    def _tone(self, tone: str) -> Style:
        # Not the partial style, which makes a translucent colour opaque.
        style = self.get_component_rich_style(f"tone--{tone}")
        return Style.from_color(style.color)

    def _style(self, name: str) -> Style:
        return self.get_component_rich_style(name, partial=True)

    def render_lines(self, crop: Region) -> list[Strip]:
        # Resolved once for all lines: it is the most expensive part of a line.
        self._base = self.rich_style
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        width, base = self.size.width, self._base or self.rich_style
        if y >= len(self._rows):
            return Strip.blank(width, base)
        row = self._rows[y]
        if row.position == self.cursor:
            base += self._style("log--cursor")
        length = sum(piece.cell_length for piece in row.pieces)
        pieces = [*row.pieces, Piece(" " * (width - length))]
        return Strip(Piece.apply_style(pieces, base), max(width, length)).crop(0, width)

    # The bar, the mouse, the size

    def _move_bar(self, document: Document) -> None:
        lines = max(document.size_bytes // _TYPICAL_LINE_BYTES, len(self._rows))
        self._bar.window_virtual_size, self._bar.window_size = lines, len(self._rows)
        before = sum(segment.size for segment in document.segments if self._top and segment.serial < self._top.segment)
        at = (before + max(self._top.offset, 0) if self._top else 0) // _TYPICAL_LINE_BYTES
        at_end = bool(self._rows) and self._rows[-1].position == document.last(self._places)
        self._bar.position = lines - len(self._rows) if at_end else at

    def go_to_share(self, typical_lines: float) -> None:
        """Go to the position that the scroll bar was dragged to."""
        if self.document is None:
            return
        offset = max(int(typical_lines * _TYPICAL_LINE_BYTES), 0)
        at_end = typical_lines >= self._bar.window_virtual_size - self._bar.window_size
        for segment in () if at_end else self.document.segments:
            if offset < segment.size:
                self._top = Position(segment.serial, line_start(segment.file, offset))
                self._move_cursor_to(self._top)
                return
            offset -= segment.size
        self.go_to_end()

    def scroll_rows(self, lines: int) -> None:
        """Scroll the view; the cursor moves only to stay visible."""
        if self.document is None or self._top is None:
            return
        step = self.document.next if lines > 0 else self.document.previous
        if lines > 0 and self._rows and self._rows[-1].position == self.document.last(self._places):
            return
        for _ in range(abs(lines)):
            self._top = step(self._top, self._places) or self._top
        shown = self._shown_from(self._top)
        self._move_cursor_to(min(max(self.cursor, shown[0]), shown[-1]) if shown and self.cursor else self.cursor)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.scroll_rows(_WHEEL)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.scroll_rows(-_WHEEL)

    def on_click(self, event: events.Click) -> None:
        if event.y < len(self._rows):
            self._move_cursor_to(self._rows[event.y].position)

    def notify_style_update(self) -> None:
        """Redraw in the colours of the new theme."""
        super().notify_style_update()
        self.call_later(self.draw)

    @on(events.Resize)
    def _on_resized(self) -> None:
        self.draw()


class _Bar(ScrollBar):
    """A scroll bar in bytes, because lines may not be counted yet."""

    def __init__(self, view: LogView) -> None:
        super().__init__(vertical=True)
        self._view = view

    def _on_scroll_to(self, message: ScrollTo) -> None:
        message.stop().prevent_default()
        if message.y is not None:
            self._view.go_to_share(message.y)

    def _on_scroll_up(self, message: ScrollUp) -> None:
        message.stop().prevent_default()
        self._view.action_page(-1)

    def _on_scroll_down(self, message: ScrollDown) -> None:
        message.stop().prevent_default()
        self._view.action_page(1)
