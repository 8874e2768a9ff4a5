"""A screen on which nothing happens: over a slow line, whatever it writes is in the way of what is typed."""

from dataclasses import replace
from typing import Any

import pytest
from textual.widgets import TextArea

from tests.support.consoles import until
from tests.support.served import Served
from tui.app import ConsoleApp
from tui.pane import PANES
from tui.polled import PolledPane

_LOOKS = 5
_ROUNDS = 10


@pytest.mark.parametrize("screen", [pane_id for pane_id in PANES if pane_id != "query"])
async def test_a_screen_writes_nothing_as_long_as_nothing_happens(
    served: Served, monkeypatch: pytest.MonkeyPatch, screen: str
) -> None:
    now = served.context.clock()
    app = ConsoleApp(replace(served.context, clock=lambda: now), first=screen)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: app.shown_pane and app.shown_pane.drawn.is_set())
        pane = app.shown_pane
        assert isinstance(pane, PolledPane)
        looks: list[int] = []
        written: list[str] = []
        look = pane.look
        monkeypatch.setattr(pane, "look", lambda: (looks.append(1), look())[1])
        monkeypatch.setattr(type(pane), "POLL_S", 0.05)
        monkeypatch.setattr(app, "_display", lambda _, update: written.append(_bytes_of(app, update)))
        for _ in range(_ROUNDS):
            written.clear()
            seen = len(looks)
            pane.look_again()
            await until(pilot, lambda seen=seen: len(looks) > seen + _LOOKS)
            if not "".join(written):
                return
        pytest.fail(f"it does not come to rest: {written}")


async def test_the_cursor_of_the_editor_does_not_blink(served: Served) -> None:
    async with ConsoleApp(served.context, first="query").run_test() as pilot:
        await until(pilot, lambda: pilot.app.query_one(TextArea).has_focus)
        assert not pilot.app.query_one(TextArea).blink_timer._active.is_set()


def _bytes_of(app: ConsoleApp, update: Any) -> str:
    """What a terminal would be sent; a test's is sent nothing."""
    return "" if update is None else update.render_segments(app.console)
