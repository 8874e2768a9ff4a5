"""The Query screen: an editor, what its query gave, and the rows."""

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Input, Static

from dataflows.errors import MateriaError, ServingMissingError
from dataflows.sql_text import identifier, literal
from ops.pipelines.current_file import checked_on
from tui.query.captions import NOTHING_SERVED, result_text
from tui.query.catalog import Catalog, read_catalog
from tui.query.editor import SqlEditor
from tui.query.export import as_text, export
from tui.query.grid import ResultGrid
from tui.query.history import PastQuery, QueryHistory, cache_dir, state_dir
from tui.query.limits import LimitsDialog
from tui.query.result import ResultView
from tui.query.run import Pin, QueryLimits, QueryRun
from tui.query.saved import SAVED, SavedQuery
from tui.query.session import QuerySession
from tui.query.spill import Spill
from tui.query.sql import View, formatted
from tui.shell.context import ConsoleContext
from tui.widgets.panel import Found, attempt
from tui.widgets.picker import Choice, Picker

_TICK_S = 0.1
_WATCH_S = 0.25
_FIRST_SQL = SAVED[0].text(None)
_HINT = "F5 runs the query, F2 offers saved ones, F7 those that were run before; esc goes to the rows, e back"


class QueryBody(Vertical):
    """Everything of the screen; the pane forwards its actions as `do_<verb>`."""

    class Ended(Message):
        """A query has ended, in whatever way."""

        def __init__(self, run: QueryRun) -> None:
            super().__init__()
            self.run = run

    class CatalogRead(Message):
        """What can be completed is known."""

        def __init__(self, catalog: Catalog) -> None:
            super().__init__()
            self.catalog = catalog

    def __init__(self, context: Callable[[], ConsoleContext], limits: QueryLimits | None = None) -> None:
        """`context` is asked each time: read-only mode may be switched while somebody writes where to export to."""
        super().__init__()
        self._context_now = context
        self.live = False
        self.running: QueryRun | None = None
        """The run whose rows are to take the place of those on the screen."""
        self._session = QuerySession(context().settings.serving_path, cache_dir(os.environ), limits)
        self._history = QueryHistory(state_dir(os.environ) / "queries.jsonl")
        self._catalog_of: int | None = None
        self._asks = ""
        self._tick: Timer | None = None
        self._watch: Timer | None = None

    def compose(self) -> ComposeResult:
        yield SqlEditor(_FIRST_SQL, id="sql")
        yield Static(id="error")
        yield ResultView()
        yield Input(id="line", select_on_focus=False)

    def on_mount(self) -> None:
        self._tick = self.set_interval(_TICK_S, self._progress, pause=True)
        self._watch = self.set_interval(_WATCH_S, self._look, pause=True)

    def on_unmount(self) -> None:
        if self.running:
            self.running.close()
        self._session.close()

    @property
    def context(self) -> ConsoleContext:
        return self._context_now()

    @property
    def result(self) -> ResultView:
        return self.query_one(ResultView)

    @property
    def shown(self) -> QueryRun | None:
        """The run whose rows are on the screen."""
        return self.result.run

    @property
    def _asked(self) -> QueryRun | None:
        """The run whose view a person means: a newer look at the rows that are here, if one is coming, else theirs."""
        running, shown = self.running, self.shown
        return running if running and shown and running.sql == shown.sql else shown

    @property
    def editor(self) -> SqlEditor:
        return self.query_one(SqlEditor)

    def show(self) -> None:
        """The screen has come into view."""
        self._session.prepare()
        if self._watch:
            self._watch.resume()
        self._read_catalog()
        self._say()
        if self.shown is None:
            self.editor.focus()
            self._clear(None)

    def hide(self) -> None:
        """The screen is out of view; a query that runs goes on, live waits."""
        if self._watch:
            self._watch.pause()

    def run_text(self, sql: str) -> None:
        """Put `sql` into the editor and run it."""
        self.editor.replace_all(sql)
        self._start(sql, View())

    # What can be done

    def do_run(self) -> None:
        sql = self.editor.statement
        if not sql:
            self.notify("the editor is empty: there is nothing to run", severity="warning")
        else:
            self._remember(sql)
            asked = self._asked
            self._start(sql, asked.view if asked and asked.sql == sql else View())

    def do_stop(self) -> None:
        if self.running:
            self.running.cancel()
        elif self._asks:
            self._ask("")

    def do_edit(self) -> None:
        self.editor.focus()

    def do_saved(self) -> None:
        choices = [Choice(str(i), query.name, explains=query.explains) for i, query in enumerate(SAVED)]

        def take(key: str | None) -> None:
            if key is not None:
                self._run_saved(SAVED[int(key)])

        self.app.push_screen(Picker("Saved queries", choices), take)

    @work(group="saved", exclusive=True)
    async def _run_saved(self, saved: SavedQuery) -> None:
        """As-of queries get the last check of the current file, as the Releases screen and `materia explain` do."""
        settings, reader = self.context.settings, self.context.reader

        checked = None
        if "{checked}" in saved.sql:
            look = partial(attempt, lambda: checked_on(settings, reader()))
            found = await self.run_worker(look, thread=True).wait()
            # The query itself says what is wrong with what is served.
            checked = found.value if isinstance(found, Found) else None
        self.run_text(saved.text(checked))

    def do_history(self) -> None:
        try:
            past = self._history.read()[::-1]
        except OSError as error:
            self.notify(f"the history cannot be read: {error}", severity="warning")
            return
        choices = [Choice(str(i), " ".join(query.sql.split())[:200], query.at[:16]) for i, query in enumerate(past)]

        def take(key: str | None) -> None:
            if key is not None:
                self.editor.replace_all(past[int(key)].sql)
                self.editor.focus()

        self.app.push_screen(Picker("Queries run before, newest first", choices), take)

    def do_limits(self) -> None:
        def take(limits: QueryLimits | None) -> None:
            if limits:
                self._session.limit(limits)

        self.app.push_screen(LimitsDialog(self._session.limits), take)

    @work(group="format", exclusive=True)
    async def do_format(self) -> None:
        editor = self.editor
        text = editor.text
        try:
            laid_out = await self.run_worker(partial(formatted, text), thread=True, exit_on_error=False).wait()
        except Exception as error:
            cause = error.__cause__ or error
            self._say_error(f"the query cannot be laid out: {cause}")
            return
        self._say_error("")
        if editor.text == text and laid_out != text:
            editor.replace_all(laid_out)

    def do_live(self) -> None:
        self.live = not self.live
        self._look()
        self._say()

    def do_sort(self) -> None:
        if cell := self.result.grid.cell:
            self._sort(cell[0])

    def do_filter(self) -> None:
        if self._asked:
            self._ask("where", self._asked.view.condition, "a condition, such as value > 100 AND country_code = 'US'")

    def do_alike(self) -> None:
        cell = self.result.grid.cell
        if cell and self._asked:
            name, value = cell
            test = f"{identifier(name)} IS NULL" if value is None else f"{identifier(name)} = {literal(value)}"
            view = self._asked.view
            self._view(replace(view, condition=f"({view.condition}) AND {test}" if view.condition else test))

    def do_whole(self) -> None:
        self._view(View())

    def do_chart(self) -> None:
        self.result.toggle_chart()

    def do_copy(self) -> None:
        if self.shown and self.shown.spill:
            text, rows = as_text(self.shown.spill)
            self.app.copy_to_clipboard(text)
            left = self.shown.row_count - rows
            more = f"; {left:,} more are too much for it: export them" if left else ""
            self.notify(f"{rows:,} rows are on the clipboard{more}")

    def do_copy_cell(self) -> None:
        if cell := self.result.grid.cell:
            self.app.copy_to_clipboard("" if cell[1] is None else str(cell[1]))
            self.notify(f"{cell[0]} is on the clipboard")

    def do_export(self) -> None:
        if self.shown and self.shown.spill and not self.context.read_only:
            self._ask("to", str(Path.cwd() / "result.csv"), "a path that ends in .csv or .parquet")

    # Queries

    def _start(self, sql: str, view: View, within: Pin | None = None) -> None:
        """Run `sql`; its rows take the place of those on the screen when the first of them are there."""
        before = self.running
        self._say_error("")
        run = self.running = self._session.new_run(sql, view, within)
        if before:
            self._give_up(before)
        self.run_worker(partial(self._execute, run), thread=True, group="run")
        if self._tick:
            self._tick.resume()
        self._say()

    def _give_up(self, run: QueryRun) -> None:
        """Stop a run; its rows are read for as long as they are on the screen."""
        if run is self.shown:
            run.cancel()
        else:
            run.close()

    def _execute(self, run: QueryRun) -> None:
        self._session.execute(run)
        self.post_message(self.Ended(run))

    def _progress(self) -> None:
        """While a query runs: its first rows are shown as they come, then the scrollbar grows."""
        if self.running and self.result.is_awaiting(self.running):
            self._take(self.running)
        self._say()

    @on(Ended)
    def _ended(self, event: Ended) -> None:
        run = event.run
        if run is not self.running:
            if run is self.shown:
                self._take(run)  # what came since the last look
            else:
                run.close()
            return
        self.running = None
        if self._tick:
            self._tick.pause()
        whole = run.error is None and not run.cancelled
        stays = self.shown is not None and self.shown.spill is not None and self.shown.sql == run.sql
        if run.error is not None and (stays or not isinstance(run.error, ServingMissingError)):
            self._say_error(str(run.error))
        if run.spill is not None and (whole or self.result.is_awaiting(run)):
            self._take(run)
        elif stays:
            run.close()  # only the view of it failed, or was stopped: the rows that are there stay
        else:
            self._clear(run)
        self._say()
        self._read_catalog()

    def _take(self, run: QueryRun) -> None:
        self.result.take(run)
        if self.screen.focused is None and self.is_on_screen:
            self.result.grid.focus()

    def _view(self, view: View) -> None:
        """Look at the same result in another way, in its generation: that of the answer that is coming, if one is."""
        asked, shown = self._asked, self.shown
        if asked and shown and shown.pin and view != asked.view:
            is_here = asked.is_pinned or asked is shown
            # A cell keeps its memory: with another limit, what is still served is asked in another cell.
            is_apt = shown.pin.cell.memory_bytes == self._session.limits.memory_bytes or self._session.newer_than(shown)
            self._start(shown.sql, view, shown.pin if is_here and is_apt else None)

    def _sort(self, column: str) -> None:
        if self._asked:
            self._view(self._asked.view.sorted_by(column))

    def _look(self) -> None:
        """Has something newer been published?"""
        if self.live and self.running is None and self.shown and self._session.newer_is_served():
            self._start(self.shown.sql, self.shown.view)
        self._say()

    def _remember(self, sql: str) -> None:
        past = PastQuery(sql, datetime.now(UTC).isoformat(timespec="seconds"))
        try:
            self._history.add(past)
        except OSError as error:
            self.notify(f"the history was not kept: {error}", severity="warning")

    @work(thread=True, group="catalog", exclusive=True)
    def _read_catalog(self) -> None:
        try:
            number = self._session.reader.generation().number
            if number == self._catalog_of:
                return
            catalog = read_catalog(self._session.reader)
        except MateriaError:
            return  # completion goes without names; the query itself says what is wrong
        self._catalog_of = number
        self.post_message(self.CatalogRead(catalog))

    @on(CatalogRead)
    def _take_catalog(self, event: CatalogRead) -> None:
        self.editor.catalog = event.catalog

    # The line at the foot

    def _ask(self, what: str, value: str = "", placeholder: str = "") -> None:
        """Ask for a line of text below the rows; nothing ends the asking."""
        self._asks = what
        line = self.query_one("#line", Input)
        line.display = bool(what)
        if what:
            line.value, line.placeholder = value, f"{what}: {placeholder}"
            line.cursor_position = len(value)
            line.focus()
        else:
            self.result.grid.focus()

    @on(Input.Submitted, "#line")
    def _answered(self, event: Input.Submitted) -> None:
        event.stop()
        asked, value = self._asks, event.value.strip()
        self._ask("")
        if asked == "where" and self._asked:
            self._view(replace(self._asked.view, condition=value))
        elif asked == "to" and value and self.context.read_only:
            self.notify("this console is read-only now: nothing was written", severity="warning")
        elif asked == "to" and value and self.shown and self.shown.spill:
            self._export(self.shown, self.shown.spill.keep(), value)

    @work(thread=True, group="export")
    def _export(self, run: QueryRun, spill: Spill, target: str) -> None:
        """Write the rows of `run` that there are; others may take their place on the screen meanwhile."""
        part = "" if run.finished and not run.error and not run.cancelled else ", as far as they had come"
        try:
            rows = export(spill, Path(target))
        except MateriaError as error:
            self.app.call_from_thread(self._say_error, str(error))
            return
        finally:
            spill.close()
        self.app.call_from_thread(self.notify, f"{rows:,} rows are in {target}{part}")

    # What it says

    def _say(self) -> None:
        run = self.running or self.shown
        if run:
            retried = self.live and self._session.newer_is_served()
            newer = self._session.newer_than(run) and not retried
            below = self.shown if self.shown is not run else None
            self.result.say(*result_text(run, self.context.clock(), live=self.live, newer=newer, below=below))

    def _say_error(self, text: str) -> None:
        error = self.query_one("#error", Static)
        error.update(f"✗ {text}" if text else "")
        error.display = bool(text)

    def _clear(self, run: QueryRun | None) -> None:
        missing = isinstance(run.error, ServingMissingError) if run else not self._session.serving_path.exists()
        self.result.clear(run, NOTHING_SERVED if missing else _HINT if run is None else "")

    @on(ResultGrid.HeaderChosen)
    def _header_chosen(self, event: ResultGrid.HeaderChosen) -> None:
        self._sort(event.column)

    @on(SqlEditor.Left)
    def _left(self) -> None:
        if self.running:
            self.do_stop()
        elif self.result.grid.display:
            self.result.grid.focus()
        else:
            self.screen.set_focus(None)
