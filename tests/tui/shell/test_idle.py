"""An idle screen must write nothing, because output delays input over a slow connection, and rarely wake up."""

import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import TextArea

from bench.pty_app import started
from tests.support.consoles import until
from tests.support.served import Served
from tests.tui.building import console_on
from tui.shell.app import ConsoleApp
from tui.shell.polled import PolledPane

_MAX_WAKEUPS_PER_S = 7
"""Waiting for keys wakes nothing, a screen that polls wakes three threads a second at most."""
_SETTLED_S, _WATCHED_S = 4.0, 4.0
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


@pytest.mark.parametrize("screen", ["query", "releases"])
def test_an_idle_console_rarely_wakes_up(healthy_dir: Path, screen: str) -> None:
    command = [sys.executable, "-m", "tui.shell.main", "--screen", screen]
    with started(command, os.environ | {"MATERIA_DATA_DIR": str(healthy_dir)}) as app:
        app.wait_for("Overview", timeout_s=60)
        app.drain(_SETTLED_S)
        before = _wakeups(app.pid)
        app.drain(_WATCHED_S)
        assert 0 < _wakeups(app.pid) - before <= _MAX_WAKEUPS_PER_S * _WATCHED_S


def _wakeups(pid: int) -> int:
    """How often the threads of a process have waited."""
    statuses = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status")]
    return sum(int(re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", status, re.MULTILINE)[0]) for status in statuses)


def _bytes_of(app: ConsoleApp, update: Any) -> str:
    """Record what a terminal would receive; the terminal of a test receives nothing."""
    return "" if update is None else update.render_segments(app.console)
