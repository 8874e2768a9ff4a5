"""Line charts over days or numbers, drawn with `textual-plot`. Imports numpy."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import ClassVar

import numpy as np
from textual.reactive import reactive
from textual_plot import AxisFormatter, HiResMode, NumericAxisFormatter, PlotWidget

_TICK_WIDTH = 12
_DOTS = 60
_MONTH_DAYS = 45
_DARK = ("grey89", "yellow3", "grey42")
_LIGHT = ("grey11", "dark_orange3", "grey58")
"""Colours of lines, dots and mark, for dark and light themes; dots are uncertain and have a warning's colour."""


@dataclass(frozen=True)
class Line:
    """Connected points; x is `date.toordinal()` on an axis of days."""

    xs: tuple[float, ...]
    ys: tuple[float, ...]


class DayAxis(AxisFormatter):
    """Ticks on days, as many as fit."""

    most_ticks = 8

    def get_ticks(self, min_: float, max_: float, max_ticks: int = 8) -> list[float]:
        count = max(2, min(max_ticks, self.most_ticks, int(max_ - min_) + 1))
        return sorted({float(round(min_ + (max_ - min_) * i / (count - 1))) for i in range(count)})

    def get_labels_for_ticks(self, ticks: Sequence[float]) -> list[str]:
        apart = min((b - a for a, b in itertools.pairwise(ticks)), default=0.0)
        return [_day_text(int(tick), "%Y-%m" if apart > _MONTH_DAYS else "%m-%d") for tick in ticks]


def _day_text(ordinal: int, form: str) -> str:
    """Format a day; empty for ordinals outside the calendar, which an empty plot requests."""
    return date.fromordinal(ordinal).strftime(form) if 1 <= ordinal <= date.max.toordinal() else ""


class GroupedAxis(NumericAxisFormatter):
    """Ticks on numbers, with thousands separators."""

    def get_labels_for_ticks(self, ticks: Sequence[float]) -> list[str]:
        apart = min((abs(b - a) for a, b in itertools.pairwise(ticks)), default=1.0)
        digits = 0 if apart >= 1 else 2 if apart >= 0.01 else 4
        return [f"{tick:,.{digits}f}" for tick in ticks]


class YearAxis(NumericAxisFormatter):
    """Ticks on whole numbers, without separators."""

    def get_labels_for_ticks(self, ticks: Sequence[float]) -> list[str]:
        return [f"{tick:.0f}" if tick == int(tick) else "" for tick in ticks]


class LineChart(PlotWidget):
    """Lines of one or several series."""

    DEFAULT_CSS: ClassVar[str] = """
    LineChart { background: $background; }
    LineChart > .plot--axis { color: $border; }
    LineChart > .plot--tick { color: $text-muted; text-style: none; }
    LineChart > .plot--label { color: $text-muted; text-style: none; }
    LineChart:focus > .plot--axis { color: $primary; }
    """

    margin_top = reactive(0)
    margin_bottom = reactive(1)

    def __init__(self) -> None:
        super().__init__(allow_pan_and_zoom=False)
        self._ready = False
        self._draw: Callable[[], None] = self.clear

    def draw(
        self,
        lines: Sequence[Line],
        axis: AxisFormatter,
        *,
        dotted: Sequence[Line] = (),
        mark: float | None = None,
    ) -> None:
        """Replace the chart's content with these lines; `mark` is an x value for a vertical line."""
        self._draw = partial(self._plot, tuple(lines), axis, tuple(dotted), mark)
        if self._ready:
            self._draw()

    def on_mount(self) -> None:
        self.call_after_refresh(self._start)  # the library's own handler comes after this one, and clears
        self.app.theme_changed_signal.subscribe(self, lambda _: self._draw())

    def on_resize(self) -> None:
        self._draw()  # other labels fit

    def _start(self) -> None:
        self._ready = True
        self._draw()

    def _plot(self, lines: tuple[Line, ...], axis: AxisFormatter, dotted: tuple[Line, ...], mark: float | None) -> None:
        self.clear()
        self._v_lines_labels = []
        ys = [y for line in (*lines, *dotted) for y in line.ys]
        low, high = (min(ys), max(ys)) if ys else (0.0, 1.0)
        room = (high - low) * 0.08 or abs(high) * 0.05 or 1.0
        self.set_ylimits(low - room, high + room)
        self.set_xlimits(None, None)
        labels = GroupedAxis()
        ticks = labels.get_ticks(low - room, high + room)
        margin = 2 + max(map(len, labels.get_labels_for_ticks(ticks)), default=8)
        if margin != self.margin_left:
            self.margin_left = margin
            # The library lays out its canvases again, and keeps drawing in their old sizes.
            self.call_after_refresh(self.refresh, layout=True)
        if isinstance(axis, DayAxis):
            axis.most_ticks = (self.size.width - self.margin_left) // _TICK_WIDTH
        self.set_x_formatter(axis)
        self.set_y_formatter(labels)
        line_style, dot_style, mark_style = _DARK if self.app.current_theme.dark else _LIGHT
        for line in dotted:
            xs = np.linspace(line.xs[0], line.xs[-1], _DOTS)
            self.scatter(xs, np.interp(xs, line.xs, line.ys), marker="·", marker_style=dot_style)
        for line in lines:
            # Braille draws a slope well, but a level line of it looks dotted.
            mode = HiResMode.BRAILLE if len({*line.ys}) > 1 else HiResMode.QUADRANT
            self.plot(line.xs, line.ys, line_style=line_style, hires_mode=mode)
        if mark is not None:
            self.add_v_line(mark, line_style=mark_style)
