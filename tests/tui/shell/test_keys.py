"""Keys that arrive in one packet have the same effect as keys typed one by one."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from textual import events
from textual.app import App
from textual.widgets import Input

import tui.shell.keys
from tests.support.consoles import packet, screen_of, until
from tests.support.served import Served
from tests.tui.building import console_on
from tui.logs.pane import LogsPane
from tui.logs.view import LogView
from tui.query.body import QueryBody
from tui.shell.app import ConsoleApp
from tui.shell.help import HelpScreen
from tui.workers.pane import WorkersPane


@pytest.fixture
def logs_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    lines = (f"2026-11-21T21:00:{n:02d}.000Z INFO run={n} number={n}\n" for n in range(60))
    (folder / "supervisor.log").write_text("".join(lines))
    return tmp_path


def line_of(app: App[None]) -> str:
    return app.query_one(LogView).copied_line()


@pytest.mark.parametrize(
    ("keys", "line", "facts"),
    [
        ("5/number=2\r", "number=29", '"number=2": 11 of 11 lines'),
        ("5/number=2\rNN", "number=27", '"number=2": 9 of 11 lines'),
        ("5:12\r", "number=11", ""),
        ("5&number=5\r/number=52\r", "number=52", '"number=52": 1 of 1 line'),
        ("5t21:00:07\r", "number=7", ""),
        ("5/sor\x1b[27ug", "number=0", ""),
    ],
)
async def test_a_log_is_asked_what_was_typed(logs_dir: Path, keys: str, line: str, facts: str) -> None:
    app = console_on(logs_dir)
    async with app.run_test(size=(120, 36)) as pilot:
        packet(pilot, keys)
        await until(pilot, lambda: line_of(app).endswith(line))
        await until(pilot, lambda: facts in str(app.query_one("#logs-filter").render()))
        await until(pilot, lambda: not app.query_one("#logs-prompt").display)
        assert app.query_one(LogView).has_focus
        assert app.shown_pane is app.query_one(LogsPane)
        assert not app._notifications


async def test_a_question_goes_away_however_late_it_learns_that_it_has_the_keys_no_more(
    logs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def late(prompt: Input, event: events.Blur) -> None:
        await asyncio.sleep(0.3)

    monkeypatch.setattr(Input, "_on_blur", late)
    app = console_on(logs_dir)
    async with app.run_test(size=(120, 36)) as pilot:
        packet(pilot, "5/number=2\r")
        await until(pilot, lambda: line_of(app).endswith("number=29"))
        await until(pilot, lambda: not app.query_one("#logs-prompt").display)


async def test_letters_of_a_filter_start_nothing(failing_dir: Path) -> None:
    app = console_on(failing_dir)
    async with app.run_test(size=(120, 36)) as pilot:
        packet(pilot, "2/sextract\r")
        await until(
            pilot, lambda: app.query("#runs-filter") and app.query_one("#runs-filter", Input).value == "sextract"
        )
        assert app.screen is app.screen_stack[0], "the s of a word asked to start a pipeline"


async def test_a_key_that_arrives_while_the_console_closes_is_dropped(healthy_dir: Path) -> None:
    app = console_on(healthy_dir)
    async with app.run_test():
        pass
    assert not app.screen_stack
    for is_forwarded in (False, True):
        key = events.Key("enter", "\r")
        if is_forwarded:
            key._set_forwarded()
        await app.on_event(key)


async def test_a_screen_that_a_key_opens_has_the_keys_after_it(healthy_dir: Path) -> None:
    app = console_on(healthy_dir)
    async with app.run_test() as pilot:
        packet(pilot, "?\x1b[27u2?")
        await until(pilot, lambda: app.shown_pane.PANE_ID == "runs" and isinstance(app.screen, HelpScreen))
        assert len(app.screen_stack) == 2


async def test_a_statement_is_typed_and_run(served: Served) -> None:
    app = ConsoleApp(served.context)
    async with app.run_test(size=(120, 36)) as pilot:
        packet(pilot, "3\x01SELECT 40 +\r 2\x1b[106;5u")
        await until(pilot, lambda: app.query_one(QueryBody).shown)
        assert app.query_one(QueryBody).shown.sql == "SELECT 40 +\n 2"


async def test_what_is_pasted_while_a_screen_opens_arrives_in_it(served: Served) -> None:
    app = ConsoleApp(served.context)
    async with app.run_test(size=(120, 36)) as pilot:
        packet(pilot, "3\x1b[200~SELECT 6 * 7 -- \x1b[201~")
        await until(pilot, lambda: "SELECT 6 * 7" in screen_of(pilot))


async def test_the_console_can_be_left_while_a_screen_opens(served: Served) -> None:
    app = ConsoleApp(served.context)
    async with app.run_test() as pilot:
        packet(pilot, "3")
        while not app.query(QueryBody):
            await asyncio.sleep(0)


@contextmanager
def hanging_look(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep the Workers screen empty during the block."""
    over = threading.Event()
    monkeypatch.setattr(WorkersPane, "look", lambda _: (over.wait(60), None)[1])
    try:
        yield
    finally:
        over.set()


@pytest.mark.parametrize(
    ("keys", "patience_s"), [("6?", 600), ("6/?", 0.5)], ids=["left at once", "a key for it waits for a moment only"]
)
async def test_a_screen_that_never_shows_anything_can_be_left(
    healthy_dir: Path, monkeypatch: pytest.MonkeyPatch, keys: str, patience_s: float
) -> None:
    monkeypatch.setattr(tui.shell.keys, "_MAX_WAIT_S", patience_s)
    app = console_on(healthy_dir)
    async with app.run_test() as pilot:
        with hanging_look(monkeypatch):
            packet(pilot, keys)
            await until(pilot, lambda: isinstance(app.screen, HelpScreen))
            assert app.shown_pane.PANE_ID == "workers"
