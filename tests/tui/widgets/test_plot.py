"""Tests of the chart: it stays inside its widget, whatever it drew before."""

from textual.app import App, ComposeResult
from textual_hires_canvas import Canvas

from tests.support.consoles import screen_of, until
from tui.widgets.plot import GroupedAxis, Line, LineChart, YearAxis


class _ChartApp(App[None]):
    def compose(self) -> ComposeResult:
        yield LineChart()


async def test_labels_of_another_width_leave_the_chart_whole() -> None:
    app, years = _ChartApp(), tuple(float(year) for year in range(2000, 2026))
    async with app.run_test(size=(60, 20)) as pilot:
        chart = app.query_one(LineChart)
        for largest in (9.0, 1_200_000.0, 90.0):
            ys = tuple(largest * (index + 1) / len(years) for index in range(len(years)))
            chart.draw([Line(years, ys)], YearAxis())
            await until(
                pilot, lambda: all(each.size == each._canvas_size or not each.size for each in app.query(Canvas))
            )
            await pilot.pause()
            labels = GroupedAxis().get_labels_for_ticks(GroupedAxis().get_ticks(chart._y_min, chart._y_max))
            shown = [tick for tick in labels if tick in screen_of(pilot)]
            assert len(shown) >= len(labels) - 2  # ticks beyond the limits are not drawn
