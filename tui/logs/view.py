"""The lines of a document: only those in view are ever read, wherever in it they are."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import chop_cells
from rich.segment import Segment as Piece
from rich.style import Style
from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.message import Message
from textual.scrollbar import ScrollBar, ScrollDown, ScrollTo, ScrollUp
from textual.strip import Strip
from textual.widget import Widget

from ops.redact import Redactor
from tui.logs.document import NOTICE, AllPlaces, Document, Places, Position
from tui.logs.follow import Segment
from tui.logs.lines import line_start
from tui.logs.match import Term
from tui.logs.paint import GLYPHS, MOST_CHARS, SECRET_BYTES, ShownLine, notice_line, shown_line, spans
from tui.tones import TONE_CLASSES

_COMPACT_BELOW = 110
_GUTTER = 2
_WHEEL = 3
_TYPICAL_LINE_BYTES = 100
_COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class _Row:
    position: Position
    strip: Strip
    line_chars: int


class LogView(Widget, can_focus=True):
    """A cursor over the lines of a document that `places` lets through; follows its end when asked to."""

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
        """Another part of the log is in view, or the cursor is on another line."""

        view: "LogView"

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, LogView.Moved)

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.document: Document | None = None
        self.cursor: Position | None = None
        self.follow = True
        self.wrap = False
        self.terms: tuple[Term, ...] = ()
        """The texts that are marked where they stand."""
        self._places: Callable[[Segment], Places | None] = AllPlaces
        self._redact = Redactor.from_environ()
        self._top: Position | None = None
        self._left = 0
        self._rows: list[_Row] = []
        self._bar = _Bar(self)

    def compose(self) -> ComposeResult:
        yield self._bar

    def show(self, document: Document | None) -> None:
        """Show another document, from its end."""
        self.document = document
        self._places, self.terms, self.follow, self._left = AllPlaces, (), True, 0
        self.cursor = self._top = None
        self.draw()

    def see(self, places: Callable[[Segment], Places | None]) -> None:
        """Show the lines of these places only; the cursor stays, or goes to the nearest line before."""
        self._places = places
        self.draw()

    # Going somewhere

    def go(self, position: Position) -> None:
        """Put the cursor on a line, in the middle of the view when it was out of it."""
        self.follow = False
        if position not in {row.position for row in self._rows}:
            self._top = self._back(position, self.size.height // 2)
        self.cursor = position
        self.draw()

    def go_to_end(self) -> None:
        """Put the cursor on the last line, and stay on whatever becomes the last one."""
        self.follow = True
        self.draw()

    def go_to_start(self) -> None:
        if self.document and (first := self.document.first(self._places)):
            self.go(first)

    def action_move(self, lines: int) -> None:
        if self.document is None or self.cursor is None:
            return
        self.follow = False
        step = self.document.next if lines > 0 else self.document.previous
        for _ in range(abs(lines)):
            position = step(self.cursor, self._places)
            if position is None:
                break
            self.cursor = position
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
        """The whole line under the cursor, without secrets, at most a mebibyte of it."""
        if self.document is None or self.cursor is None:
            return ""
        data, _ = self.document.read(self.cursor, _COPY_BYTES)
        before = self.document.before_part(self.cursor, SECRET_BYTES)
        text = self._redact((before + data).decode("utf-8", "replace"))
        return text[len(self._redact(before.decode("utf-8", "replace"))) :] if before else text

    # Drawing

    def draw(self) -> None:
        """Read what is to be seen and draw it; costs what is in view, whatever the document's size."""
        self._rows = []
        if self.document and self.size.height:
            self._settle(self.document)
            self._rows = self._rows_from(self._top)
            if self.cursor and self.cursor not in {row.position for row in self._rows}:
                self._bring_cursor_in()
            self._move_bar(self.document)
        self.refresh()
        self.post_message(self.Moved(self))

    def _settle(self, document: Document) -> None:
        """Have a cursor and a top that exist; what was there may have been truncated, or not match."""
        last = document.last(self._places)
        if last is None:
            self.cursor = self._top = None
        elif self.follow or self.cursor is None:
            self.cursor, self._top = last, self._back(last, self.size.height - 1)
        else:
            self.cursor = self._nearest(document, self.cursor) or last
            self._top = self._nearest(document, self._top or self.cursor) or self.cursor

    def _nearest(self, document: Document, position: Position) -> Position | None:
        after = Position(position.segment, position.offset + 1)
        if position.offset >= 0 and (before := document.previous(after, self._places)):
            return before
        exists = any(segment.serial == position.segment and segment.notice for segment in document.segments)
        if position.offset == NOTICE and exists:
            return position
        return document.next(position, self._places)

    def _bring_cursor_in(self) -> None:
        assert self.cursor is not None
        above = self._top is None or self.cursor < self._top
        self._top = self.cursor if above else self._back(self.cursor, self.size.height - 1)
        self._rows = self._rows_from(self._top)

    def _rows_from(self, position: Position | None) -> list[_Row]:
        rows: list[_Row] = []
        while position and len(rows) < self.size.height:
            rows.extend(self._rows_of(position))
            position = self.document.next(position, self._places) if self.document else None
        return rows[: self.size.height]

    def _back(self, position: Position, rows: int) -> Position:
        """The line that is so many rows further up."""
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
        data, size_bytes = self.document.read(position, MOST_CHARS + SECRET_BYTES)
        if position.offset == NOTICE:
            return notice_line(data.decode())
        before = self.document.before_part(position, SECRET_BYTES)
        return shown_line(data, size_bytes, before, self._redact, compact=self.size.width < _COMPACT_BELOW)

    def _rows_of(self, position: Position) -> list[_Row]:
        line, width = self._line(position), self._text_width
        text = self._styled(line)
        glyph, tone = GLYPHS.get(line.level, (" ", ""))
        gutter = Piece(f"{glyph} ", self._tone(tone) if tone else None)
        if not self.wrap:
            # Of long lines only the part in view is made into a strip: its cells need no counting then.
            plain = line.text.isascii()
            shown = text[self._left : self._left + width] if plain else text
            strip = Strip(shown.render(self.app.console))
            strips = [strip if plain else strip.crop(self._left, self._left + width)]
        else:
            strips = self._wrapped(text, width)
        gutters = [gutter, *[Piece("  ")] * (len(strips) - 1)]
        return [
            _Row(position, Strip([before, *strip]), len(line.text))
            for before, strip in zip(gutters, strips, strict=True)
        ]

    def _wrapped(self, text: Text, width: int) -> list[Strip]:
        parts = chop_cells(text.plain, width) or [""]
        most = max(self.size.height - 2, 1)
        strips, at = [], 0
        for part in parts[:most]:
            strips.append(Strip(text[at : at + len(part)].render(self.app.console)) if part else Strip([]))
            at += len(part)
        if len(parts) > most:
            rest = f"… {len(text.plain) - at:,} more characters: unwrap, and go right"
            strips.append(Strip([Piece(rest[:width], self._tone("quiet"))]))
        return strips

    def _styled(self, line: ShownLine) -> Text:
        text = Text(line.text, end="", no_wrap=True)
        tone = GLYPHS.get(line.level, ("", ""))[1]
        if line.is_notice:
            text.stylize(self._tone("busy"))
        elif tone or line.is_continued:
            text.stylize(self._tone(tone or "quiet"))
        text.stylize(self._tone("quiet"), 0, line.stamp_chars)
        for start, end in spans(line.text, self.terms):
            text.stylize(self._style("log--match"), start, end)
        return text

    def _tone(self, tone: str) -> Style:
        # Not the partial style: of a translucent colour that would be the opaque one.
        style = self.get_component_rich_style(f"tone--{tone}")
        return Style(color=style.color, bold=style.bold)

    def _style(self, name: str) -> Style:
        return self.get_component_rich_style(name, partial=True)

    def render_line(self, y: int) -> Strip:
        width, base = self.size.width, self.rich_style
        if y >= len(self._rows):
            return Strip.blank(width, base)
        row = self._rows[y]
        if row.position == self.cursor:
            base += self._style("log--cursor")
        return row.strip.adjust_cell_length(width).apply_style(base)

    # The bar, the mouse, the size

    def _move_bar(self, document: Document) -> None:
        lines = max(document.size_bytes // _TYPICAL_LINE_BYTES, len(self._rows))
        self._bar.window_virtual_size, self._bar.window_size = lines, len(self._rows)
        before = sum(segment.size for segment in document.segments if self._top and segment.serial < self._top.segment)
        at = (before + max(self._top.offset, 0) if self._top else 0) // _TYPICAL_LINE_BYTES
        at_end = bool(self._rows) and self._rows[-1].position == document.last(self._places)
        self._bar.position = lines - len(self._rows) if at_end else at

    def go_to_share(self, typical_lines: float) -> None:
        """Go to where the bar was dragged to."""
        if self.document is None:
            return
        offset = max(int(typical_lines * _TYPICAL_LINE_BYTES), 0)
        for segment in self.document.segments:
            if offset < segment.size:
                start = Position(segment.serial, line_start(segment.file, offset))
                self._top = self.cursor = self._nearest(self.document, start)
                self.follow = False
                self.draw()
                return
            offset -= segment.size
        self.go_to_end()

    def scroll_rows(self, lines: int) -> None:
        """Move the view, and the cursor only as far as it would leave it."""
        if self.document is None or self._top is None:
            return
        step = self.document.next if lines > 0 else self.document.previous
        if lines > 0 and self._rows and self._rows[-1].position == self.document.last(self._places):
            return
        self.follow = False
        for _ in range(abs(lines)):
            self._top = step(self._top, self._places) or self._top
        shown = [row.position for row in self._rows_from(self._top)]
        if shown and self.cursor:
            self.cursor = min(max(self.cursor, shown[0]), shown[-1])
        self.draw()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.scroll_rows(_WHEEL)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.scroll_rows(-_WHEEL)

    def on_click(self, event: events.Click) -> None:
        if event.y < len(self._rows):
            self.follow = False
            self.cursor = self._rows[event.y].position
            self.draw()

    @on(events.Resize)
    def _resized(self) -> None:
        self.draw()


class _Bar(ScrollBar):
    """A scroll bar over bytes, not over lines: those nobody has counted yet."""

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
