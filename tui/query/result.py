"""What a query gave: a line that says so, then its rows or a chart of them, then the cell under the cursor."""

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
        """The run whose rows are here; this widget closes it when another takes its place."""
        self._said = ""

    def compose(self) -> ComposeResult:
        yield Static(id="said", markup=False)
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
        """Whether a chart is in the place of the rows."""
        return bool(self.query("LineChart"))

    def is_awaiting(self, run: QueryRun) -> bool:
        """Whether the rows of `run` that have come may be shown: a refresh first has to reach what is on the screen."""
        old = self.run
        if old is None or old is run or (old.sql, old.view) != (run.sql, run.view):
            return run.row_count > 0
        return not self.charted and run.row_count >= self.grid.rows_in_use

    def take(self, run: QueryRun) -> None:
        """Show the rows of `run`, as far as they have come; the same query in the same view stays in its place."""
        if run is self.run:
            self.grid.grow()
            self._say_cell()
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
        """There are no rows, and `hint` says why."""
        self._replace(run)
        self.query("LineChart").remove()
        self.grid.clear_rows()
        self.grid.display = False
        self.query_one("#hint", Static).update(hint)
        self.query_one("#hint").display = True
        self.query_one("#cell", Static).update("")

    def say(self, text: str, status: str) -> None:
        """The line above the rows; drawn only when it says something else."""
        if text != self._said:
            self._said = text
            line = self.query_one("#said", Static)
            line.update(text)
            for name in _STATUSES:
                line.set_class(status == name, f"-{name}")

    @work(group="chart", exclusive=True)
    async def toggle_chart(self) -> None:
        """Draw the column under the cursor in place of the rows, or bring the rows back."""
        if self.charted:
            await self.query("LineChart").remove()
            self.grid.display = bool(self.run and self.run.spill)
            self.grid.focus()
            self._say_cell()
        elif self.run and self.run.row_count:
            from tui.widgets.plot import LineChart

            self.grid.display = False
            await self.mount(LineChart(), after="#rows")
            self.query_one(LineChart).focus()
            self.call_after_refresh(self.draw_chart)

    def draw_chart(self) -> None:
        """Draw the rows that there are."""
        from tui.query.chart import chart_data
        from tui.widgets.plot import DayAxis, GroupedAxis, Line, LineChart, YearAxis

        if not (self.run and self.run.spill and self.charted):
            return
        data = chart_data(self.run.spill, self.grid.row, self.grid.column)
        said = "no column holds numbers: nothing to draw"
        if data:
            axis = {"day": DayAxis, "year": YearAxis}.get(data.x_kind, GroupedAxis)
            self.query_one(LineChart).draw([Line(data.xs, data.ys)], axis())
            said = f"{data.y_name} over {data.x_name}"
            said += f": {data.series}" if data.series else ""
            said += f", one of every {data.every:,} rows" if data.every > 1 else ""
        self.query_one("#cell", Static).update(f"{said} · c goes back to the rows")

    def _replace(self, run: QueryRun | None) -> QueryRun | None:
        old, self.run = self.run, run
        if old and old is not run:
            old.close()
        return old

    @on(ResultGrid.CellMoved)
    def _say_cell(self) -> None:
        if self.charted:
            return
        said: Content | str = ""
        if cell := self.grid.cell:
            name, value = map(plain, cell)
            place = f"row {self.grid.row + 1:,} of {self.grid.row_count:,}"
            said = Content.assemble(f"{place} · {name}: ", (value, "$text"))
        self.query_one("#cell", Static).update(said)
