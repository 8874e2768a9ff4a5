"""Tests of the Logs screen: every action by its key, on real files."""

import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from textual import timer
from textual.pilot import Pilot
from textual.scrollbar import ScrollTo
from textual.widgets import Input

from ops.config.settings import Settings
from ops.journal.journal import Journal
from ops.journal.recorder import record_run
from tests.support.consoles import packet, until
from tests.tui.logs.writing import event
from tui.logs.document import NOTICE
from tui.logs.index import SparseIndex
from tui.logs.pane import LogsPane
from tui.logs.scan import Scan
from tui.logs.view import LogView
from tui.shell.app import ConsoleApp
from tui.shell.context import ConsoleContext
from tui.shell.messages import OpenLog
from tui.widgets.table import Table

COUNT = 400
NOW = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A supervisor's log: every tenth line run 3's, every hundredth an error with a traceback."""
    settings = Settings.from_environ({"MATERIA_DATA_DIR": str(tmp_path / "data")})
    settings.log_dir.mkdir(parents=True)
    with (settings.log_dir / "supervisor.log").open("w") as log:
        for number in range(COUNT):
            level = "ERROR" if number % 100 == 55 else "INFO"
            log.write(event(number, level, 3 if number % 10 == 0 else 1))
            if level == "ERROR":
                log.write("    ValueError: no\n")
    return settings


LINES = COUNT + 4


@asynccontextmanager
async def console(settings: Settings, size: tuple[int, int] = (100, 30)) -> AsyncIterator[Pilot[None]]:
    context = ConsoleContext(settings, True, lambda: pytest.fail("no log needs the serving store"), lambda: NOW)
    app = ConsoleApp(context, first="logs")
    async with app.run_test(size=size) as pilot:
        await settled(pilot)
        yield pilot


async def settled(pilot: Pilot[None]) -> None:
    """Wait until scanning, indexing and drawing are finished."""
    pane = pilot.app.query_one(LogsPane)
    for _ in range(400):
        await pilot.pause(0.03)
        reading = pane._reading
        scans = [scan for scan in (reading._shown, reading._found) if scan] if reading else []
        counted = reading is None or reading.document.line_count is not None
        if pane._sources and counted and not pane._drawing and all(scan.finished for scan in scans):
            await pilot.pause()
            if not pane._drawing:
                return
    raise AssertionError("the screen does not settle")


def view_of(pilot: Pilot[None]) -> LogView:
    return pilot.app.query_one(LogView)


def shown(pilot: Pilot[None]) -> list[str]:
    view = view_of(pilot)
    rows = [view.render_line(y).text.rstrip() for y in range(view.size.height)]
    return [row for row in rows if row]


def facts(pilot: Pilot[None]) -> str:
    return str(pilot.app.query_one("#logs-facts").render())


def filter_facts(pilot: Pilot[None]) -> str:
    return str(pilot.app.query_one("#logs-filter").render())


async def typed(pilot: Pilot[None], key: str, text: str) -> None:
    await pilot.press(key)
    pilot.app.query_one("#logs-prompt", Input).value = text
    await pilot.press("enter")
    await settled(pilot)


async def test_the_first_log_is_shown_at_its_end_and_followed(settings: Settings) -> None:
    async with console(settings) as pilot:
        assert "supervisor · ▼ following" in facts(pilot)
        assert f"line {LINES} of {LINES}" in facts(pilot)
        assert shown(pilot)[-1].endswith("number=399")
        with (settings.log_dir / "supervisor.log").open("a") as log:
            log.write(event(COUNT))
        await until(pilot, lambda: shown(pilot)[-1].endswith("number=400"))


async def test_follow_stays_where_it_is_when_turned_off(settings: Settings) -> None:
    async with console(settings) as pilot:
        await pilot.press("F")
        before = shown(pilot)
        with (settings.log_dir / "supervisor.log").open("a") as log:
            log.write(event(COUNT))
        await until(pilot, lambda: f"of {LINES + 1}" in facts(pilot))
        assert shown(pilot) == before
        await pilot.press("F")
        assert shown(pilot)[-1].endswith("number=400")


async def test_start_end_and_the_arrows_move_the_cursor(settings: Settings) -> None:
    async with console(settings) as pilot:
        await pilot.press("g")
        assert f"line 1 of {LINES}" in facts(pilot)
        await pilot.press("down", "down", "up", "pagedown")
        height = view_of(pilot).size.height
        assert f"line {height + 1} of" in facts(pilot)
        await pilot.press("pageup", "G")
        assert f"line {LINES} of" in facts(pilot)
        assert view_of(pilot).follow


async def test_search_goes_to_the_nearest_match_and_on_from_there(settings: Settings) -> None:
    async with console(settings) as pilot:
        await typed(pilot, "slash", "number=25")
        assert '"number=25": 11 of 11 lines' in filter_facts(pilot)
        assert "21:04:19" in facts(pilot)
        await pilot.press("N")
        assert "10 of 11" in filter_facts(pilot)
        await pilot.press("n", "n")
        assert "11 of 11" in filter_facts(pilot)
        await typed(pilot, "slash", "/number=\\d00$/")
        assert "3 lines" in filter_facts(pilot)
        await pilot.press("escape")
        assert filter_facts(pilot) == ""


async def test_a_question_its_answer_and_its_end_leave_the_log_where_it_is(settings: Settings) -> None:
    async with console(settings) as pilot:
        before, region = shown(pilot), view_of(pilot).region
        await pilot.press("slash")
        assert (view_of(pilot).region, shown(pilot)) == (region, before)
        await pilot.press(*"number=399", "enter")
        await until(pilot, lambda: "1 line" in filter_facts(pilot))
        assert (view_of(pilot).region, shown(pilot)) == (region, before)
        await pilot.press("escape", "ampersand", "escape")
        assert (view_of(pilot).region, shown(pilot), filter_facts(pilot)) == (region, before, "")


async def test_a_question_asked_right_after_another_stays(settings: Settings) -> None:
    async with console(settings) as pilot:
        pane, prompt = pilot.app.query_one(LogsPane), pilot.app.query_one("#logs-prompt", Input)
        await pilot.press("slash")
        pane.action_clear()
        pane.action_time()
        await settled(pilot)
        assert prompt.display and prompt.has_focus
        assert "go to" in prompt.placeholder


async def test_hide_shows_only_what_matches(settings: Settings) -> None:
    async with console(settings) as pilot:
        await typed(pilot, "ampersand", "/number=3[0-3]$/")
        assert [row[-2:] for row in shown(pilot)] == ["30", "31", "32", "33"]
        await typed(pilot, "ampersand", "")
        assert len(shown(pilot)) > 20


async def test_hiding_lines_leaves_the_cursor_where_it_is_or_at_the_nearest_line_before(settings: Settings) -> None:
    async with console(settings) as pilot:
        await typed(pilot, "colon", "121")
        await typed(pilot, "ampersand", "number=1")
        assert view_of(pilot).copied_line().endswith("number=119")
        await pilot.press("escape")
        await settled(pilot)
        assert view_of(pilot).copied_line().endswith("number=119")


@contextmanager
def held_back(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, is_held: Callable[[Any], bool] = lambda _: True
) -> Iterator[None]:
    """Delay calls of these functions from threads until the block ends."""
    called, over = getattr(owner, name), threading.Event()

    def late(self: Any, *arguments: Any) -> None:
        if is_held(self):
            over.wait(60)
        called(self, *arguments)

    monkeypatch.setattr(owner, name, late)
    try:
        yield
    finally:
        over.set()


def hiding_takes_long(monkeypatch: pytest.MonkeyPatch) -> AbstractContextManager[None]:
    """Delay the scan of the filter until the block ends, but not that of the search (two terms)."""
    return held_back(monkeypatch, Scan, "_add_reports", lambda scan: len(scan.line_filter.terms) == 1)


async def test_a_match_that_is_found_before_it_is_known_to_be_shown_is_gone_to(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with console(settings) as pilot:
        with hiding_takes_long(monkeypatch):
            packet(pilot, "&number=1\r/number=123\r")
            await until(pilot, lambda: '"number=123": 1 line' in filter_facts(pilot))
            await until(pilot, lambda: not pilot.app.query_one(LogsPane)._reading.is_match_pending)
            assert not shown(pilot), "the filter is not scanned yet"
        await settled(pilot)
        assert view_of(pilot).copied_line().endswith("number=123")


async def test_keys_in_one_packet_with_an_answer_act_on_what_it_leads_to(settings: Settings) -> None:
    async with console(settings) as pilot:
        for keys, line, filtered in (
            ("&number=\rm", LINES, 'only "number=", INFO and above'),
            (":11\r=", 11, "only run 3"),
            (":11\rj", 12, ""),
            ("t21:00:10\rk", 10, ""),
            (":101\r/number=\rN", 100, 'search "number="'),
            ("/number=\r:11\r", 11, 'search "number="'),
        ):
            packet(pilot, keys)
            await until(pilot, lambda: filter_facts(pilot).startswith(filtered) and f"line {line} of" in facts(pilot))  # noqa: B023
            await settled(pilot)
            assert f"line {line} of" in facts(pilot)
            await pilot.press("escape", "escape", "G")
            await settled(pilot)


async def test_a_match_is_gone_to_though_lines_are_hidden_meanwhile(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with console(settings) as pilot:
        with hiding_takes_long(monkeypatch):
            await pilot.press("slash", *"55", "enter", "m")
            assert pilot.app.query_one(LogsPane)._reading.is_match_pending
        await settled(pilot)
        assert view_of(pilot).copied_line().endswith("number=355")


async def test_a_match_found_after_the_user_moved_on_is_not_shown(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with console(settings) as pilot:
        with hiding_takes_long(monkeypatch):
            await pilot.press("slash", *"55", "enter", "g")
        await settled(pilot)
        assert f"line 1 of {LINES}" in facts(pilot)


async def test_hidden_lines_stay_hidden_while_the_log_grows(settings: Settings) -> None:
    async with console(settings) as pilot:
        await typed(pilot, "ampersand", "probe")
        assert shown(pilot) == []
        with (settings.log_dir / "supervisor.log").open("a") as log:
            log.write(event(COUNT) + event(401, text="probe"))
        for _ in range(100):
            await pilot.pause(0.05)
            if shown(pilot):
                break
        assert [row[-3:] for row in shown(pilot)] == ["401"]


async def test_level_hides_what_is_below_and_keeps_the_traceback(settings: Settings) -> None:
    async with console(settings) as pilot:
        await pilot.press("m", "m", "m")
        await settled(pilot)
        rows = shown(pilot)
        assert len(rows) == 8
        assert rows[0].startswith("✗ 21:00:55")
        assert rows[1].strip() == "ValueError: no"
        await pilot.press("m")
        await settled(pilot)
        assert len(shown(pilot)) > 20


async def test_run_shows_the_run_of_the_line_and_every_run_again(settings: Settings) -> None:
    async with console(settings) as pilot:
        await typed(pilot, "colon", "11")
        await pilot.press("equals_sign")
        await settled(pilot)
        assert "run 3: 40 lines" in filter_facts(pilot)
        assert all("run=3 " in row for row in shown(pilot))
        await pilot.press("equals_sign")
        await settled(pilot)
        assert any("run=1 " in row for row in shown(pilot))
        await typed(pilot, "colon", "57")
        await typed(pilot, "equals_sign", "1")
        assert "run 1: 364 lines" in filter_facts(pilot)


async def test_time_goes_to_the_first_line_of_that_time(settings: Settings) -> None:
    async with console(settings) as pilot:
        await typed(pilot, "t", "21:02:30")
        assert "2026-11-21 21:02:30 UTC" in facts(pilot)
        await typed(pilot, "t", "1m ago")
        assert "21:05:39 UTC" in facts(pilot)
        await pilot.press("t")
        pilot.app.query_one("#logs-prompt", Input).value = "soon"
        await pilot.press("enter")
        assert pilot.app.query_one("#logs-prompt").display, "a wrong answer leaves the question open"


async def test_wrap_shows_the_whole_of_a_long_line(settings: Settings) -> None:
    with (settings.log_dir / "supervisor.log").open("a") as log:
        log.write(event(COUNT, text="x" * 300 + " tail-of-it"))
    async with console(settings) as pilot:
        assert "tail-of-it" not in " ".join(shown(pilot))
        await pilot.press("z")
        assert "tail-of-it" in " ".join(shown(pilot))
        await pilot.press("z")
        for _ in range(15):
            await pilot.press("right")
        assert "tail-of-it" in " ".join(shown(pilot))


async def test_copy_takes_the_line_without_its_secret(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HETZNER_TOKEN", "canary-token-1")
    with (settings.log_dir / "supervisor.log").open("a") as log:
        log.write(event(COUNT, text="canary-token-1"))
    async with console(settings) as pilot:
        assert "canary" not in " ".join(shown(pilot))
        await pilot.press("y")
        assert pilot.app.clipboard == event(COUNT, text="***").rstrip("\n")


async def test_open_run_goes_to_the_run_of_the_line(settings: Settings) -> None:
    async with console(settings) as pilot:
        await pilot.press("enter")
        await until(pilot, lambda: pilot.app.shown_pane.PANE_ID == "runs")


async def test_the_list_opens_the_log_of_a_run(settings: Settings) -> None:
    with Journal(settings.journal_path) as journal, record_run(journal, "extract", log_dir=settings.log_dir):
        pass
    async with console(settings) as pilot:
        pilot.app.query_one(Table).focus()
        await pilot.press("down", "enter")
        await settled(pilot)
        assert "run 1 extract" in facts(pilot)
        assert "run done" in shown(pilot)[-1]


async def test_the_list_takes_the_place_of_the_log_where_there_is_no_room(settings: Settings) -> None:
    async with console(settings, (60, 20)) as pilot:
        assert pilot.app.query_one("#logs-sources").region.width == 0
        await pilot.press("b")
        await pilot.pause()
        assert pilot.app.query_one("#logs-sources").region.width == 60
        await pilot.press("b")
        await pilot.pause()
        assert view_of(pilot).region.width == 60


async def test_the_list_gives_way_to_the_log_that_is_chosen_and_to_a_question(settings: Settings) -> None:
    async with console(settings, (60, 20)) as pilot:
        for keys in ("\r", "/error"):
            packet(pilot, "b")
            await until(pilot, lambda: pilot.app.query_one("#logs-list").has_focus)
            packet(pilot, keys)
            await until(pilot, lambda: view_of(pilot).region.width == 60)
        await until(pilot, lambda: pilot.app.query_one("#logs-prompt", Input).value == "error")


async def test_another_screen_opens_a_log_at_a_line(settings: Settings) -> None:
    other = settings.log_dir / "run-3.log"
    other.write_text("".join(event(number) for number in range(5_000)))
    async with console(settings) as pilot:
        pilot.app.screen.post_message(OpenLog(other, 3, at_line=1_234))
        await until(pilot, lambda: "line 1,234 of 5,000" in facts(pilot))
        pilot.app.screen.post_message(OpenLog(settings.log_dir / "supervisor.log", 3))
        await until(pilot, lambda: "run 3: 40 lines" in filter_facts(pilot))


async def test_an_uncounted_line_is_shown_later_unless_the_user_goes_elsewhere(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = settings.log_dir / "supervisor.log"
    async with console(settings) as pilot:
        for key, line in (("", 121), ("g", 1)):
            with held_back(monkeypatch, SparseIndex, "advance"):
                pilot.app.screen.post_message(OpenLog(log, at_line=121))
                await until(pilot, lambda: "indexed 0 %" in facts(pilot))
                await pilot.press(*key)
            await until(pilot, lambda: f"of {LINES}" in facts(pilot))
            await settled(pilot)
            assert f"line {line} of" in facts(pilot)


async def test_a_line_that_there_is_not_is_not_gone_to_when_there_is_one(settings: Settings) -> None:
    log = settings.log_dir / "supervisor.log"
    async with console(settings) as pilot:
        pilot.app.screen.post_message(OpenLog(log, at_line=LINES + 1))
        await until(pilot, lambda: [notice.message for notice in pilot.app._notifications])
        assert "the log has only 404 lines" in [notice.message for notice in pilot.app._notifications]
        await pilot.press("g")
        with log.open("a") as more:
            more.write(event(COUNT))
        await until(pilot, lambda: f"line 1 of {LINES + 1}" in facts(pilot))
        await settled(pilot)
        assert f"line 1 of {LINES + 1}" in facts(pilot)


async def test_the_bar_dragged_to_its_end_shows_the_end_of_the_log(settings: Settings) -> None:
    async with console(settings) as pilot:
        await pilot.press("g")
        bar = view_of(pilot)._bar
        bar.post_message(ScrollTo(y=bar.window_virtual_size - bar.window_size))
        await until(pilot, lambda: f"line {LINES} of" in facts(pilot))
        assert shown(pilot)[-1].endswith("number=399")


async def test_a_log_opened_while_hidden_is_read_once_shown(settings: Settings) -> None:
    async with console(settings) as pilot:
        await pilot.press("1")
        await until(pilot, lambda: pilot.app.shown_pane.PANE_ID == "overview")
        pane = pilot.app.query_one(LogsPane)
        pane._open(pane._source)
        assert not pane._reading.document._awake.is_set()
        with (settings.log_dir / "supervisor.log").open("a") as log:
            log.write(event(COUNT))
        await pilot.press("5")
        await until(pilot, lambda: shown(pilot) and shown(pilot)[-1].endswith("number=400"))


async def test_a_deleted_and_recreated_log_is_reported(settings: Settings) -> None:
    log = settings.log_dir / "supervisor.log"
    async with console(settings) as pilot:
        log.rename(log.with_name("elsewhere"))
        await until(pilot, lambda: "supervisor.log was deleted" in facts(pilot))
        log.with_name("elsewhere").rename(log)
        await until(pilot, lambda: "▼ following" in facts(pilot))


async def test_a_process_held_up_while_a_timer_begins_draws_and_looks_all_the_same(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clock() -> float:
        """Ten seconds pass between a timer's start and its next look at the clock."""
        return time.monotonic() + (10.0 if "start" in sys._getframe(1).f_locals else 0.0)

    async with console(settings) as pilot:
        pane = pilot.app.query_one(LogsPane)
        monkeypatch.setattr(timer._time, "get_time", clock)
        pane._on_log_changed()
        await until(pilot, lambda: not pane._drawing)
        pane.POLL_S = 0.1
        for look in (pane.look_again, lambda: None):
            seen = pane._sources
            look()
            await until(pilot, lambda: pane._sources is not seen)  # noqa: B023


async def test_a_rotation_is_marked_where_it_happened(settings: Settings) -> None:
    log = settings.log_dir / "supervisor.log"
    async with console(settings) as pilot:
        log.rename(f"{log}.1")
        log.write_text(event(COUNT))
        await until(pilot, lambda: "rotated here" in " ".join(shown(pilot)))
        rows = shown(pilot)
        assert (rows[-3][-3:], rows[-2].strip(), rows[-1][-3:]) == ("399", "── rotated here ──", "400")
        await pilot.press("up")
        assert view_of(pilot).cursor.offset == NOTICE


async def test_truncation_under_the_cursor_leaves_a_log_to_read(settings: Settings) -> None:
    log = settings.log_dir / "supervisor.log"
    async with console(settings) as pilot:
        await typed(pilot, "colon", "100")
        log.write_text(event(7))
        await until(pilot, lambda: "truncated" in " ".join(shown(pilot)))
        assert [row[-3:] for row in shown(pilot)][-1] == "r=7"


async def test_garbage_and_endless_lines_do_no_harm(settings: Settings) -> None:
    with (settings.log_dir / "supervisor.log").open("ab") as log:
        log.write(bytes(range(256)) * 50 + b"\n" + b"\xf0\x9f\x98\x80" * 3_000_000 + b"\n\x1b[2J\x1b]0;owned\x07end\n")
    async with console(settings, (80, 24)) as pilot:
        assert all(char.isprintable() for row in shown(pilot) for char in row)
        assert shown(pilot)[-1].endswith("␛[2J␛]0;owned␇end")
        for key in ("up", "z", "up", "up", "right", "z", "right", "pageup", "g", "G"):
            await pilot.press(key)
        assert shown(pilot)


async def test_without_a_log_the_next_command_is_shown(tmp_path: Path) -> None:
    settings = Settings.from_environ({"MATERIA_DATA_DIR": str(tmp_path)})
    async with ConsoleApp(ConsoleContext(settings, True, lambda: pytest.fail(""), lambda: NOW), first="logs").run_test(
        size=(120, 30)
    ) as pilot:
        table = pilot.app.query_one(Table)
        await until(
            pilot, lambda: any("materia run-all" in table.render_line(y).text for y in range(table.size.height))
        )
        for key in ("F", "g", "G", "z", "y", "n", "m", "equals_sign", "escape", "enter", "down", "pageup"):
            await pilot.press(key)
        prompt = pilot.app.query_one("#logs-prompt", Input)
        await pilot.press("slash", *"lost", "enter")
        assert (prompt.value, prompt.has_focus) == ("lost", True), "what was typed is not thrown away"
        await pilot.press("escape")
        await until(pilot, lambda: not prompt.display)


@pytest.mark.parametrize("size", [(80, 24), (140, 40), (60, 20)])
async def test_the_screen_fits_its_terminal(settings: Settings, size: tuple[int, int]) -> None:
    async with console(settings, size) as pilot:
        await pilot.press("m", "m")
        await settled(pilot)
        view = view_of(pilot)
        strips = [view.render_line(y) for y in range(view.size.height)]
        assert {strip.cell_length for strip in strips} == {view.size.width}
        stamp = "2026-11-21T21:05:55.000Z ERROR" if view.size.width >= 110 else "21:05:55"
        assert shown(pilot)[-2] == f"✗ {stamp} run=1 step=land landed number=355"
        assert view.region.bottom <= size[1] - 1
