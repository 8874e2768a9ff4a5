"""Lines over an axis of days or numbers: `textual-plot`, in the console's quiet colours. Imports numpy."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import ClassVar

from textual.reactive import reactive
from textual_plot import AxisFormatter, HiResMode, NumericAxisFormatter, PlotWidget

_MOST_TICKS = 12


@dataclass(frozen=True)
class Line:
    """Points that are joined; x in days (`date.toordinal`) on an axis of days."""

    xs: tuple[float, ...]
    ys: tuple[float, ...]


class DayAxis(AxisFormatter):
    """Ticks on days, as many as have room."""

    def get_ticks(self, min_: float, max_: float, max_ticks: int = 8) -> list[float]:
        count = max(2, min(max_ticks, _MOST_TICKS, int(max_ - min_) + 1))
        return sorted({float(round(min_ + (max_ - min_) * i / (count - 1))) for i in range(count)})

    def get_labels_for_ticks(self, ticks: Sequence[float]) -> list[str]:
        apart = min((b - a for a, b in itertools.pairwise(ticks)), default=0.0)
        return [date.fromordinal(int(tick)).strftime("%Y-%m" if apart > 45 else "%m-%d") for tick in ticks]


class GroupedAxis(NumericAxisFormatter):
    """Ticks on numbers, thousands apart."""

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

    def draw(self, lines: Sequence[Line], axis: AxisFormatter, *, from_zero: bool = False) -> None:
        """Show these lines and nothing else, the whole of them."""
        self.clear()
        ys = [y for line in lines for y in line.ys]
        low, high = (min(ys), max(ys)) if ys else (0.0, 1.0)
        room = (high - low) * 0.08 or abs(high) * 0.05 or 1.0
        self.set_ylimits(0.0 if from_zero and low >= 0 else low - room, high + room)
        self.set_xlimits(None, None)
        labels = GroupedAxis()
        self.margin_left = 2 + max(map(len, labels.get_labels_for_ticks(labels.get_ticks(low, high))), default=8)
        self.set_x_formatter(axis)
        self.set_y_formatter(labels)
        for number, line in enumerate(lines):
            style = str(self.rich_style.color.name) if number == 0 and self.rich_style.color else "grey58"
            self.plot(line.xs, line.ys, line_style=style, hires_mode=HiResMode.BRAILLE)


def steps(points: Sequence[tuple[date, float]], until: date) -> Line:
    """Values that hold from their day to the next one's, the last one `until`, as a line of steps."""
    xs: list[float] = []
    ys: list[float] = []
    ends = [day for day, _ in points[1:]] + [max(until, points[-1][0])] if points else []
    for (day, value), end in zip(points, ends, strict=True):
        xs += [float(day.toordinal()), float(end.toordinal())]
        ys += [value, value]
    return Line(tuple(xs), tuple(ys))
