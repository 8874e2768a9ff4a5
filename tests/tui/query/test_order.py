"""Tests of the Query screen when answers, keys and swaps arrive out of order."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input

from tests.support.consoles import screen_of, until
from tests.support.served import Served, serve, served_console
from tests.tui.query.test_query_screen import Driven, driven
from tui.query.run import MIB, QueryLimits
from tui.query.session import QuerySession
from tui.query.spill import BATCH_ROWS, Spill
from tui.query.sql import View
from tui.shell.messages import RunQuery

ROWS = "SELECT j, j % 3 AS third, (SELECT min(generation) FROM serving.marker) AS generation FROM range(10000) AS t(j)"


@contextmanager
def held(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, holds: Callable[..., object]) -> Iterator[None]:
    """Delay the calls of `owner.name` for which `holds` is true until the block ends."""
    call, over = getattr(owner, name), threading.Event()

    def late(*arguments: Any) -> Any:
        if holds(*arguments):
            over.wait(60)
        return call(*arguments)

    monkeypatch.setattr(owner, name, late)
    try:
        yield
    finally:
        over.set()
        monkeypatch.setattr(owner, name, call)


@contextmanager
def rows_stop_coming(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Deliver the first rows of a result; the others follow after the block."""
    with held(monkeypatch, Spill, "append", lambda spill, _: spill.row_count >= BATCH_ROWS):
        yield


@contextmanager
def answers_are_late(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start no query before the end of the block."""
    with held(monkeypatch, QuerySession, "execute", lambda *_: True):
        yield


async def ask(screen: Driven, key: str, text: str) -> None:
    """Write `text` on the line that `key` opens."""
    await screen.press(key)
    screen.app.query_one("#line", Input).value = text
    await screen.press("enter")


async def test_rows_stay_readable_while_another_look_at_them_is_awaited(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with driven(served) as screen:
        with rows_stop_coming(monkeypatch):
            screen.app.post_message(RunQuery(ROWS))
            await until(screen.pilot, lambda: screen.body.shown)
            first = screen.body.shown
            screen.body.result.grid.focus()
            await screen.press("o", "o")
            assert screen.body.running is not first
            await screen.press("pagedown", "G")
            assert screen.body.result.grid.cell == ("j", BATCH_ROWS - 1)
        await screen.idle()
        assert (screen.body.shown.view, screen.rows[0][0], len(screen.rows)) == (View("j", True), 9999, 10_000)
        await until(screen.pilot, lambda: first.spill is None)


async def test_rows_are_exported_whole_though_others_take_their_place(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with driven(served) as screen:
        await screen.run(ROWS)
        entered = threading.Event()
        with held(monkeypatch, Spill, "batches", lambda *_: entered.set() or True):
            await ask(screen, "w", str(tmp_path / "out.csv"))
            await until(screen.pilot, entered.is_set)
            await screen.run("SELECT 1 AS one")
        await until(screen.pilot, (tmp_path / "out.csv").exists)
        assert len((tmp_path / "out.csv").read_text().splitlines()) == 10_001


async def test_looks_that_are_asked_for_before_an_answer_add_up_in_the_generation_of_the_rows(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with driven(served) as screen:
        await screen.run(ROWS)
        served.publish()
        await screen.press("down", "right")
        with answers_are_late(monkeypatch):
            await screen.press("o", "o", "equals_sign", "left", "equals_sign")
        await screen.idle()
        assert screen.text_of("error") == ""
        assert screen.body.shown.view.sort_column == "third" and screen.body.shown.view.descending
        assert screen.rows == [(1, 1, 1)]


async def test_a_look_at_rows_that_are_asked_for_again_is_one_at_the_newer_ones(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with driven(served) as screen:
        await screen.run(ROWS)
        served.publish()
        with answers_are_late(monkeypatch):
            await screen.press("f6", "o")
        await screen.idle()
        assert (screen.body.shown.generation.number, screen.body.shown.view) == (2, View("j"))


async def test_rows_alike_are_among_those_of_the_filter(served: Served) -> None:
    async with driven(served) as screen:
        await screen.run(ROWS)
        await ask(screen, "slash", "j = 4 OR j = 0")
        await screen.idle()
        await screen.press("right", "equals_sign")
        await screen.idle()
        assert [j for j, *_ in screen.rows] == [0]


async def test_new_data_moves_neither_cursor_nor_rows(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async with driven(served) as screen:
        await screen.run(ROWS)
        grid = screen.body.result.grid
        await screen.press("f6", "G", "up", "up")
        before = (grid.row, grid.scroll_offset)
        with rows_stop_coming(monkeypatch):
            served.publish()
            await until(screen.pilot, lambda: screen.body.running and screen.body.running.row_count)
            screen.body._progress()
            await screen.pilot.pause()
            assert "rows below are older: generation 1" in screen.text_of("result-line")
            assert (grid.row, grid.scroll_offset) == before
        await until(screen.pilot, lambda: screen.body.shown.generation.number == 2 and screen.body.running is None)
        await screen.pilot.pause()
        assert (grid.row, grid.scroll_offset, grid.cell) == (*before, ("j", 9997))


async def test_the_number_of_rows_and_the_chart_are_those_of_all_the_rows(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with driven(served) as screen:
        for charted in (False, True):
            with rows_stop_coming(monkeypatch):
                screen.app.post_message(RunQuery(f"{ROWS} -- {charted}"))
                await until(screen.pilot, lambda: screen.body.shown and screen.body.running is screen.body.shown)
                screen.body.result.grid.focus()
                if charted:
                    await screen.press("v")
                    await until(screen.pilot, lambda: "one of every 2 rows" in screen.text_of("cell"))
                else:
                    await until(screen.pilot, lambda: "row 1 of 2,048" in screen.text_of("cell"))
            await screen.idle()
            assert ("one of every 5 rows" if charted else "row 1 of 10,000") in screen.text_of("cell")


async def test_a_chart_goes_with_its_rows(served: Served) -> None:
    async with driven(served) as screen:
        await screen.run("SELECT j FROM range(5) AS t(j)")
        await screen.press("v")
        await until(screen.pilot, lambda: screen.body.result.charted)
        await screen.run("SELECT no_such_column")
        await until(screen.pilot, lambda: not screen.body.result.charted)


async def test_nothing_is_exported_when_read_only_mode_came_meanwhile(served: Served, tmp_path: Path) -> None:
    async with driven(served) as screen:
        await screen.run("SELECT 1 AS one")
        await screen.press("w")
        screen.app.query_one("#line", Input).value = str(tmp_path / "out.csv")
        await screen.press("ctrl+o", "enter")
        await until(screen.pilot, lambda: any("read-only" in each.message for each in screen.app._notifications))
        assert not (tmp_path / "out.csv").exists()


async def test_rows_of_an_older_generation_say_so_when_the_newer_one_gave_none(served: Served) -> None:
    async with driven(served) as screen:
        await screen.run("SELECT generation FROM serving.marker, serving.agg_world_balance")
        await screen.press("f6")
        serve(served.data_dir, without=("agg_world_balance",))
        await until(screen.pilot, lambda: "agg_world_balance" in screen.text_of("error"))
        await until(screen.pilot, lambda: "newer data is served" in screen.text_of("result-line"))
        assert "generation 1" in screen.text_of("result-line") and screen.rows[0] == (1,)


async def test_rows_stay_with_an_error_when_the_served_file_is_removed(served: Served) -> None:
    async with driven(served) as screen:
        await screen.run("SELECT 1 AS one")
        served.context.settings.serving_path.unlink()
        await screen.press("f5")
        await until(screen.pilot, lambda: "nothing is served" in screen.text_of("error"))
        assert screen.rows == [(1,)]
        assert "newer" not in screen.text_of("result-line")


@pytest.mark.usefixtures("homeless")
async def test_an_earlier_failure_is_not_mistaken_for_the_current_one(tmp_path: Path) -> None:
    async with driven(served_console(tmp_path)) as screen:
        await screen.run("SELECT no_such_column")
        assert "materia demo" in screen.text_of("hint")
        serve(tmp_path)
        await screen.press("f5")
        await until(screen.pilot, lambda: "no_such_column" in screen.text_of("error"))
        assert "materia demo" not in screen.text_of("hint")


async def test_a_raised_limit_holds_for_the_next_look_at_the_rows(served: Served) -> None:
    async with driven(served) as screen:
        screen.body._session.limit(QueryLimits(memory_bytes=64 * MIB))
        await screen.run(ROWS)
        screen.body._session.limit(QueryLimits(memory_bytes=128 * MIB))
        await screen.press("o")
        await screen.idle()
        assert screen.body.shown.pin.sandbox.memory_bytes == 128 * MIB
        assert screen.body.shown.view == View("j")


async def test_the_column_of_the_cursor_is_seen_whole_however_wide_it_becomes(served: Served) -> None:
    async with driven(served, size=(60, 24)) as screen:
        await screen.run("SELECT repeat('x', 30) AS a, repeat('x', 30) AS b, j AS number FROM range(5000) AS t(j)")
        grid = screen.body.result.grid
        await screen.press("end", "o")
        await screen.idle()
        assert "number ▲" in screen_of(screen.pilot)
        await screen.press("o", "G")
        await screen.idle()
        await until(screen.pilot, lambda: "number ▼" in screen_of(screen.pilot))
        assert grid.column == 2


async def test_the_limit_that_is_being_written_is_seen(served: Served) -> None:
    async with driven(served) as screen:
        await screen.press("escape", "L")
        await until(screen.pilot, lambda: screen.app.screen.query("#time"))
        await screen.pilot.pause()
        for name in ("time", "memory", "disk"):
            assert screen.app.screen.query_one(f"#{name}", Input).content_size.height == 1
            await screen.press("tab")


async def test_names_of_several_lines_leave_the_rows_where_they_are(served: Served) -> None:
    async with driven(served) as screen:
        await screen.run("SELECT 'a\nb' AS \"x\ny\", 1 AS one")
        await screen.press("o")
        await screen.idle()
        lines = screen_of(screen.pilot).splitlines()
        assert [line.split() for line in lines if "⏎" in line and "one" in line] == [["x⏎y", "▲", "one"]]
        assert "by x⏎y ▲" in screen.text_of("result-line") and "x⏎y: a⏎b" in screen.text_of("cell")


async def test_an_empty_editor_reports_that_there_is_no_query(served: Served) -> None:
    async with driven(served) as screen:
        screen.body.editor.text = ""
        await screen.press("f5")
        await until(screen.pilot, lambda: any("editor is empty" in each.message for each in screen.app._notifications))


async def test_a_stopped_refresh_keeps_the_rows_and_shows_their_age(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with driven(served) as screen:
        await screen.run(ROWS)
        await screen.press("G")
        served.publish()
        with rows_stop_coming(monkeypatch):
            await screen.press("f5")
            await until(screen.pilot, lambda: screen.body.running and screen.body.running.row_count)
            await screen.press("escape")
        await screen.idle()
        assert screen.body.result.grid.cell == ("j", 9999)
        assert "generation 1" in screen.text_of("result-line") and "newer data is served" in screen.text_of(
            "result-line"
        )


async def test_the_second_column_of_a_name_is_the_one_that_is_sorted_and_filtered(served: Served) -> None:
    async with driven(served) as screen:
        await screen.run("SELECT j AS a, -j AS a FROM range(3) AS t(j)")
        await screen.press("right", "o")
        await screen.idle()
        assert [row[1] for row in screen.rows] == [-2, -1, 0]
        await screen.press("equals_sign")
        await screen.idle()
        assert screen.text_of("error") == ""
        assert [row[1] for row in screen.rows] == [-2]


async def test_a_name_in_brackets_is_shown_unchanged(served: Served) -> None:
    async with driven(served) as screen:
        await screen.run("SELECT '[/x]'")
        await screen.press("Y")
        await until(screen.pilot, lambda: screen.app._notifications)
        assert [(each.message, each.markup) for each in screen.app._notifications] == [
            ("copied '[/x]' to the clipboard", False)
        ]
