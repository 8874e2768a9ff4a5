"""The Logs screen: lists all logs; follows, searches and filters one."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Static

from ops.host.formatting import ago_text
from tui.logs.document import Document, Position
from tui.logs.question import PromptLine
from tui.logs.reading import Reading
from tui.logs.sources import JOURNAL_KEY, Source, create_source, sources
from tui.logs.systemd import SystemJournal
from tui.logs.times import parse_time, time_of
from tui.logs.view import LogView
from tui.shell.actions import ActionSpec
from tui.shell.context import ConsoleContext
from tui.shell.messages import Navigation, OpenLog, OpenRun
from tui.shell.polled import PolledPane
from tui.widgets.formatting import TONES
from tui.widgets.log_match import LEVELS, LineFilter, Term
from tui.widgets.panel import Failure, Found, Part, attempt
from tui.widgets.table import Cell, Column, Row, Table

if TYPE_CHECKING:
    from tui.widgets.source import Place

_RUN = re.compile(r"(?<!\S)run=(\d{1,18})(?!\S)")
_LEVEL_STEPS = ("", *LEVELS[1:4])
_DRAW_S = 0.1
_EVENT_LINES = 200
_LINE_BYTES = 4 << 10
_NO_LOG = Cell("? no logs yet\n  next: materia run-all", "quiet")


class LogsPane(PolledPane):
    """The list of logs beside the open log."""

    PANE_ID = "logs"
    POLL_S = 5.0

    class LogChanged(Message):
        """The log has grown, or its index or scan has advanced."""

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, LogsPane.LogChanged)

    _COLUMNS: ClassVar = (Column(""), Column("log", flexible=True), Column("when", right=True, rank=1))

    def __init__(self, context: ConsoleContext) -> None:
        super().__init__(context)
        self._sources: dict[str, Source] = {}
        self._source: Source | None = None
        self._system: SystemJournal | None = None
        self._reading: Reading | None = None
        self._target_line: int | None = None
        self._from_run: int | None = None
        """The run from which the log was opened; Escape returns to it."""
        self._drawing: Timer | None = None

    @classmethod
    def actions(cls) -> tuple[ActionSpec, ...]:
        return (
            ActionSpec("logs.search", "slash", "find", "Search for a text or a /regular expression/"),
            ActionSpec("logs.next", "n", "next", "Go to the next match", show=False),
            ActionSpec("logs.previous", "N", "previous", "Go to the previous match", show=False),
            ActionSpec("logs.hide", "ampersand", "filter", "Show only lines with a text or a /regular expression/"),
            ActionSpec("logs.level", "m", "level", "Switch the minimum level: INFO, WARNING, ERROR, all"),
            ActionSpec("logs.sources", "b", "list", "Show or hide the list of logs"),
            ActionSpec("logs.source", "c", "source", "Open the SQL or Python source of this line"),
            ActionSpec("logs.run_only", "equals_sign", "same", "Show only the run of this line, or all runs"),
            ActionSpec("logs.time", "t", "time", "Go to a time"),
            ActionSpec("logs.line", "colon", "line", "Go to a line number", show=False),
            ActionSpec("logs.follow", "F", "follow", "Start or stop following the end of the log"),
            ActionSpec("logs.start", "home,g", "start", "Go to the first line", show=False),
            ActionSpec("logs.end", "end,G", "end", "Go to the last line and follow", show=False),
            ActionSpec("logs.wrap", "z", "wrap", "Wrap or cut long lines"),
            ActionSpec("logs.copy", "y", "copy", "Copy this line, secrets redacted, to the clipboard (OSC 52)"),
            ActionSpec("logs.open_run", "enter", "open", "Go to the run of this line", show=False),
            ActionSpec("logs.clear", "escape", "back", "Clear the search, return to the run, or clear the filter"),
        )

    def compose(self) -> ComposeResult:
        with Vertical(id="logs-sources"):
            yield Table(self._COLUMNS, empty="", id="logs-list")
        with Vertical(id="logs-reading"):
            yield Static(id="logs-facts", markup=False)
            yield LogView(id="logs-view")
            yield PromptLine()

    def on_mount(self) -> None:
        self._draw_reading()

    def on_unmount(self) -> None:
        self._close()

    # The list of logs

    def look(self) -> Part[tuple[Source, ...]]:
        return attempt(lambda: sources(self.context.settings))

    def draw(self, snapshot: Part[tuple[Source, ...]]) -> None:
        if isinstance(snapshot, Failure):
            self._table.show([], empty=f"✗ {snapshot.what}\n  next: {snapshot.next_step}")
            return
        assert isinstance(snapshot, Found)
        self._sources = {source.key: source for source in snapshot.value}
        now = self.context.clock()
        rows = [_row(source, now) for source in snapshot.value]
        self._table.show(rows, empty=_NO_LOG)
        if self._source is None and snapshot.value:
            # Prefer a file: the system journal is empty if systemd does not run the supervisor.
            self._open(next((source for source in snapshot.value if source.path), snapshot.value[0]))

    @on(Table.Opened)
    def _on_chosen(self, message: Table.Opened) -> None:
        message.stop()
        if message.key in self._sources:
            self._open(self._sources[message.key])
            self._focus_log()

    async def receive(self, message: Navigation) -> None:
        if isinstance(message, OpenLog):
            known = self._sources.get(str(message.path))
            self._open(known or create_source(message.path))
            if message.run_id is not None and message.path.name != f"run-{message.run_id}.log":
                self._filter(LineFilter(run_id=message.run_id))
            if message.at_line is not None and self._reading:
                self._go_to_line(self._reading, message.at_line)
            self._from_run = message.run_id
            self._focus_log()

    def _focus_log(self) -> None:
        self._hide_list_if_narrow()
        self._view.focus()

    def _hide_list_if_narrow(self) -> None:
        """Show the log instead of the list if there is no room for both."""
        self.remove_class("-with-sources")

    def _open(self, source: Source) -> None:
        self._close()
        self._from_run = None
        path = source.path
        if source.key == JOURNAL_KEY:
            self._system = SystemJournal()
            path = self._system.path
        assert path is not None
        self._source, self._target_line = source, None
        self._reading = Reading(Document(path, self._post_change), self._post_change)
        # The pane may have been hidden before the list arrived.
        self._reading.document.pause(not self._in_view)
        self._view.show(self._reading.document)
        self._draw_reading()

    def _close(self) -> None:
        if self._reading is not None:
            self._reading.close()
        if self._system is not None:
            self._system.close()
        self._reading = self._system = None

    def on_show_pane(self) -> None:
        super().on_show_pane()
        if self._reading:
            self._reading.document.pause(False)

    def on_hide_pane(self) -> None:
        super().on_hide_pane()
        if self._reading:
            self._reading.document.pause(True)

    # The open log

    @property
    def _view(self) -> LogView:
        return self.query_one("#logs-view", LogView)

    @property
    def _table(self) -> Table:
        return self.query_one("#logs-list", Table)

    @property
    def _line(self) -> PromptLine:
        return self.query_one(PromptLine)

    def _post_change(self) -> None:
        """Post LogChanged; called from threads, up to a thousand times a second."""
        # A scheduled draw has not read anything yet, so it includes this change.
        if self._drawing is None:
            self.post_message(self.LogChanged())

    @on(LogChanged)
    def _on_log_changed(self) -> None:
        """Schedule a draw, at most ten per second however fast the log grows."""
        if self._drawing is None:
            # Not `set_timer`: if its start is delayed longer than its interval, it never fires.
            self._drawing = self.set_interval(_DRAW_S, self._draw_changes)

    def _draw_changes(self) -> None:
        if self._drawing is not None:
            self._drawing.stop()
            self._drawing = None
        if self._reading is None:
            return
        self._reading.scan_new_lines()
        self._go_to_target_line(self._reading.document)
        if (found := self._reading.resolve_match()) is not None:
            self._view.go(found)
        else:
            self._view.draw()

    @on(LogView.Moved)
    def _moved(self, message: LogView.Moved) -> None:
        message.stop()
        self._draw_reading()
        self.post_message(self.ActionsChanged())

    def _draw_reading(self) -> None:
        facts = self.query_one("#logs-facts", Static)
        if self._reading is None or self._source is None:
            facts.update("no logs yet · next: materia run-all")
            return
        facts.set_class(bool(self._reading.document.error), "-error")
        # Always one line high, so no new layout is needed.
        facts.update(self._reading.facts(self._source.title, self._view.cursor, self._view.follow), layout=False)
        self._line.say(self._reading.filter_facts(self._view.cursor))

    # Prompts

    def action_search(self) -> None:
        self._ask("search")

    def action_hide(self) -> None:
        self._ask("hide")

    def action_time(self) -> None:
        self._ask("time")

    def action_line(self) -> None:
        self._ask("line")

    def _ask(self, question: str) -> None:
        self._hide_list_if_narrow()
        self._line.ask(question)

    @on(PromptLine.Answered)
    def _on_answered(self, message: PromptLine.Answered) -> None:
        message.stop()
        if self._reading is None:
            self.notify("no log is open", severity="warning")
            return
        try:
            go_on = getattr(self, f"_answer_{message.question}")(self._reading, message.text)
        except ValueError as error:
            self.notify(str(error), severity="warning")
        else:
            # Keys after the answer in the same packet are meant for its result.
            self._holds_keys = True
            self.drawn.clear()
            self._line.leave(self._view, partial(self._run_answer, self._reading, go_on))

    def _run_answer(self, asked: Reading, then: Callable[[], None]) -> None:
        if self._reading is asked:
            then()
        self._holds_keys = False
        self.drawn.set()

    # Each returns the action for an answer, or raises ValueError for an invalid one.

    def _answer_search(self, reading: Reading, text: str) -> Callable[[], None]:
        return partial(self._search, _parse_term(text) if text else None)

    def _answer_hide(self, reading: Reading, text: str) -> Callable[[], None]:
        return partial(self._filter, replace(reading.line_filter, terms=(_parse_term(text),) if text else ()))

    def _answer_run_only(self, reading: Reading, text: str) -> Callable[[], None]:
        if text and not text.isdecimal():
            raise ValueError(f"{text!r} is not a run number")
        return partial(self._filter, replace(reading.line_filter, run_id=int(text) if text else None))

    def _answer_time(self, reading: Reading, text: str) -> Callable[[], None]:
        position = reading.document.at_time(parse_time(text, self._newest_time()))
        if position is None:
            raise ValueError("the log is empty")
        return partial(self._go, position)

    def _answer_line(self, reading: Reading, text: str) -> Callable[[], None]:
        if not text.isdecimal() or int(text) < 1:
            raise ValueError(f"{text!r} is not a line number")
        count = reading.document.line_count
        if count is not None and int(text) > count:
            raise ValueError(f"the log has only {count:,} lines")
        return partial(self._go_to_line, reading, int(text))

    def _go_to_line(self, reading: Reading, number: int) -> None:
        self._cancel_jump()
        self._target_line = number
        self._go_to_target_line(reading.document)

    def _go_to_target_line(self, document: Document) -> None:
        """Go to the target line if there is one and its position is known."""
        if self._target_line is None:
            return
        # Read this first: the index may advance meanwhile.
        count = document.line_count
        if position := document.at_line(self._target_line):
            self._target_line = None
            self._view.go(position)
        elif count is not None:
            self._target_line = None
            self.notify(f"the log has only {count:,} lines", severity="warning")

    def _go(self, position: Position) -> None:
        self._cancel_jump()
        self._view.go(position)

    def _cancel_jump(self) -> None:
        """Cancel pending jumps to a line or a match, because the user went elsewhere."""
        self._target_line = None
        if self._reading:
            self._reading.cancel_match()

    def _newest_time(self) -> datetime:
        """Return the time of the last line with a timestamp among the last 50, else now."""
        reading = self._reading
        position = reading.document.last() if reading else None
        for _ in range(50):
            if reading is None or position is None:
                break
            moment = time_of(reading.document.read(position, 64)[0])
            if moment is not None:
                return datetime.fromtimestamp(moment, UTC)
            position = reading.document.previous(position, reading.all_places)
        return self.context.clock()

    # Filter and search

    def _search(self, term: Term | None) -> None:
        if self._reading:
            self._target_line = None
            self._reading.search(term, self._view.anchor_position or self._reading.document.last())
            self._view.terms = self._reading.marked
            self._view.draw()

    def _filter(self, line_filter: LineFilter) -> None:
        if self._reading is None:
            return
        self._reading.hide(line_filter)
        self._view.terms = self._reading.marked
        self._view.see(self._reading.places)

    def action_level(self) -> None:
        if self._reading:
            line_filter = self._reading.line_filter
            step = (_LEVEL_STEPS.index(line_filter.level) + 1) % len(_LEVEL_STEPS)
            self._filter(replace(line_filter, level=_LEVEL_STEPS[step]))

    def action_run_only(self) -> None:
        if self._reading is None:
            return
        run_id = self._find_run_id()
        if self._reading.line_filter.run_id is not None:
            self._filter(replace(self._reading.line_filter, run_id=None))
        elif run_id is not None:
            self._filter(replace(self._reading.line_filter, run_id=run_id))
        else:
            self._ask("run_only")

    def action_next(self) -> None:
        self._to_match(1)

    def action_previous(self) -> None:
        self._to_match(-1)

    def _to_match(self, direction: int) -> None:
        if self._reading is None or self._reading.search_term is None:
            self.notify("no search; press / to search", severity="warning")
            return
        cursor = self._view.anchor_position
        if self._reading.is_match_pending or not self._reading.is_match_known(cursor, direction):
            self._reading.request_match(cursor, direction)
        elif position := self._reading.match_from(cursor, direction):
            self._view.go(position)
        else:
            self.notify(f"no match further {'down' if direction > 0 else 'up'}")

    def action_clear(self) -> None:
        if self._line.is_asking:
            self._line.leave(self._view, lambda: None)
        elif self._reading and self._reading.search_term is not None:
            self._search(None)
        elif self._reading and self._reading.line_filter and self._from_run is None:
            self._filter(LineFilter())
        elif self._from_run is not None:
            self.post_message(OpenRun(self._from_run))

    def has_use(self, verb: str) -> bool:
        reading = self._reading
        if verb == "sources":
            return True
        if reading is None:
            return False
        match verb:
            case "clear":
                is_narrowed = reading.search_term is not None or bool(reading.line_filter)
                return self._line.is_asking or is_narrowed or self._from_run is not None
            case "run_only":
                return reading.line_filter.run_id is not None or self._find_run_id() is not None
            case "source":
                return self._find_place() is not None
            case "copy":
                return bool(self._view.copied_line())
        return True

    # The view

    def action_follow(self) -> None:
        if self._view.follow:
            self._view.follow = False
            self._view.draw()
        else:
            self.action_end()

    def action_start(self) -> None:
        self._cancel_jump()
        self._view.go_to_start()

    def action_end(self) -> None:
        self._cancel_jump()
        self._view.go_to_end()

    def action_wrap(self) -> None:
        self._view.wrap = not self._view.wrap
        self._view.draw()

    def action_copy(self) -> None:
        if line := self._view.copied_line():
            self.app.copy_to_clipboard(line)
            self.notify("copied the line to the clipboard")

    def action_sources(self) -> None:
        """Show or hide the list: beside the log if there is room, else in its place."""
        shown = self._table.region.width > 0
        self.set_class(not shown, "-with-sources")
        self.set_class(shown, "-without-sources")
        (self._view if shown else self._table).focus()

    def action_open_run(self) -> None:
        run_id = self._find_run_id()
        if run_id is None:
            self.notify("this line contains no run")
        else:
            self.post_message(OpenRun(run_id))

    def _find_place(self) -> "Place | None":
        """Return the source that the event under the cursor names."""
        from tui.widgets.source import find_place

        up, down = self._event(-1), self._event(1)
        # A traceback ends with the innermost call: from its head take the last place, from within it the nearest.
        places = [*filter(None, map(find_place, up)), *reversed([*filter(None, map(find_place, down))])]
        return places[0] if places else None

    def action_source(self) -> None:
        from tui.widgets.source import SourceScreen

        place = self._find_place()
        if place is None:
            self.notify("this line contains no model, step or project file")
        else:
            self.app.push_screen(SourceScreen(place))

    def _event(self, direction: int) -> Iterator[str]:
        """Yield the line under the cursor and the other lines of its event, up to its head or down to its end."""
        if self._reading is None:
            return
        document, position = self._reading.document, self._view.cursor
        step = document.next if direction > 0 else document.previous
        for number in range(_EVENT_LINES):
            data = document.read(position, _LINE_BYTES)[0] if position else b""
            is_head = not data.startswith((b" ", b"\t"))
            if position is None or (is_head and number and direction > 0):
                return
            yield data.decode("utf-8", "replace")
            if is_head and direction < 0:
                return
            position = step(position, self._reading.all_places)

    def _find_run_id(self) -> int | None:
        found = _RUN.search(self._view.copied_line())
        return int(found[1]) if found else None


def _parse_term(text: str) -> Term:
    if len(text) > 2 and text.startswith("/") and text.endswith("/"):
        return Term(text[1:-1], is_regex=True)
    return Term(text)


def _row(source: Source, now: datetime) -> Row:
    glyph, tone = TONES[source.status] if source.status else (" ", "")
    when = ago_text(source.at, now) if source.at else ""
    exact = f"{source.at:%Y-%m-%d %H:%M:%S} UTC" if source.at else ""
    return Row(source.key, (Cell(glyph, tone), Cell(source.title), Cell(when, "quiet")), exact)
