"""Tests that the cursor row and charts are readable in every theme."""

from pathlib import Path

from textual.color import Color
from textual.pilot import Pilot

from tests.support.consoles import until
from tests.support.served import Served
from tests.tui.building import console_on
from tui.shell.app import ConsoleApp
from tui.shell.messages import OpenFact
from tui.widgets.table import Table

READABLE = 3.0
"""The minimum contrast of large text (WCAG 2.2, 1.4.3)."""


async def test_the_row_under_the_cursor_can_be_read_in_every_theme(healthy_dir: Path) -> None:
    app = console_on(healthy_dir)
    async with app.run_test(size=(100, 30)) as pilot:
        table = app.query_one("#pipelines", Table)
        await until(pilot, lambda: table.rows)
        table.focus()
        contrasts = {}
        for name in app.available_themes:
            app.theme = name
            await pilot.pause()
            style = next(segment.style for segment in table.render_line(1) if segment.text.strip())
            if style.color.triplet and style.bgcolor.triplet:  # else it is the terminal's own colour
                contrasts[name] = contrast(Color(*style.color.triplet), Color(*style.bgcolor.triplet))
        assert len(contrasts) > 15
        assert {name: ratio for name, ratio in contrasts.items() if ratio < READABLE} == {}


async def test_a_chart_s_lines_can_be_read_on_a_light_and_on_a_dark_ground(served: Served) -> None:
    from tui.widgets.plot import LineChart

    app = ConsoleApp(served.context, first="releases")
    async with app.run_test(size=(140, 40)) as pilot:
        app.post_message(OpenFact("0410000", "US", 2025, "028"))
        await until(pilot, lambda: app.query_one(LineChart)._datasets)
        for theme in ("textual-light", "textual-dark"):
            app.theme = theme
            ground = Color.parse(app.theme_variables["background"])
            await until(pilot, lambda ground=ground: contrast(drawn_in(pilot), ground) > READABLE)


def drawn_in(pilot: Pilot[None]) -> Color:
    """The colour of the chart's level lines, which are drawn in half blocks."""
    strips = pilot.app.screen._compositor.render_strips()
    lines = [
        segment for strip in strips for segment in strip if any("▀" <= character <= "▟" for character in segment.text)
    ]
    return Color(*lines[0].style.color.triplet) if lines else Color(0, 0, 0)


def contrast(one: Color, other: Color) -> float:
    """From 1, the same, to 21, black on white (WCAG 2.2)."""
    dark, light = sorted(map(_luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: Color) -> float:
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in color.normalized]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
