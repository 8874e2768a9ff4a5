"""The content of the Query screen: the editor, the error line, the result and the input line."""

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from textual import events, on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Input, Static

from dataflows.errors import MateriaError, ServingBrokenError, ServingMissingError
from dataflows.sql_text import identifier, literal
from ops.host.formatting import size_text
from ops.query.export import FORMATS, write_file
from ops.query.saved import SAVED, SavedQuery
from tui.query.captions import NOTHING_SERVED, result_text
from tui.query.catalog import Catalog, read_catalog
from tui.query.clipboard import as_text
from tui.query.editor import SqlEditor
from tui.query.grid import ResultGrid
from tui.query.history import PastQuery, QueryHistory, cache_dir, state_dir
from tui.query.limits import LimitsDialog
from tui.query.record import RecordScreen
from tui.query.result import ResultView
from tui.query.run import Pin, QueryLimits, QueryRun
from tui.query.schema import SchemaPanel
from tui.query.session import QuerySession
from tui.query.spill import Spill
from tui.query.sql import View, format_sql
from tui.shell.context import ConsoleContext
from tui.shell.pane import Pane
from tui.widgets.formatting import plural
from tui.widgets.panel import Found, attempt, failure_of
from tui.widgets.picker import Choice, Picker

_BROAD = 130
"""The width from which the tables are always shown."""
_TICK_S = 0.1
_WATCH_S = 0.5
_FIRST_SQL = SAVED[0].text(None)
_HINT = "F5 runs the query, F2 lists saved queries, F7 past ones, F12 tables; esc goes to the rows, e to the editor"


class QueryBody(Vertical):
    """The widgets and logic of the screen; the pane forwards its actions to `do_<verb>`."""

    class Ended(Message):
        """A query has finished, failed or was cancelled."""

        def __init__(self, run: QueryRun) -> None:
            super().__init__()
            self.run = run

    class CatalogRead(Message):
        """The names for completion were read."""

        def __init__(self, catalog: Catalog) -> None:
            super().__init__()
            self.catalog = catalog

    def __init__(self, context: Callable[[], ConsoleContext], limits: QueryLimits | None = None) -> None:
        """`context` is called on each use, because read-only mode may be switched while an input line is open."""
        super().__init__()
        self._context_now = context
        self.live = False
        self.running: QueryRun | None = None
        """The run whose rows will replace the shown ones."""
        self._session = QuerySession(context().settings.serving_path, cache_dir(os.environ), limits)
        self._history = QueryHistory(state_dir(os.environ) / "queries.jsonl")
        self._catalog_of: int | None = None
        self._prompt_kind = ""
        self._tick: Timer | None = None
        self._watch: Timer | None = None

    def compose(self) -> ComposeResult:
        with Horizontal():
            with Vertical(id="query-main"):
                yield SqlEditor(_FIRST_SQL, id="sql")
                yield Static(id="error")
                yield ResultView()
                yield Input(id="line", select_on_focus=False)
            yield SchemaPanel()

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
        """The run whose rows are shown."""
        return self.result.run

    @property
    def _current_run(self) -> QueryRun | None:
        """The run that view changes apply to: a running one of the same query, else the shown one."""
        running, shown = self.running, self.shown
        return running if running and shown and running.sql == shown.sql else shown

    @property
    def editor(self) -> SqlEditor:
        return self.query_one(SqlEditor)

    def show(self) -> None:
        """Called when the screen is shown."""
        self._session.prepare()
        if self._watch:
            self._watch.resume()
        self._read_catalog()
        self._show_status()
        if self.shown is None:
            self.editor.focus()
            self._clear(None)

    def hide(self) -> None:
        """Called when the screen is hidden: a running query continues, live mode pauses."""
        if self._watch:
            self._watch.pause()

    def run_text(self, sql: str) -> None:
        """Put `sql` into the editor and run it."""
        self.editor.replace_all(sql)
        self._focus_rows()
        self._start(sql, View())

    # Actions

    def has_use(self, verb: str) -> bool:
        """Whether an action would do something now."""
        match verb:
            case "stop":
                return self.running is not None or bool(self._prompt_kind) or self.editor.has_focus_within
            case "sort" | "filter" | "chart" | "copy" | "export":
                return self.shown is not None and self.shown.spill is not None
        return True

    def do_run(self) -> None:
        sql = self.editor.statement
        if not sql:
            self.notify("the editor is empty", severity="warning")
        else:
            self._remember(sql)
            self._focus_rows()
            asked = self._current_run
            self._start(sql, asked.view if asked and asked.sql == sql else View())

    def do_stop(self) -> None:
        if self.running:
            self.running.cancel()
        elif self._prompt_kind:
            self._ask("")
        elif self.query_one(SchemaPanel).names.has_focus:
            self._focus_rows()

    def do_edit(self) -> None:
        self.editor.focus()

    def do_tables(self) -> None:
        """Show the tables and go to them; from there, hide them where they take room from the rows."""
        panel = self.query_one(SchemaPanel)
        if panel.names.has_focus:
            self.remove_class("-with-schema")
            self.editor.focus()
        else:
            self.add_class("-with-schema")
            self.call_after_refresh(panel.names.focus)

    @on(SchemaPanel.Chosen)
    def _insert(self, message: SchemaPanel.Chosen) -> None:
        message.stop()
        self.editor.insert(message.text)

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width >= _BROAD, "-broad")

    def do_saved(self) -> None:
        choices = [Choice(str(i), query.title, explains=query.explains) for i, query in enumerate(SAVED)]

        def take(key: str | None) -> None:
            if key is not None:
                self._run_saved(SAVED[int(key)])

        self.app.push_screen(Picker("Saved queries", choices), take)

    @work(group="saved", exclusive=True)
    async def _run_saved(self, saved: SavedQuery) -> None:
        """Run a saved query. As-of queries use the last check of the current file, like the Releases screen."""
        settings, reader = self.context.settings, self.context.reader
        look = partial(attempt, lambda: saved.current_text(settings, reader))
        found = await self.run_worker(look, thread=True).wait()
        # If the served data is broken, the query reports it.
        self.run_text(found.value if isinstance(found, Found) else saved.text(None))

    def do_history(self) -> None:
        try:
            past = self._history.read()[::-1]
        except OSError as error:
            self.notify(f"cannot read the query history: {error}", severity="warning")
            return
        choices = [Choice(str(i), " ".join(query.sql.split())[:200], query.at[:16]) for i, query in enumerate(past)]

        def take(key: str | None) -> None:
            if key is not None:
                self.editor.replace_all(past[int(key)].sql)
                self.editor.focus()

        self.app.push_screen(Picker("Past queries, newest first", choices), take)

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
            sql_text = await self.run_worker(partial(format_sql, text), thread=True, exit_on_error=False).wait()
        except Exception as error:
            cause = error.__cause__ or error
            self._show_error(f"cannot format the query: {cause}")
            return
        self._show_error("")
        if editor.text == text and sql_text != text:
            editor.replace_all(sql_text)

    def do_live(self) -> None:
        self.live = not self.live
        self._look()
        self._show_status()

    def do_sort(self) -> None:
        if cell := self.result.grid.cell:
            self._sort(cell[0])

    def do_filter(self) -> None:
        if self._current_run:
            self._ask(
                "where", self._current_run.view.condition, "a condition, such as value > 100 AND country_code = 'US'"
            )

    def do_alike(self) -> None:
        cell = self.result.grid.cell
        if cell and self._current_run:
            name, value = cell
            test = f"{identifier(name)} IS NULL" if value is None else f"{identifier(name)} = {literal(value)}"
            view = self._current_run.view
            self._view(replace(view, condition=f"({view.condition}) AND {test}" if view.condition else test))

    def do_whole(self) -> None:
        self._view(View())

    def do_chart(self) -> None:
        self.result.toggle_chart()

    def do_open(self) -> None:
        """Show the row under the cursor in full."""
        grid = self.result.grid
        if grid.has_focus and grid.record:
            place = f"row {grid.row + 1:,} of {grid.row_count:,}"
            self.app.push_screen(RecordScreen(place, grid.record, grid.column))

    def do_copy(self) -> None:
        if self.shown and self.shown.spill:
            text, rows = as_text(self.shown.spill)
            self.app.copy_to_clipboard(text)
            left = self.shown.row_count - rows
            more = f"; {left:,} more exceed its limit: export them to a file" if left else ""
            self.notify(f"copied {rows:,} rows to the clipboard{more}")

    def do_copy_cell(self) -> None:
        if cell := self.result.grid.cell:
            self.app.copy_to_clipboard("" if cell[1] is None else str(cell[1]))
            self.notify(f"copied {cell[0]} to the clipboard")

    def do_export(self) -> None:
        if self.shown and self.shown.spill and not self.context.read_only:
            self._ask("to", str(Path.cwd() / "result.csv"), f"a path that ends in .{', .'.join(FORMATS)}")

    # Queries

    def _start(self, sql: str, view: View, within: Pin | None = None) -> None:
        """Run `sql`; its rows replace the shown ones once the first of them arrive."""
        before = self.running
        self._show_error("")
        run = self.running = self._session.new_run(sql, view, within)
        if before:
            self._discard(before)
        self.run_worker(partial(self._execute, run), thread=True, group="run")
        if self._tick:
            self._tick.resume()
        self._show_status()

    def _discard(self, run: QueryRun) -> None:
        """Stop a run, and close it unless its rows are shown."""
        if run is self.shown:
            run.cancel()
        else:
            run.close()

    def _execute(self, run: QueryRun) -> None:
        self._session.execute(run)
        self.post_message(self.Ended(run))

    def _progress(self) -> None:
        """While a query runs, show its rows as they arrive."""
        if self.running and self.result.is_awaiting(self.running):
            self._take(self.running)
            self._show_status()
        else:
            self._show_result_line()

    @on(Ended)
    def _on_run_ended(self, event: Ended) -> None:
        run = event.run
        if run is not self.running:
            if run is self.shown:
                self._take(run)  # rows since the last tick
            else:
                run.close()
            return
        self.running = None
        if self._tick:
            self._tick.pause()
        whole = run.error is None and not run.cancelled
        if whole or isinstance(run.error, ServingBrokenError):
            failure = failure_of(run.error) if run.error else None
            self.context.sightings.note("query", failure, self.context.clock())
        stays = self.shown is not None and self.shown.spill is not None and self.shown.sql == run.sql
        if run.error is not None and (stays or not isinstance(run.error, ServingMissingError)):
            self._show_error(str(run.error))
        if run.spill is not None and (whole or self.result.is_awaiting(run)):
            self._take(run)
        elif stays:
            run.close()  # only the new view failed or was cancelled: keep the shown rows
        else:
            self._clear(run)
            if run.error is not None and self.is_on_screen and self.screen.focused in (None, self.result.grid):
                self.editor.focus()
        self._show_status()
        self._read_catalog()

    def _take(self, run: QueryRun) -> None:
        self.result.take(run)
        if self.screen.focused is None and self.is_on_screen:
            self.result.grid.focus()

    def _view(self, view: View) -> None:
        """Run the query again with another view, in the generation of the result (or of the run in progress)."""
        asked, shown = self._current_run, self.shown
        if asked and shown and shown.pin and view != asked.view:
            is_here = asked.is_pinned or asked is shown
            # A sandbox keeps its memory limit: after a change use a new sandbox, if the generation is still served.
            is_apt = shown.pin.sandbox.memory_bytes == self._session.limits.memory_bytes or self._session.newer_than(
                shown
            )
            self._start(shown.sql, view, shown.pin if is_here and is_apt else None)

    def _sort(self, column: str) -> None:
        if self._current_run:
            self._view(self._current_run.view.sorted_by(column))

    def _look(self) -> None:
        """In live mode, run the query again when a newer generation is served."""
        if self.live and self.running is None and self.shown and self._session.newer_is_served():
            self._start(self.shown.sql, self.shown.view)
        self._show_result_line()

    def _remember(self, sql: str) -> None:
        past = PastQuery(sql, datetime.now(UTC).isoformat(timespec="seconds"))
        try:
            self._history.add(past)
        except OSError as error:
            self.notify(f"cannot save the query history: {error}", severity="warning")

    @work(thread=True, group="catalog", exclusive=True)
    def _read_catalog(self) -> None:
        try:
            number = self._session.reader.generation().number
            if number == self._catalog_of:
                return
            catalog = read_catalog(self._session.reader)
        except MateriaError:
            return  # no completion of names; the query reports the error
        self._catalog_of = number
        self.post_message(self.CatalogRead(catalog))

    @on(CatalogRead)
    def _take_catalog(self, event: CatalogRead) -> None:
        self.editor.catalog = event.catalog
        self.query_one(SchemaPanel).names.show(event.catalog)

    # The input line

    def _ask(self, what: str, value: str = "", placeholder: str = "") -> None:
        """Open the input line below the rows; an empty `what` closes it."""
        self._prompt_kind = what
        line = self.query_one("#line", Input)
        line.display = bool(what)
        if what:
            line.value, line.placeholder = value, f"{what}: {placeholder}"
            line.cursor_position = len(value)
            line.focus()
        else:
            self.result.grid.focus()

    @on(Input.Submitted, "#line")
    def _on_answered(self, event: Input.Submitted) -> None:
        event.stop()
        asked, value = self._prompt_kind, event.value.strip()
        self._ask("")
        if asked == "where" and self._current_run:
            self._view(replace(self._current_run.view, condition=value))
        elif asked == "to" and value and self.context.read_only:
            self.notify("read-only mode: nothing was written", severity="warning")
        elif asked == "to" and value and self.shown and self.shown.spill:
            self._export(self.shown, self.shown.spill.keep(), value)

    @work(thread=True, group="export")
    def _export(self, run: QueryRun, spill: Spill, target: str) -> None:
        """Write the rows of `run` that have arrived; another result may replace them on the screen meanwhile."""
        part = "" if run.finished and not run.error and not run.cancelled else " (result incomplete)"
        try:
            written = write_file(spill.schema, spill.batches(), Path(target), overwrite=False)
        except MateriaError as error:
            self.app.call_from_thread(self._show_error, str(error))
            return
        finally:
            spill.close()
        size, path = size_text(written.size_bytes), written.path.resolve()
        self.app.call_from_thread(self.notify, f"wrote {plural(written.rows, 'row')}, {size}, to {path}{part}")

    # Status and errors

    def _show_status(self) -> None:
        self.post_message(Pane.ActionsChanged())
        self._show_result_line()

    def _show_result_line(self) -> None:
        run = self.running or self.shown
        if run:
            retried = self.live and self._session.newer_is_served()
            newer = self._session.newer_than(run) and not retried
            below = self.shown if self.shown is not run else None
            self.result.say(*result_text(run, self.context.clock(), live=self.live, newer=newer, below=below))

    def _show_error(self, text: str) -> None:
        error = self.query_one("#error", Static)
        error.update(f"✗ {text}" if text else "")
        error.display = bool(text)

    def _clear(self, run: QueryRun | None) -> None:
        missing = isinstance(run.error, ServingMissingError) if run else not self._session.serving_path.exists()
        self.result.clear(run, NOTHING_SERVED if missing else _HINT if run is None else "")

    @on(ResultGrid.HeaderChosen)
    def _on_header_chosen(self, event: ResultGrid.HeaderChosen) -> None:
        self._sort(event.column)

    @on(SqlEditor.Left)
    def _on_editor_left(self) -> None:
        if self.running:
            self.do_stop()
        else:
            self._focus_rows()

    def _focus_rows(self) -> None:
        """Move the focus to the rows, or away from the editor until there are any: keys are no longer typed into it."""
        if self.is_on_screen:
            self.screen.set_focus(self.result.grid if self.result.grid.display else None)
