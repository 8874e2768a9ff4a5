"""The screen Logs: every log there is, followed, searched, and rid of what doesn't matter now."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Static

from ops.host.formatting import ago_text
from tui.logs.document import Document, Position
from tui.logs.question import QuestionLine
from tui.logs.reading import Reading
from tui.logs.sources import JOURNAL_KEY, Source, source_of, sources
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

_RUN = re.compile(r"(?<!\S)run=(\d{1,18})(?!\S)")
_LEVEL_STEPS = ("", *LEVELS[1:4])
_DRAW_S = 0.1
_EVENT_LINES = 200
_LINE_BYTES = 4 << 10
_NO_LOG = Cell("? no log yet\n  next: materia run-all", "quiet")


class LogsPane(PolledPane):
    """The sources beside the log that is read."""

    PANE_ID = "logs"
    TITLE = "Logs"
    KEY = "5"
    POLL_S = 5.0

    class Stirred(Message):
        """The log has grown, is further indexed or looked through."""

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, LogsPane.Stirred)

    _COLUMNS: ClassVar = (Column(""), Column("log", flexible=True), Column("when", right=True, rank=1))

    def __init__(self, context: ConsoleContext) -> None:
        super().__init__(context)
        self._sources: dict[str, Source] = {}
        self._source: Source | None = None
        self._system: SystemJournal | None = None
        self._reading: Reading | None = None
        self._wanted_line: int | None = None
        self._drawing: Timer | None = None

    def actions(self) -> tuple[ActionSpec, ...]:
        return (
            ActionSpec("logs.search", "slash", "search", "Search for a text or /an expression/"),
            ActionSpec("logs.next", "n", "next", "Go to the next line that was searched for", show=False),
            ActionSpec("logs.previous", "N", "previous", "Go to the line before that was searched for", show=False),
            ActionSpec("logs.hide", "h", "hide", "Hide the lines without a text or /an expression/"),
            ActionSpec("logs.level", "l", "level", "Hide what is below a level: INFO, WARNING, ERROR, nothing"),
            ActionSpec("logs.sources", "s", "logs", "Show the list of logs, or hide it"),
            ActionSpec("logs.source", "o", "source", "Open the SQL or the Python behind this line"),
            ActionSpec("logs.run_only", "r", "run", "Show only the run of this line, or every run again"),
            ActionSpec("logs.time", "t", "time", "Go to a time"),
            ActionSpec("logs.line", "colon", "line", "Go to the line of a number", show=False),
            ActionSpec("logs.follow", "f", "follow", "Follow the end of the log, or stop following it"),
            ActionSpec("logs.start", "home,g", "start", "Go to the first line", show=False),
            ActionSpec("logs.end", "end,G", "end", "Go to the last line, and follow", show=False),
            ActionSpec("logs.wrap", "w", "wrap", "Wrap long lines, or cut them"),
            ActionSpec("logs.copy", "y", "copy", "Copy this line, without secrets, to the clipboard (OSC 52)"),
            ActionSpec("logs.open_run", "enter", "open run", "Go to the run of this line", show=False),
            ActionSpec("logs.clear", "escape", "clear", "Drop the search, then what is hidden", show=False),
        )

    def compose(self) -> ComposeResult:
        with Vertical(id="logs-sources"):
            yield Table(self._COLUMNS, empty="", id="logs-list")
        with Vertical(id="logs-reading"):
            yield Static(id="logs-facts", markup=False)
            yield LogView(id="logs-view")
            yield QuestionLine()

    def on_mount(self) -> None:
        self._draw_reading()

    def on_unmount(self) -> None:
        self._close()

    # Which logs there are

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
            # The system's journal says nothing of a supervisor that it does not run.
            self._open(next((source for source in snapshot.value if source.path), snapshot.value[0]))

    @on(Table.Opened)
    def _chosen(self, message: Table.Opened) -> None:
        message.stop()
        if message.key in self._sources:
            self._open(self._sources[message.key])
            self._give_keys_to_log()

    async def receive(self, message: Navigation) -> None:
        if isinstance(message, OpenLog):
            known = self._sources.get(str(message.path))
            self._open(known or source_of(message.path))
            if message.run_id is not None and message.path.name != f"run-{message.run_id}.log":
                self._filter(LineFilter(run_id=message.run_id))
            if message.at_line is not None and self._reading:
                self._to_line(self._reading, message.at_line)
            self._give_keys_to_log()

    def _give_keys_to_log(self) -> None:
        self._let_list_give_way()
        self._view.focus()

    def _let_list_give_way(self) -> None:
        """Show the log, where there is no room for both."""
        self.remove_class("-with-sources")

    def _open(self, source: Source) -> None:
        self._close()
        path = source.path
        if source.key == JOURNAL_KEY:
            self._system = SystemJournal()
            path = self._system.path
        assert path is not None
        self._source, self._wanted_line = source, None
        self._reading = Reading(Document(path, self._stir), self._stir)
        # The list may have come after whoever wanted to see it had left.
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

    # What is read now

    @property
    def _view(self) -> LogView:
        return self.query_one("#logs-view", LogView)

    @property
    def _table(self) -> Table:
        return self.query_one("#logs-list", Table)

    @property
    def _line(self) -> QuestionLine:
        return self.query_one(QuestionLine)

    def _stir(self) -> None:
        """Called from threads, up to a thousand times a second."""
        # A draw that is due has not read anything yet: it will see this, too.
        if self._drawing is None:
            self.post_message(self.Stirred())

    @on(Stirred)
    def _stirred(self) -> None:
        """Draw soon: however fast a log grows, ten times a second is as fast as anybody reads."""
        if self._drawing is None:
            # Not `set_timer`: held up while it begins, for longer than it takes, it loses its only tick.
            self._drawing = self.set_interval(_DRAW_S, self._draw_stirred)

    def _draw_stirred(self) -> None:
        if self._drawing is not None:
            self._drawing.stop()
            self._drawing = None
        if self._reading is None:
            return
        self._reading.keep_up()
        self._reach_line(self._reading.document)
        if (found := self._reading.wanted_match()) is not None:
            self._view.go(found)
        else:
            self._view.draw()

    @on(LogView.Moved)
    def _moved(self, message: LogView.Moved) -> None:
        message.stop()
        self._draw_reading()

    def _draw_reading(self) -> None:
        facts = self.query_one("#logs-facts", Static)
        if self._reading is None or self._source is None:
            facts.update("no log yet · next: materia run-all")
            return
        facts.set_class(bool(self._reading.document.trouble), "-trouble")
        # It is one line high whatever it says: nothing needs to be laid out anew.
        facts.update(self._reading.facts(self._source.title, self._view.cursor, self._view.follow), layout=False)
        self._line.say(self._reading.filter_facts(self._view.cursor))

    # Asking

    def action_search(self) -> None:
        self._ask("search")

    def action_hide(self) -> None:
        self._ask("hide")

    def action_time(self) -> None:
        self._ask("time")

    def action_line(self) -> None:
        self._ask("line")

    def _ask(self, question: str) -> None:
        self._let_list_give_way()
        self._line.ask(question)

    @on(QuestionLine.Answered)
    def _answered(self, message: QuestionLine.Answered) -> None:
        message.stop()
        if self._reading is None:
            self.notify("there is no log to ask", severity="warning")
            return
        try:
            go_on = getattr(self, f"_answer_{message.question}")(self._reading, message.text)
        except ValueError as error:
            self.notify(str(error), severity="warning")
        else:
            # The keys after it in the same packet are meant for what the answer leads to.
            self._holds_keys = True
            self.drawn.clear()
            self._line.leave(self._view, partial(self._go_on, self._reading, go_on))

    def _go_on(self, asked: Reading, then: Callable[[], None]) -> None:
        if self._reading is asked:
            then()
        self._holds_keys = False
        self.drawn.set()

    # Each says what is to be done, or raises ValueError for an answer that is none.

    def _answer_search(self, reading: Reading, text: str) -> Callable[[], None]:
        return partial(self._search, _term(text) if text else None)

    def _answer_hide(self, reading: Reading, text: str) -> Callable[[], None]:
        return partial(self._filter, replace(reading.wanted, terms=(_term(text),) if text else ()))

    def _answer_run_only(self, reading: Reading, text: str) -> Callable[[], None]:
        if text and not text.isdecimal():
            raise ValueError(f"{text!r} is not a run's number")
        return partial(self._filter, replace(reading.wanted, run_id=int(text) if text else None))

    def _answer_time(self, reading: Reading, text: str) -> Callable[[], None]:
        position = reading.document.at_time(parse_time(text, self._newest()))
        if position is None:
            raise ValueError("this log is empty")
        return partial(self._go, position)

    def _answer_line(self, reading: Reading, text: str) -> Callable[[], None]:
        if not text.isdecimal() or int(text) < 1:
            raise ValueError(f"{text!r} is not a line's number")
        count = reading.document.line_count
        if count is not None and int(text) > count:
            raise ValueError(f"this log has {count:,} lines")
        return partial(self._to_line, reading, int(text))

    def _to_line(self, reading: Reading, number: int) -> None:
        self._want_nothing()
        self._wanted_line = number
        self._reach_line(reading.document)

    def _reach_line(self, document: Document) -> None:
        """Go to the line that is wanted, if there is one and it is known where it begins."""
        if self._wanted_line is None:
            return
        # Asked first: what is counted after it is for the next time.
        count = document.line_count
        if position := document.at_line(self._wanted_line):
            self._wanted_line = None
            self._view.go(position)
        elif count is not None:
            self._wanted_line = None
            self.notify(f"this log has {count:,} lines", severity="warning")

    def _go(self, position: Position) -> None:
        self._want_nothing()
        self._view.go(position)

    def _want_nothing(self) -> None:
        """Who goes somewhere else is not taken away from there by what was looked for before."""
        self._wanted_line = None
        if self._reading:
            self._reading.want_nothing()

    def _newest(self) -> datetime:
        """The time of the last line that has one, as far as a page back; else now."""
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

    # Hiding and finding

    def _search(self, term: Term | None) -> None:
        if self._reading:
            self._wanted_line = None
            self._reading.search(term, self._view.anchor_position or self._reading.document.last())
            self._view.terms = self._reading.marked
            self._view.draw()

    def _filter(self, wanted: LineFilter) -> None:
        if self._reading is None:
            return
        self._reading.hide(wanted)
        self._view.terms = self._reading.marked
        self._view.see(self._reading.places)

    def action_level(self) -> None:
        if self._reading:
            wanted = self._reading.wanted
            step = (_LEVEL_STEPS.index(wanted.level) + 1) % len(_LEVEL_STEPS)
            self._filter(replace(wanted, level=_LEVEL_STEPS[step]))

    def action_run_only(self) -> None:
        if self._reading is None:
            return
        run_id = self._run_of_line()
        if self._reading.wanted.run_id is not None:
            self._filter(replace(self._reading.wanted, run_id=None))
        elif run_id is not None:
            self._filter(replace(self._reading.wanted, run_id=run_id))
        else:
            self._ask("run_only")

    def action_next(self) -> None:
        self._to_match(1)

    def action_previous(self) -> None:
        self._to_match(-1)

    def _to_match(self, direction: int) -> None:
        if self._reading is None or self._reading.search_term is None:
            self.notify("nothing was searched for; / searches", severity="warning")
            return
        cursor = self._view.anchor_position
        if self._reading.is_wanting or not self._reading.knows_match_from(cursor, direction):
            self._reading.want_match(cursor, direction)
        elif position := self._reading.match_from(cursor, direction):
            self._view.go(position)
        else:
            self.notify(f"no match further {'down' if direction > 0 else 'up'}")

    def action_clear(self) -> None:
        if self._line.is_asking:
            self._line.leave(self._view, lambda: None)
        elif self._reading and self._reading.search_term is not None:
            self._search(None)
        elif self._reading and self._reading.wanted:
            self._filter(LineFilter())

    # The view

    def action_follow(self) -> None:
        if self._view.follow:
            self._view.follow = False
            self._view.draw()
        else:
            self.action_end()

    def action_start(self) -> None:
        self._want_nothing()
        self._view.go_to_start()

    def action_end(self) -> None:
        self._want_nothing()
        self._view.go_to_end()

    def action_wrap(self) -> None:
        self._view.wrap = not self._view.wrap
        self._view.draw()

    def action_copy(self) -> None:
        if line := self._view.copied_line():
            self.app.copy_to_clipboard(line)
            self.notify("the line is in the clipboard")

    def action_sources(self) -> None:
        """The list is beside the log where there is room, and in its place where there is none."""
        shown = self._table.region.width > 0
        self.set_class(not shown, "-with-sources")
        self.set_class(shown, "-without-sources")
        (self._view if shown else self._table).focus()

    def action_open_run(self) -> None:
        run_id = self._run_of_line()
        if run_id is None:
            self.notify("this line names no run")
        else:
            self.post_message(OpenRun(run_id))

    def action_source(self) -> None:
        from tui.widgets.source import SourceScreen, place_of

        up, down = self._event(-1), self._event(1)
        # A traceback ends with the innermost call: from its head that is the last place, from within the nearest.
        places = [*filter(None, map(place_of, up)), *reversed([*filter(None, map(place_of, down))])]
        place = places[0] if places else None
        if place is None:
            self.notify("this line names no model, no step and no file of ours")
        else:
            self.app.push_screen(SourceScreen(place))

    def _event(self, direction: int) -> Iterator[str]:
        """The line under the cursor, and the others of its event from there: up to its head, or down to its end."""
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

    def _run_of_line(self) -> int | None:
        found = _RUN.search(self._view.copied_line())
        return int(found[1]) if found else None


def _term(text: str) -> Term:
    if len(text) > 2 and text.startswith("/") and text.endswith("/"):
        return Term(text[1:-1], is_regex=True)
    return Term(text)


def _row(source: Source, now: datetime) -> Row:
    glyph, tone = TONES[source.status] if source.status else (" ", "")
    when = ago_text(source.at, now) if source.at else ""
    exact = f"{source.at:%Y-%m-%d %H:%M:%S} UTC" if source.at else ""
    return Row(source.key, (Cell(glyph, tone), Cell(source.title), Cell(when, "quiet")), exact)
