"""An idle screen must write nothing, because output delays input over a slow connection."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import TextArea

from tests.support.consoles import until
from tests.support.served import Served
from tests.tui.building import console_on
from tui.shell.app import ConsoleApp
from tui.shell.polled import PolledPane

_LOOKS = 5
_ROUNDS = 10


@pytest.mark.parametrize("screen", ["overview", "runs", "logs", "workers"])
async def test_a_screen_writes_nothing_as_long_as_nothing_happens(
    failing_dir: Path, monkeypatch: pytest.MonkeyPatch, screen: str
) -> None:
    await _comes_to_rest(console_on(failing_dir, first=screen), monkeypatch)


async def test_releases_write_nothing_as_long_as_nothing_is_published(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = served.context.clock()
    await _comes_to_rest(ConsoleApp(replace(served.context, clock=lambda: now), first="releases"), monkeypatch)


async def _comes_to_rest(app: ConsoleApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refresh the screen until a refresh writes nothing."""
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: app.shown_pane and app.shown_pane.drawn.is_set())
        pane = app.shown_pane
        assert isinstance(pane, PolledPane)
        looks: list[int] = []
        written: list[str] = []
        look = pane.look
        monkeypatch.setattr(pane, "look", lambda: (looks.append(1), look())[1])
        monkeypatch.setattr(app, "_display", lambda _, update: written.append(_bytes_of(app, update)))
        for _ in range(_ROUNDS):
            written.clear()
            for _ in range(_LOOKS):
                seen = len(looks)
                getattr(pane, "action_refresh", pane.look_again)()
                await until(pilot, lambda seen=seen: len(looks) > seen)
                await app.workers.wait_for_complete()
                await pilot.pause()
            if not "".join(written):
                return
        pytest.fail(f"it does not come to rest: {written}")


async def test_the_cursor_of_the_editor_does_not_blink(served: Served) -> None:
    async with ConsoleApp(served.context, first="query").run_test() as pilot:
        await until(pilot, lambda: pilot.app.query_one(TextArea).has_focus)
        assert not pilot.app.query_one(TextArea).blink_timer._active.is_set()


def _bytes_of(app: ConsoleApp, update: Any) -> str:
    """Record what a terminal would receive; the terminal of a test receives nothing."""
    return "" if update is None else update.render_segments(app.console)
