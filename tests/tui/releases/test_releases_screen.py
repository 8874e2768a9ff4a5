"""Tests of the Releases screen: changes of a release, history of a fact, balance sheet as of a day."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static

from dataflows.landing.local import LocalLanding
from dataflows.serving import ServingReader
from dataflows.source.probe_memory import LiveCheck
from ops.pipelines import release_changes
from ops.pipelines.current_file import checked_on
from ops.pipelines.release_changes import FactKey
from tests.support.consoles import type_text, until
from tests.support.served import Served, serve, served_console, snapshot_named
from tests.tui.building import console_on
from tui.releases import questions
from tui.releases.fact import FactView, story_lines
from tui.releases.pane import ReleasesPane
from tui.releases.snapshot import Selection, read_releases
from tui.shell.app import ConsoleApp
from tui.shell.messages import OpenFact, OpenRelease
from tui.widgets.lines import Lines
from tui.widgets.panel import Found, Panel
from tui.widgets.picker import Picker
from tui.widgets.table import Table

PRODUCTION = FactKey("0410000", "US", 2025, "028", "08")


class Driven:
    """The screen under test and the pilot that presses its keys."""

    def __init__(self, app: ConsoleApp, pilot: Pilot[Any]) -> None:
        self.app, self.pilot = app, pilot

    @property
    def pane(self) -> ReleasesPane:
        return self.app.query_one(ReleasesPane)

    def table(self, name: str) -> list[tuple[str, ...]]:
        return [tuple(cell.text for cell in row.cells) for row in self.app.query_one(f"#{name}", Table).rows]

    @property
    def line(self) -> str:
        return str(self.app.query_one("#release-line", Static).render())

    async def settled(self) -> None:
        """Wait until the selection is shown."""
        await until(self.pilot, lambda: self.pane._snapshot and self.pane._snapshot.selection == self.pane.selection)
        await self.pilot.pause()

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.pilot.press(key)
            await self.settled()


@asynccontextmanager
async def driven(served: Served, size: tuple[int, int] = (140, 40)) -> AsyncIterator[Driven]:
    app = ConsoleApp(served.context, first="releases")
    async with app.run_test(size=size) as pilot:
        screen = Driven(app, pilot)
        await screen.settled()
        yield screen


async def test_the_newest_release_is_summed_up_and_re_keyings_are_flagged(served: Served) -> None:
    async with driven(served) as screen:
        assert screen.line == (
            "generation 1, 30 min ago · 2025-08-12 against 2025-07-11: 1 revised, 1 new, 1 ⟲ restated"
        )
        assert screen.table("commodities")[0][:2] == ("all", "1")
        assert [row[:6] for row in screen.table("revisions")] == [
            ("±", "▸1", "Wheat", "United States", "2025", "Production"),
            ("⟲", "", "Coffee, Green", "Brazil", "2024", "Production"),
        ]
        restated = next(row for row in screen.table("revisions") if row[0] == "⟲")
        assert restated[2:6] == ("Coffee, Green", "Brazil", "2024", "Production")


async def test_a_commodity_narrows_the_revisions_and_escape_widens_them(served: Served) -> None:
    async with driven(served) as screen:
        screen.app.query_one("#commodities", Table).move_to("0711100")
        await screen.press("enter")
        assert {row[2] for row in screen.table("revisions")} == {"Coffee, Green"}
        await screen.press("escape")
        assert {row[2] for row in screen.table("revisions")} == {"Wheat", "Coffee, Green"}


async def test_another_release_is_chosen_by_typing(served: Served) -> None:
    async with driven(served) as screen:
        await screen.pilot.press("b")
        await until(screen.pilot, lambda: isinstance(screen.app.screen, Picker) and screen.app.focused)
        await type_text(screen.pilot, "2025-07-11 against")
        await screen.pilot.press("enter")
        await until(screen.pilot, lambda: "2025-07-11 against 2025-06-12: 2 revised" in screen.line)


async def test_the_order_goes_round_weight_share_size_and_name(served: Served) -> None:
    async with driven(served) as screen:
        titles = []
        for _ in range(4):
            titles.append(str(screen.app.query_one("#revisions-panel", Panel).border_title))
            await screen.press("o")
    for title, order in zip(titles, ("share of the world", "share of the old", "by size", "by commodity"), strict=True):
        assert order in title


async def test_the_largest_share_of_the_world_comes_first_and_totals_come_last(served: Served) -> None:
    async with driven(served) as screen:
        screen.app.post_message(OpenRelease(date(2025, 7, 11)))
        await until(screen.pilot, lambda: "2025-07-11 against" in screen.line)
        await screen.press("tab", "u")
        weights = [(row[1], row[5], row[10]) for row in screen.table("revisions")]
        # Of 52,450: 230 more produced, 210 less in stock.
        assert weights == [("▾", "Production", "0.44"), ("", "↳ Ending Stocks", "0.40")]
        by_order = {order: release_changes.revisions_sql(date(2025, 7, 11), order) for order in ("weight", "share")}
        shares = served.context.reader().query(by_order["share"]).table["attribute_name"].to_pylist()
        assert shares == ["Production", "Ending Stocks"], "the driver comes first, though it changed by less"


async def test_a_filter_takes_names_years_and_groups_and_escape_clears_it(served: Served) -> None:
    async with driven(served) as screen:
        box, table = screen.app.query_one("#release-filter", Input), screen.app.query_one("#revisions", Table)
        for words, commodities in (
            ("whe 2025", ["Wheat"]),
            ("2023-2024", ["Coffee, Green"]),
            ("world brazil", ["Coffee, Green"]),
            ('production "united st', ["Wheat"]),
            ("yield wheat", ["Wheat"]),
            ("rye", []),
        ):
            await screen.pilot.press("slash")
            box.value = words
            await screen.press("enter")
            assert [row[2] for row in screen.table("revisions")] == commodities, words
            assert screen.app.focused is table
        assert "no change matches" in table._empty.text
        await screen.press("escape")
        assert [row[2] for row in screen.table("revisions")] == ["Wheat", "Coffee, Green"]
        assert not box.display


async def test_a_balance_sheet_is_unfolded_and_folded_from_any_of_its_rows(served: Served) -> None:
    async with driven(served) as screen:
        table = screen.app.query_one("#revisions", Table)
        await screen.press("tab", "u")
        assert [row[1:6] for row in screen.table("revisions")[:2]] == [
            ("▾", "Wheat", "United States", "2025", "Production"),
            ("", "", "", "", "Yield"),
        ]
        await screen.press("down", "u")
        assert [row[1] for row in screen.table("revisions")] == ["▸1", ""]
        assert table.current == table.rows[0]


async def test_the_world_is_shown_before_and_after_the_release(served: Served) -> None:
    async with driven(served) as screen:
        await until(screen.pilot, lambda: screen.table("balances"))
        assert screen.table("balances") == [
            ("2025 Wheat", "World", "Production", "52,510", "52,450", "-60", "-0.1 %", "1000 MT"),
            ("", "", "Domestic Consumption", "31,271", "31,271", "", "", ""),
            ("", "", "Ending Stocks", "24,230", "24,230", "", "", ""),
            ("2024 Wheat", "World", "Production", "53,650", "53,650", "", "", "1000 MT"),
        ]
        assert "not compared with a WASDE report" in str(screen.app.query_one("#wasde", Lines).render())
        await screen.press("v")
        assert screen.app.focused is screen.app.query_one("#balances")


async def test_the_view_is_switched_where_only_one_fits(served: Served) -> None:
    async with driven(served, (80, 24)) as screen:
        revisions, balances = screen.app.query_one("#revisions-panel"), screen.app.query_one("#balances-panel")
        assert (revisions.display, balances.display) == (True, False)
        await screen.press("v")
        assert (revisions.display, balances.display) == (False, True)
        await screen.press("v")
        assert (revisions.display, balances.display) == (True, False)


async def test_a_revision_leads_to_its_fact_and_back(served: Served) -> None:
    async with driven(served) as screen:
        await screen.press("tab", "enter")
        assert screen.pane.selection.fact == PRODUCTION
        versions = screen.table("versions")
        assert [row[3] for row in versions] == ["52,450", "52,510", "52,280"]
        assert versions[0][:3] == ("●", "2025-08-12", "today")
        assert versions[1][4] == "+230"
        assert [row[0] for row in versions] == ["●", "◐", "●"], "July's value is uncertain after 19 July"
        assert screen.app.query_one("#sheet", Table).current.cells[1].text == "Production"
        await screen.press("escape")
        assert screen.app.query_one("#changes").display


async def test_the_sheet_distinguishes_certain_uncertain_and_unknown_on_any_day(served: Served) -> None:
    async with driven(served) as screen:
        screen.app.post_message(OpenFact("0410000", "US", 2025, "028"))
        await until(screen.pilot, lambda: screen.table("sheet"))
        sheet = {row[1]: row for row in screen.table("sheet")}
        assert (sheet["Production"][0], *sheet["Production"][2:5]) == ("●", "52,510", "52,450", "-60")
        # The release of July shows none.
        assert (sheet["Yield"][0], sheet["Yield"][2]) == ("·", "·")
        await screen.pilot.press("d")
        screen.app.query_one("#day", Input).value = "2025-06-11"
        await screen.press("enter")
        sheet = {row[1]: row for row in screen.table("sheet")}
        assert (sheet["Production"][0], sheet["Production"][2]) == ("?", "unknown")
        await screen.pilot.press("d")
        screen.app.query_one("#day", Input).value = "2025-06-20"
        await screen.press("enter")
        sheet = {row[1]: row for row in screen.table("sheet")}
        # The next release was due on 11 July, and is landed.
        assert (sheet["Production"][0], sheet["Production"][2]) == ("●", "52,280")
        assert (sheet["Domestic Consumption"][0], sheet["Domestic Consumption"][2]) == ("●", "31,271")
        await screen.pilot.press("d")
        screen.app.query_one("#day", Input).value = "2025-07-22"
        await screen.press("enter")
        sheet = {row[1]: row for row in screen.table("sheet")}
        assert (sheet["Production"][0], sheet["Production"][2]) == ("◐", "52,510"), "the fact changed"


async def test_days_are_stepped_through_and_a_day_that_is_none_is_refused(served: Served) -> None:
    async with driven(served) as screen:
        screen.app.post_message(OpenFact("0410000", "US", 2025, "028"))
        await until(screen.pilot, lambda: screen.table("sheet"))
        assert screen.app.query_one(FactView).fact.day == date(2025, 7, 11)
        await screen.press("comma")
        assert screen.app.query_one(FactView).fact.day == date(2025, 6, 12)
        await screen.press("comma")
        assert screen.app.query_one(FactView).fact.day == date(2025, 6, 12)
        await screen.press("full_stop", "full_stop")
        assert screen.app.query_one(FactView).fact.day == date(2025, 8, 12)
        for text, day in (("yesterday", date(2025, 8, 11)), ("2025-06", date(2025, 6, 30)), ("-1m", date(2025, 7, 12))):
            await screen.pilot.press("d")
            screen.app.query_one("#day", Input).value = text
            await screen.press("enter")
            await until(screen.pilot, lambda day=day: screen.app.query_one(FactView).fact.day == day)
        await screen.pilot.press("d")
        screen.app.query_one("#day", Input).value = "soon"
        await screen.press("enter")
        assert screen.app.query_one(FactView).fact.day == date(2025, 7, 12)
        assert any("'soon' is not a day; write it as 2025-06-30" in note.message for note in screen.app._notifications)


async def test_a_fact_is_picked_by_commodity_country_year_and_attribute(served: Served) -> None:
    async with driven(served) as screen:
        await screen.pilot.press("p")
        for title, text in (("Commodity", "coff"), ("Country", "bra"), ("Market year", "2024"), ("Attribute", "prod")):
            await until(
                screen.pilot,
                lambda title=title: (
                    isinstance(screen.app.screen, Picker) and screen.app.screen._title == title and screen.app.focused
                ),
            )
            await type_text(screen.pilot, text)
            await screen.pilot.press("enter")
        await until(screen.pilot, lambda: screen.table("versions"))
        assert screen.pane.selection.fact == FactKey("0711100", "BR", 2024, "028")
        assert screen.table("versions")[0][3] == "66,400"


async def test_an_attribute_of_the_sheet_and_a_version_are_opened(served: Served) -> None:
    async with driven(served) as screen:
        screen.app.post_message(OpenFact("0410000", "US", 2025, "028"))
        await until(screen.pilot, lambda: screen.table("sheet"))
        screen.app.query_one("#sheet", Table).move_to("176 (1000 MT)")
        screen.app.query_one("#sheet", Table).focus()
        await screen.press("enter")
        assert [row[3] for row in screen.table("versions")] == ["24,230", "24,440"]
        screen.app.query_one("#versions", Table).focus()
        await screen.press("down", "enter")
        assert screen.app.query_one(FactView).fact.day == date(2025, 6, 12)


async def test_the_query_behind_it_opens_in_the_query_screen(served: Served) -> None:
    from tui.query.body import QueryBody

    async with driven(served) as screen:
        await screen.pilot.press("x")
        await until(screen.pilot, lambda: screen.app.query_one(QueryBody).shown)
        shown = screen.app.query_one(QueryBody).shown
        assert shown.error is None
        assert "fct_psd_revision" in shown.sql


async def test_new_data_is_shown_once_it_is_served(served: Served) -> None:
    async with driven(served) as screen:
        served.publish()
        await until(screen.pilot, lambda: "generation 2" in screen.line)


async def test_another_screen_opens_a_release(served: Served) -> None:
    async with driven(served) as screen:
        screen.app.post_message(OpenRelease(date(2025, 6, 12)))
        await until(screen.pilot, lambda: "nothing to compare it with" in screen.line)


async def test_without_a_served_generation_it_shows_the_next_command(tmp_path: Path) -> None:
    async with driven(served_console(tmp_path)) as screen:
        assert "materia demo" in screen.line
        assert not screen.app.query_one("#changes").display


async def test_an_invalid_database_shows_an_error_and_other_screens_work(failing_dir: Path) -> None:
    served = (failing_dir / "serving.duckdb").resolve()
    served.write_bytes(b"no database" * 1000)
    app = console_on(failing_dir, first="releases")
    async with app.run_test() as pilot:
        failure = app.query_one("#revisions-panel .failure", Lines)
        await until(pilot, lambda: failure.display)
        assert "cannot be opened" in failure.visual.plain and "materia run-all" in failure.visual.plain
        await pilot.press("1")
        await until(pilot, lambda: app.query_one("#alerts", Table).rows)


async def test_a_failing_table_affects_only_its_panel(served: Served) -> None:
    import duckdb

    served_path = served.data_dir / "serving.duckdb"
    broken = served.data_dir / "broken.duckdb"
    con = duckdb.connect(str(broken))
    con.execute("CREATE SCHEMA serving")
    con.execute("CREATE TABLE serving.dim_release (i INT)")
    con.close()
    served_path.unlink()
    broken.rename(served_path)
    async with driven(served) as screen:
        failure = screen.app.query_one("#revisions-panel .failure", Static)
        assert failure.display
        assert "✗" in str(failure.render())
        await screen.pilot.press("o")
        assert screen.app.is_running


def test_every_question_answers_with_values_of_its_own(served: Served) -> None:
    reader = served.context.reader()
    newest = release_changes.releases(reader)[0]
    assert (newest.facts_revised, newest.facts_restated) == (1, 1)
    revised = release_changes.revisions(reader, newest.released_on, "share")[0]
    assert revised.key == PRODUCTION
    assert revised.share == pytest.approx(-60 / 52510)
    story = questions.fact_story(reader, PRODUCTION)
    assert story is not None
    certain, uncertain = story_lines(story, date(2025, 8, 12))
    assert len(certain) == 4
    # July's value, of which the sheet was touched from 20 to 25 July.
    assert [line.xs for line in uncertain] == [(date(2025, 7, 20).toordinal(), date(2025, 7, 26).toordinal())]
    assert questions.fact_story(reader, FactKey("0410000", "XX", 1900, "028")) is None
    standing = {
        line.attribute_id: line.standing for line in questions.balance_sheet(reader, PRODUCTION, date(2025, 6, 1))
    }
    assert set(standing.values()) == {"unknown"}


def test_a_check_of_the_current_file_reaches_the_sheet_and_the_chart(served: Served) -> None:
    """Coffee is updated on any day: without a check it is certain on the release day only."""
    reader, coffee, day = served.context.reader(), FactKey("0711100", "BR", 2025, "028", "02"), date(2025, 8, 20)

    def certain_until(checked_on: date | None) -> tuple[str, date | None]:
        story = questions.fact_story(reader, coffee, checked_on)
        (line,) = questions.balance_sheet(reader, coffee, day, checked_on)
        assert story is not None
        return line.standing, story.versions[-1].certain_until

    assert certain_until(None) == ("uncertain", date(2025, 8, 12))
    assert certain_until(date(2025, 8, 20)) == ("uncertain", date(2025, 8, 19))
    assert certain_until(date(2025, 8, 21)) == ("certain", date(2025, 8, 20))

    settings = served.context.settings
    landing = LocalLanding(settings.landing_dir)
    selection = Selection(fact=coffee, day=day)
    take = partial(read_releases, reader, selection, date(2025, 9, 1), partial(checked_on, settings))
    for key, expected in (("b", "uncertain"), ("c", "certain")):
        landing.write_marker(snapshot_named(key, settings.dataset))
        check = LiveCheck(date(2025, 8, 21), key)
        landing.update_memory(settings.dataset, lambda memory, check=check: replace(memory, live=check))
        fact = take().fact
        assert isinstance(fact, Found)
        assert [line.standing for line in fact.value.sheet] == [expected]


@pytest.mark.parametrize("size", [(80, 24), (140, 40)])
@pytest.mark.parametrize("state", ["empty", "failing", "release", "fact"])
def test_it_looks_as_it_should(
    served: Served, tmp_path: Path, snap_compare: Any, size: tuple[int, int], state: str
) -> None:
    data_dir = served.data_dir if state in ("release", "fact") else tmp_path / "other"
    if state == "failing":
        data_dir.mkdir()
        serve(data_dir, without=("dim_release",))
    console = served_console(data_dir)
    app = ConsoleApp(console.context, first="releases")

    async def prepare(pilot: Pilot[Any]) -> None:
        screen = Driven(app, pilot)
        await screen.settled()
        if state == "release":
            await until(pilot, lambda: screen.table("balances"))
        if state == "fact":
            app.post_message(OpenFact("0410000", "US", 2025, "028"))
            await until(pilot, lambda: screen.table("versions") and app.focused is app.query_one("#sheet"))
            await pilot.pause(0.3)

    assert snap_compare(app, terminal_size=size, run_before=prepare)


async def test_a_generation_without_a_release_has_no_revisions_and_no_error(served: Served) -> None:
    async with driven(served) as console:
        assert console.table("revisions")
        console.app.query_one("#revisions-panel", Panel).show(Found(None), console.pane._draw_revisions)
        assert console.table("revisions") == []
        assert not console.app.query_one("#revisions-panel .failure").display


def test_the_own_definition_of_a_group_replaces_the_general_one(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "grouped.duckdb"
    shutil.copyfile(served.context.settings.serving_path.resolve(), path)
    with duckdb.connect(str(path)) as con:
        con.execute(
            "INSERT INTO serving.dim_country_group (group_code, group_name, commodity_code, country_code)"
            " VALUES ('BIG', 'Big', NULL, 'US'), ('BIG', 'Big', NULL, 'BR'), ('BIG', 'Big', '0711100', 'US')"
        )
        (newest,) = con.execute("SELECT max(released_on) FROM serving.dim_release").fetchone() or (None,)
    with ServingReader(path) as reader:

        def commodities(words: str) -> set[str]:
            rows = release_changes.folded_revisions(reader, newest, "weight", words=words)
            return set(rows.column("commodity_name").to_pylist())

        assert commodities("WORLD") == commodities("brazil") | commodities("wheat") == {"Wheat", "Coffee, Green"}
        assert commodities("BIG") == {"Wheat"}, "for coffee the group is the United States only"
