"""Tests of the Releases screen when answers, keys and generations arrive out of order."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pytest
from textual.widgets import Input

from ops.pipelines import release_changes
from ops.pipelines.release_changes import FactKey
from tests.support.consoles import packet, until
from tests.support.served import Served
from tests.tui.releases.test_releases_screen import PRODUCTION, Driven, driven
from tui.releases import pane as releases_pane
from tui.releases import questions
from tui.releases.pane import ReleasesPane
from tui.releases.snapshot import ReleasesSnapshot, Selection
from tui.shell.messages import OpenFact, OpenRelease
from tui.widgets.panel import Panel
from tui.widgets.table import Table

BETWEEN = date(2025, 7, 11)


@dataclass
class Slow:
    """Delays the snapshots of selections for which `holds` is true until released."""

    holds: Callable[[Selection], bool] = lambda selection: False
    asked: threading.Event = field(default_factory=threading.Event)
    free: threading.Event = field(default_factory=threading.Event)
    answered: threading.Event = field(default_factory=threading.Event)

    def take(self, reader: Any, selection: Selection, today: date, checked_on: Any) -> ReleasesSnapshot:
        is_held = self.holds(selection)
        seen = _take(reader, selection, today, checked_on)
        if is_held:
            self.asked.set()
            self.free.wait(20)
            self.answered.set()
        return seen


_take = releases_pane.read_releases


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    """Disable polling, so that only the last answer is shown."""
    slow = Slow()
    monkeypatch.setattr(releases_pane, "read_releases", slow.take)
    monkeypatch.setattr(ReleasesPane, "POLL_S", 3600.0)
    yield slow
    slow.free.set()


async def open_production(screen: Driven) -> None:
    screen.app.post_message(OpenFact("0410000", "US", 2025, "028"))
    await until(screen.pilot, lambda: screen.table("sheet") and screen.app.focused is screen.app.query_one("#sheet"))


@pytest.mark.parametrize("view", ["release", "fact"])
async def test_looking_again_draws_nothing_where_nothing_is_new(
    served: Served, monkeypatch: pytest.MonkeyPatch, view: str
) -> None:
    monkeypatch.setattr(ReleasesPane, "POLL_S", 0.02)
    async with driven(served) as screen:
        if view == "fact":
            await open_production(screen)
        look, draw, looks_since_drawn = screen.pane.look, screen.pane.draw, []

        def count() -> Any:
            looks_since_drawn.append(1)
            return look()

        def forget(answer: Any) -> None:
            looks_since_drawn.clear()
            draw(answer)

        monkeypatch.setattr(screen.pane, "look", count)
        monkeypatch.setattr(screen.pane, "draw", forget)
        monkeypatch.setattr(screen.app, "_display", lambda *painted: looks_since_drawn.clear())
        await until(screen.pilot, lambda: len(looks_since_drawn) > 10)


async def test_an_abandoned_selection_can_be_repeated_after_its_late_answer_was_ignored(
    served: Served, slow: Slow
) -> None:
    async with driven(served) as screen:
        slow.holds = lambda selection: selection.commodity_code == "0711100"
        screen.app.query_one("#commodities", Table).move_to("0711100")
        await screen.pilot.press("enter")
        await until(screen.pilot, slow.asked.is_set)
        await screen.press("escape")
        slow.free.set()
        await until(screen.pilot, slow.answered.is_set)
        screen.app.query_one("#commodities", Table).focus()
        await screen.press("enter")
        assert {row[2] for row in screen.table("revisions")} == {"Coffee, Green"}


async def test_an_older_answer_that_comes_later_is_not_shown_over_a_newer_one(served: Served, slow: Slow) -> None:
    async with driven(served) as screen:
        slow.holds = lambda selection: selection.order == "share" and not slow.asked.is_set()
        await screen.pilot.press("o")
        await until(screen.pilot, slow.asked.is_set)
        served.publish()
        await screen.pilot.press("1", "4")
        await until(screen.pilot, lambda: "generation 2" in screen.line)
        slow.free.set()
        await until(screen.pilot, slow.answered.is_set)
        await screen.pilot.pause(0.1)
        assert "generation 2" in screen.line


async def test_a_failed_query_is_repeated(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReleasesPane, "POLL_S", 0.05)
    async with driven(served) as screen:
        panel = screen.app.query_one("#revisions-panel", Panel)
        with monkeypatch.context() as broken:
            broken.setattr(release_changes, "_FOLDED", "SELECT")
            await screen.pilot.press("o")
            await until(screen.pilot, lambda: panel.query_one(".failure").display)
        await until(screen.pilot, lambda: not panel.query_one(".failure").display)
        assert screen.table("revisions")


async def test_days_are_stepped_over_as_often_as_the_key_is_pressed_however_late_the_sheet_comes(
    served: Served, slow: Slow
) -> None:
    async with driven(served) as screen:
        await open_production(screen)
        await screen.press("full_stop")
        slow.holds = lambda selection: selection.day == BETWEEN
        await screen.pilot.press("comma")
        await until(screen.pilot, slow.asked.is_set)
        await screen.press("comma")
        slow.free.set()
        assert screen.table("sheet") and screen.pane._snapshot.selection.day == date(2025, 6, 12)


async def test_keys_typed_ahead_act_on_the_fact_that_they_are_for(served: Served, slow: Slow) -> None:
    async with driven(served) as screen:
        await screen.press("tab")
        slow.holds = lambda selection: selection.fact is not None and selection.day is None
        packet(screen.pilot, "\r,")
        await until(screen.pilot, slow.asked.is_set)
        slow.free.set()
        await until(
            screen.pilot, lambda: screen.pane._snapshot.selection == Selection(fact=PRODUCTION, day=date(2025, 6, 12))
        )


async def test_a_fact_is_picked_by_what_is_typed_all_at_once(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("commodities", "countries", "market_years", "attributes"):
        asks = getattr(questions, name)
        monkeypatch.setattr(questions, name, lambda *known, asks=asks: time.sleep(0.05) or asks(*known))
    async with driven(served) as screen:
        packet(screen.pilot, "pcoff\rbra\r2024\rprod\r")
        await until(screen.pilot, lambda: screen.pane.selection.fact == FactKey("0711100", "BR", 2024, "028"))
        assert screen.app.shown_pane is screen.pane


async def test_the_row_that_was_opened_is_the_fact_that_opens_though_the_rows_have_changed_since(
    served: Served,
) -> None:
    async with driven(served) as screen:
        table = screen.app.query_one("#revisions", Table)
        await screen.press("u")
        opened = Table.Opened(table, table.rows[1].key)
        await screen.press("u")
        assert table.rows[1].key != opened.key
        table.post_message(opened)
        await until(screen.pilot, lambda: screen.pane.selection.fact)
        assert screen.pane.selection.fact == FactKey("0410000", "US", 2025, "184", "26")


async def test_another_list_is_shown_from_its_beginning_and_the_same_one_where_it_was(served: Served) -> None:
    async with driven(served) as screen:
        table = screen.app.query_one("#revisions", Table)
        table.focus()
        await screen.press("u", "down", "down")
        third = table.current
        served.publish()
        await until(screen.pilot, lambda: "generation 2" in screen.line)
        assert table.current == third and table.rows[2] == third
        await screen.press("o")
        assert table.current == table.rows[0]
        await screen.press("down")
        screen.app.post_message(OpenRelease(BETWEEN))
        await until(screen.pilot, lambda: "2025-07-11 against" in screen.line)
        assert table.current == table.rows[0]


async def test_a_view_that_comes_when_its_screen_was_left_takes_no_focus_until_it_is_back(
    served: Served, slow: Slow
) -> None:
    async with driven(served) as screen:
        slow.holds = lambda selection: selection.fact is not None
        await screen.pilot.press("tab")
        packet(screen.pilot, "\r1")
        await until(screen.pilot, lambda: slow.asked.is_set() and screen.app.shown_pane.PANE_ID == "overview")
        slow.free.set()
        await screen.settled()
        assert screen.pane not in screen.app.focused.ancestors
        await screen.pilot.press("4")
        await until(screen.pilot, lambda: screen.app.focused is screen.app.query_one("#sheet"))


async def test_the_field_for_a_day_goes_with_the_sheet(served: Served) -> None:
    async with driven(served) as screen:
        await open_production(screen)
        await screen.pilot.press("d")
        assert screen.app.query_one("#day", Input).display
        screen.app.post_message(OpenRelease(BETWEEN))
        await until(screen.pilot, lambda: screen.app.focused is screen.app.query_one("#revisions"))
        assert not screen.app.query_one("#day", Input).display


async def test_a_key_for_the_sheet_reports_that_there_is_no_sheet(served: Served) -> None:
    async with driven(served) as screen:
        for key in ("comma", "full_stop", "d"):
            await screen.press(key)
        assert ["no sheet shown" in note.message for note in screen.app._notifications] == [True] * 3


async def test_a_day_that_is_yet_to_come_is_refused(served: Served) -> None:
    async with driven(served) as screen:
        await open_production(screen)
        await screen.pilot.press("d")
        screen.app.query_one("#day", Input).value = "2025-08-13"
        await screen.press("enter")
        assert screen.pane.selection.day is None
        assert any("2025-08-13 is in the future" in note.message for note in screen.app._notifications)


async def test_a_missing_fact_shows_no_chart_of_another_fact(served: Served) -> None:
    from tui.widgets.plot import LineChart

    async with driven(served) as screen:
        await open_production(screen)
        chart = screen.app.query_one(LineChart)
        await until(screen.pilot, lambda: chart._datasets)
        screen.app.post_message(OpenFact("0410000", "US", 1900, "028"))
        await until(screen.pilot, lambda: not chart._datasets)
        assert str(screen.app.query_one("#story-panel", Panel).border_title) == "Unknown fact"
