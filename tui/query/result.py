"""Shows the result of a query: status line, rows or chart, and the cell under the cursor."""

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from tui.query.cells import plain
from tui.query.grid import ResultGrid
from tui.query.run import QueryRun

_STATUSES = ("success", "warning", "error")


class ResultView(Vertical):
    """The lower part of the Query screen."""

    def __init__(self) -> None:
        super().__init__()
        self.run: QueryRun | None = None
        """The run whose rows are shown; closed when another replaces it."""
        self._status_text = ""

    def compose(self) -> ComposeResult:
        yield Static(id="result-line", markup=False)
        yield Static(id="hint", markup=False)
        yield ResultGrid(id="rows")
        yield Static(id="cell", markup=False)

    def on_unmount(self) -> None:
        if self.run:
            self.run.close()

    @property
    def grid(self) -> ResultGrid:
        return self.query_one(ResultGrid)

    @property
    def charted(self) -> bool:
        """Whether a chart is shown instead of the rows."""
        return bool(self.query("LineChart"))

    def is_awaiting(self, run: QueryRun) -> bool:
        """Whether the rows of `run` can be shown now; a refresh must first reach the visible rows."""
        old = self.run
        if old is None or old is run or (old.sql, old.view) != (run.sql, run.view):
            return run.row_count > 0
        return not self.charted and run.row_count >= self.grid.rows_in_use

    def take(self, run: QueryRun) -> None:
        """Show the rows of `run` received so far; the same query in the same view keeps its scroll position."""
        if run is self.run:
            self.grid.grow()
            self._show_cell()
            if self.charted and run.finished:
                self.draw_chart()
            return
        if run.spill is None:
            return
        old = self._replace(run)
        if old and old.sql == run.sql:
            self.grid.show_rows(run.spill, run.view, keep_row=old.view == run.view, keep_column=True)
        else:
            self.grid.show_rows(run.spill, run.view)
        self.query_one("#hint").display = False
        self.grid.display = not self.charted
        if self.charted:
            self.draw_chart()

    def clear(self, run: QueryRun | None, hint: str) -> None:
        """Show `hint` instead of rows."""
        self._replace(run)
        self.query("LineChart").remove()
        self.grid.clear_rows()
        self.grid.display = False
        self.query_one("#hint", Static).update(hint)
        self.query_one("#hint").display = True
        self.query_one("#cell", Static).update("")

    def say(self, text: str, status: str) -> None:
        """Show the status line; redrawn only when it changes."""
        if text != self._status_text:
            self._status_text = text
            line = self.query_one("#result-line", Static)
            line.update(text)
            for name in _STATUSES:
                line.set_class(status == name, f"-{name}")

    @work(group="chart", exclusive=True)
    async def toggle_chart(self) -> None:
        """Switch between the rows and a chart of the column under the cursor."""
        if self.charted:
            await self.query("LineChart").remove()
            self.grid.display = bool(self.run and self.run.spill)
            self.grid.focus()
            self._show_cell()
        elif self.run and self.run.row_count:
            from tui.widgets.plot import LineChart

            self.grid.display = False
            await self.mount(LineChart(), after="#rows")
            self.query_one(LineChart).focus()
            self.call_after_refresh(self.draw_chart)

    def draw_chart(self) -> None:
        """Draw a chart of the rows received so far."""
        from tui.query.chart import chart_data
        from tui.widgets.plot import DayAxis, GroupedAxis, Line, LineChart, YearAxis

        if not (self.run and self.run.spill and self.charted):
            return
        data = chart_data(self.run.spill, self.grid.row, self.grid.column)
        caption = "no numeric column to draw"
        if data:
            axis = {"day": DayAxis, "year": YearAxis}.get(data.x_kind, GroupedAxis)
            self.query_one(LineChart).draw([Line(data.xs, data.ys)], axis())
            caption = f"{data.y_name} over {data.x_name}"
            caption += f": {data.series}" if data.series else ""
            caption += f", one of every {data.every:,} rows" if data.every > 1 else ""
        self.query_one("#cell", Static).update(f"{caption} · v shows the rows")

    def _replace(self, run: QueryRun | None) -> QueryRun | None:
        old, self.run = self.run, run
        if old and old is not run:
            old.close()
        return old

    @on(ResultGrid.CellMoved)
    def _show_cell(self) -> None:
        if self.charted:
            return
        caption: Content | str = ""
        if cell := self.grid.cell:
            name, value = map(plain, cell)
            place = f"row {self.grid.row + 1:,} of {self.grid.row_count:,}"
            caption = Content.assemble(f"{place} · {name}: ", (value, "$text"))
        self.query_one("#cell", Static).update(caption)
