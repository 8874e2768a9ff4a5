"""Tests that errors and logs are shown unchanged, including brackets that look like markup."""

import random
from datetime import timedelta
from pathlib import Path

from textual.content import Content
from textual.widgets import Tooltip
from textual.widgets._toast import Toast

from tests.support.consoles import screen_of, until
from tests.tui.building import Past, console_on, settings_in
from tui.shell.app import ConsoleApp
from tui.widgets.source import PROJECT
from tui.widgets.table import Table
from tui.widgets.tones import toned

_BROKEN = "Trouble: [/data] list[Any] [b] is no place"
"""A closing tag without an opening one, which is an error to Textual; two tags that would not be shown."""


def test_a_text_in_a_tone_is_shown_as_it_is() -> None:
    chance = random.Random(3)
    texts = ["".join(chance.choices("[]/\\aB='\"$ 1.:@(),#-_", k=chance.randrange(1, 9))) for _ in range(5_000)]
    for text in (*texts, _BROKEN):
        shown = Content.from_markup(toned("before", "strong") + toned(text, "bad") + toned("after", "")).plain
        assert shown.replace(" ", "") == f"before{text}after".replace(" ", "")


def test_our_own_source_is_shown_as_it_is() -> None:
    for path in (PROJECT / "ops").rglob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            assert Content.from_markup(toned(line, "quiet")).plain.rstrip() == line.rstrip()


async def test_an_error_with_brackets_is_shown_unchanged(tmp_path: Path) -> None:
    past = Past(settings_in(tmp_path))
    steps = {"probes": 0.1, "download": 1.0}
    broken = {"steps": steps, "broken_step": "download", "error": _BROKEN, "error_detail": _BROKEN, "log": _BROKEN}
    past.run("extract", "failed", timedelta(hours=1), 1.5, **broken)
    past.close()
    app = console_on(tmp_path, first="runs")
    async with app.run_test(size=(140, 40), tooltips=True, notifications=True) as pilot:
        await until(pilot, lambda: app.query_one("#steps", Table).rows)
        assert all(_BROKEN in app.query_one(name).visual.plain for name in ("#error", "#traceback", "#log-tail"))
        await pilot.press("enter")
        await until(pilot, lambda: f"─ {_BROKEN}, began" in screen_of(pilot))
        await pilot.hover("#steps", offset=(3, 2))
        await until(pilot, lambda: app.screen.query_one(Tooltip).display)
        assert app.screen.query_one(Tooltip).visual.plain.startswith(_BROKEN)
        app.shown_pane.notify(f"message {_BROKEN}", title=f"title {_BROKEN}")
        await until(pilot, lambda: {f"message {_BROKEN}", f"title {_BROKEN}"} <= set(_toasts(app)))


def _toasts(app: ConsoleApp) -> list[str]:
    return [line.strip() for toast in app.screen.query(Toast) for line in toast.render().plain.splitlines()]
