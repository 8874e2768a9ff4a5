"""Tests of the Query screen: every action, the sandbox, limits, and new data during a query."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from textual.events import Key
from textual.pilot import Pilot
from textual.widgets import Input, Static

from dataflows.lakehouse.database_file import fault_of
from dataflows.landing.local import LocalLanding
from dataflows.source.probe_memory import LiveCheck
from tests.support.consoles import screen_of, type_text, until
from tests.support.served import Served, served_console, snapshot_named
from tui.query.body import QueryBody
from tui.query.editor import SqlEditor
from tui.query.record import RecordScreen
from tui.query.run import MIB, QueryLimits
from tui.query.schema import SchemaPanel
from tui.query.sql import View
from tui.shell.app import ConsoleApp
from tui.shell.messages import RunQuery
from tui.widgets.picker import Picker
from tui.widgets.table import Row, Table

ENDLESS = "SELECT count(*) FROM range(100000000000) AS a, range(100000) AS b"


class Driven:
    """The screen under test and the pilot that presses its keys."""

    def __init__(self, app: ConsoleApp, pilot: Pilot[Any]) -> None:
        self.app, self.pilot = app, pilot

    @property
    def body(self) -> QueryBody:
        return self.app.query_one(QueryBody)

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """Return all rows of the shown run."""
        spill = self.body.shown.spill if self.body.shown else None
        batches = spill.batches() if spill else ()
        return [row for batch in batches for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)]

    def text_of(self, name: str) -> str:
        return str(self.app.query_one(f"#{name}", Static).render())

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def idle(self) -> None:
        """Wait until no query runs."""
        await until(self.pilot, lambda: self.body.running is None)
        await self.pilot.pause()

    async def run(self, sql: str) -> None:
        self.app.post_message(RunQuery(sql))
        await until(self.pilot, lambda: self.body.shown and self.body.shown.sql == sql and self.body.running is None)
        self.body.result.grid.focus()
        await self.pilot.pause()


@asynccontextmanager
async def driven(served: Served, size: tuple[int, int] = (100, 30)) -> AsyncIterator[Driven]:
    app = ConsoleApp(served.context, first="query")
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.query(QueryBody))
        await pilot.pause()
        yield Driven(app, pilot)


async def test_the_query_in_the_editor_runs_and_its_answer_names_generation_and_age(served: Served) -> None:
    async with driven(served) as screen:
        await screen.press("f5")
        await until(screen.pilot, lambda: screen.body.shown)
        await screen.idle()
        assert screen.rows[0][0] in {"Wheat", "Coffee, Green"}
        assert "generation 1, 30 min ago" in screen.text_of("result-line")
        assert "2 rows" in screen.text_of("result-line")


FORBIDDEN = (
    "CREATE TABLE x (i INT)",
    "INSERT INTO serving.marker VALUES (1)",
    "SET threads = 1",
    "ATTACH '/tmp/x.duckdb'",
    "COPY serving.marker TO '/tmp/x.csv'",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT 1; SELECT 2",
    "FROM enable_logging('x')",
)


async def test_only_plain_queries_of_the_served_tables_run(served: Served) -> None:
    async with driven(served) as screen:
        for sql in FORBIDDEN:
            await screen.run(sql)
            assert screen.body.shown.error is not None, sql
            assert screen.text_of("error").startswith("✗")
            assert not screen.rows, sql


async def test_a_filter_cannot_leave_the_jail_and_the_rows_stay(served: Served) -> None:
    async with driven(served) as screen:
        await screen.run("SELECT market_year, value FROM serving.fct_psd")
        before = screen.rows
        await screen.press("slash")
        screen.app.query_one("#line", Input).value = "value = (SELECT max(size) FROM read_text('/etc/passwd'))"
        await screen.press("enter")
        await screen.idle()
        assert "read_text" in screen.text_of("error")
        assert screen.rows == before


async def test_sort_filter_alike_and_whole_are_answered_by_duckdb_in_one_generation(served: Served) -> None:
    async with driven(served) as screen:
        await screen.run("SELECT market_year, value FROM serving.fct_psd")
        served.publish()
        await screen.press("right", "o")
        await screen.idle()
        assert screen.body.shown.view == View("value")
        assert [value for _, value in screen.rows] == sorted(value for _, value in screen.rows)
        await screen.press("o")
        await screen.idle()
        assert screen.rows[0][1] == 66400
        await screen.press("slash")
        await type_text(screen.pilot, "value > 52300")
        await screen.press("enter")
        await screen.idle()
        assert all(value > 52300 for _, value in screen.rows)
        await screen.press("left", "equals_sign")
        await screen.idle()
        assert {year for year, _ in screen.rows} == {2024}
        assert screen.body.shown.generation.number == 1
        assert "newer data is served" in screen.text_of("result-line")
        await screen.press("backspace")
        await screen.idle()
        assert len(screen.rows) == 10


async def test_a_running_query_is_stopped_by_escape(served: Served) -> None:
    async with driven(served) as screen:
        screen.app.post_message(RunQuery(ENDLESS))
        await until(screen.pilot, lambda: screen.body.running and screen.body.running.generation)
        await screen.press("escape")
        await screen.idle()
        assert "■ stopped" in screen.text_of("result-line")


async def test_a_query_stopped_at_its_time_limit_reports_the_limit(served: Served) -> None:
    async with driven(served) as screen:
        screen.body._session.limit(QueryLimits(timeout_s=0.3))
        await screen.run(ENDLESS)
        assert "stopped after 0.3 s" in screen.text_of("error")


async def test_a_query_stopped_at_its_memory_limit_reports_the_limit(served: Served) -> None:
    async with driven(served) as screen:
        screen.body._session.limit(QueryLimits(memory_bytes=64 * MIB))
        await screen.run(
            "SELECT md5(i::VARCHAR) AS a, md5((i + 1)::VARCHAR) AS b FROM range(3000000) AS t(i) ORDER BY a"
        )
        assert "64 MiB of memory" in screen.text_of("error")


async def test_a_result_stops_at_its_disk_limit_and_keeps_what_it_has(served: Served) -> None:
    async with driven(served) as screen:
        screen.body._session.limit(QueryLimits(spill_bytes=1 * MIB))
        await screen.run("SELECT md5(i::VARCHAR) AS a FROM range(3000000) AS t(i)")
        assert "more than 1 MiB of disk" in screen.text_of("error")
        assert "ended early" in screen.text_of("result-line")
        assert screen.body.result.grid.row_count > 0


async def test_a_swap_during_a_query_neither_fails_it_nor_mixes_its_answer(served: Served) -> None:
    sql = "SELECT generation, j FROM serving.marker, range(3000) AS t(j)"
    async with driven(served) as screen:
        screen.app.post_message(RunQuery(sql))
        await until(screen.pilot, lambda: screen.body.running and screen.body.running.row_count)
        served.publish()
        await screen.idle()
        shown = screen.body.shown
        assert shown.error is None
        assert shown.row_count == 3_000_000
        generations = {batch.column(0)[0].as_py() for batch in shown.spill.batches()}
        assert generations == {1} == {shown.generation.number}


async def test_live_runs_the_query_again_when_something_newer_is_served(served: Served) -> None:
    async with driven(served) as screen:
        await screen.run("SELECT DISTINCT generation FROM serving.marker")
        await screen.press("f6")
        assert "◉ live" in screen.text_of("result-line")
        for number in (2, 3):
            served.publish()
            await until(screen.pilot, lambda number=number: screen.rows == [(number,)])
        assert "generation 3" in screen.text_of("result-line")
        await screen.press("f6")
        served.publish()
        await until(screen.pilot, lambda: "newer data is served" in screen.text_of("result-line"))
        assert screen.rows == [(3,)]


async def test_moving_in_the_grid_shows_the_row_and_keeps_the_cursor_inside(served: Served) -> None:
    async with driven(served) as screen:
        await screen.run("SELECT i, i * 2 AS twice FROM range(100000) AS t(i)")
        grid = screen.body.result.grid
        await screen.press("pagedown", "down", "right")
        assert grid.row > 5
        assert grid.cell == ("twice", grid.row * 2)
        await screen.press("G", "pagedown", "down")
        assert grid.row == 99_999
        assert "row 100,000 of 100,000" in screen.text_of("cell")
        await screen.press("g", "up", "pageup")
        assert grid.row == 0


async def test_the_rows_are_exported_as_csv_and_parquet_and_no_file_is_overwritten(
    served: Served, tmp_path: Path
) -> None:
    async with driven(served) as screen:
        await screen.run("SELECT market_year, value, [1, 2] AS list FROM serving.fct_psd ORDER BY ALL")
        for name in ("out.csv", "out.parquet"):
            await screen.press("w")
            screen.app.query_one("#line", Input).value = str(tmp_path / name)
            await screen.press("enter")
            await until(screen.pilot, (tmp_path / name).exists)
        assert (tmp_path / "out.csv").read_text().splitlines()[0] == '"market_year","value","list"'
        assert len((tmp_path / "out.csv").read_text().splitlines()) == 11
        assert pyarrow.parquet.read_table(tmp_path / "out.parquet").num_rows == 10
        written = (tmp_path / "out.csv").stat().st_mtime_ns
        await screen.press("w")
        screen.app.query_one("#line", Input).value = str(tmp_path / "out.csv")
        await screen.press("enter")
        await until(screen.pilot, lambda: "exists already" in screen.text_of("error"))
        assert (tmp_path / "out.csv").stat().st_mtime_ns == written


async def test_a_read_only_console_exports_nothing(served: Served) -> None:
    console = served_console(served.data_dir, read_only=True)
    async with driven(console) as screen:
        await screen.run("SELECT 1 AS one")
        await screen.press("w")
        assert not screen.app.query_one("#line", Input).display


async def test_rows_and_a_cell_are_copied(served: Served) -> None:
    async with driven(served) as screen:
        await screen.run("SELECT 1 AS one, 'a b' AS text, NULL AS none")
        await screen.press("y")
        assert screen.app.clipboard == "one\ttext\tnone\n1\ta b\t\n"
        await screen.press("right", "Y")
        assert screen.app.clipboard == "a b"


async def test_a_column_is_drawn_and_the_rows_come_back(served: Served) -> None:
    async with driven(served) as screen:
        await screen.run("SELECT valid_from, value FROM serving.fct_psd WHERE attribute_id = '028'")
        await screen.press("v")
        await until(screen.pilot, lambda: "value over valid_from" in screen.text_of("cell"))
        await screen.press("v")
        await until(screen.pilot, lambda: screen.body.result.grid.display)


async def test_the_query_is_laid_out_and_what_cannot_be_is_left_alone(served: Served) -> None:
    async with driven(served) as screen:
        screen.body.editor.text = "select value from serving.psd_asof(date '2025-07-01')"
        await screen.press("f4")
        await until(screen.pilot, lambda: screen.body.editor.text.startswith("SELECT\n"))
        screen.body.editor.text = "select ((("
        await screen.press("f4")
        await until(screen.pilot, lambda: "cannot format the query" in screen.text_of("error"))
        assert screen.body.editor.text == "select ((("


async def test_history_is_kept_between_consoles(served: Served) -> None:
    async with driven(served) as screen:
        screen.body.editor.text = "SELECT 41 + 1 AS answer"
        await screen.press("f5")
        await until(screen.pilot, lambda: screen.rows == [(42,)])
    async with driven(served) as screen:
        await screen.press("f7")
        await until(screen.pilot, lambda: isinstance(screen.app.screen, Picker) and screen.app.focused)
        await screen.press("enter")
        await until(screen.pilot, lambda: screen.body.editor.text == "SELECT 41 + 1 AS answer")


async def test_a_saved_query_is_found_by_typing_and_runs(served: Served) -> None:
    async with driven(served) as screen:
        await screen.press("f2")
        await until(screen.pilot, lambda: isinstance(screen.app.screen, Picker) and screen.app.focused)
        await type_text(screen.pilot, "re-keyed")
        await screen.press("enter")
        await until(screen.pilot, lambda: screen.rows)
        assert screen.rows[0][1:4] == ("Coffee, Green", 2023, 2024)


@pytest.mark.parametrize(("key", "argument"), [("c", ", checked_on := DATE '2025-08-21'"), ("b", "")])
async def test_a_saved_as_of_query_gets_the_last_check_of_the_current_file(
    served: Served, key: str, argument: str
) -> None:
    """Only of what is served, whose newest snapshot is c."""
    settings = served.context.settings
    landing = LocalLanding(settings.landing_dir)
    landing.write_marker(snapshot_named("c", settings.dataset))
    landing.update_memory(settings.dataset, lambda memory: replace(memory, live=LiveCheck(date(2025, 8, 21), key)))
    async with driven(served) as screen:
        await screen.press("f2")
        await until(screen.pilot, lambda: isinstance(screen.app.screen, Picker) and screen.app.focused)
        await type_text(screen.pilot, "known about")
        await screen.press("enter")
        expected = f"FROM serving.psd_asof_coverage(DATE '2021-12-31'{argument})"
        await until(screen.pilot, lambda: expected in screen.body.editor.text)
        await until(screen.pilot, lambda: screen.rows)


async def test_names_of_the_catalog_are_completed(served: Served) -> None:
    async with driven(served) as screen:
        await until(screen.pilot, lambda: screen.body.editor.catalog.relations)
        screen.body.editor.text = ""
        await type_text(screen.pilot, "from serving.psd_aso")
        await until(screen.pilot, lambda: screen.body.editor.completion_list.is_open)
        await screen.press("enter")
        await until(screen.pilot, lambda: screen.body.editor.text == "from serving.psd_asof(")


def press_at_once(editor: SqlEditor, text: str) -> None:
    names = {" ": "space", ",": "comma", ".": "full_stop", "\n": "enter"}
    for character in text:
        editor.text_input.post_message(Key(names.get(character, character), character))


async def test_keys_that_arrive_at_once_leave_the_list_of_the_last_one(served: Served) -> None:
    async with driven(served) as screen:
        editor = screen.body.editor
        await until(screen.pilot, lambda: editor.catalog.relations)
        editor.text = ""
        press_at_once(editor, "SELECT commodity_name, cou")
        await until(screen.pilot, lambda: editor.completion_list.is_open and editor.text.endswith("cou"))
        await screen.pilot.pause()
        offered = [str(option.prompt) for option in editor.completion_list.options]
        assert offered and all("cou" in each for each in offered)
        await screen.press("tab")
        await until(screen.pilot, lambda: editor.text == "SELECT commodity_name, country_code")


async def test_keys_that_arrive_at_once_write_what_they_say(served: Served) -> None:
    wanted = "SELECT cou\nFROM\nserving.fct_ps\nAS f LIMIT 5"
    async with driven(served) as screen:
        editor = screen.body.editor
        await until(screen.pilot, lambda: editor.catalog.relations)
        editor.text = ""
        press_at_once(editor, wanted)
        await until(screen.pilot, lambda: editor.text.endswith("5"))
        await screen.pilot.pause(0.2)
        assert (editor.text, editor.completion_list.is_open) == (wanted, False)


async def test_enter_after_a_whole_word_breaks_the_line(served: Served) -> None:
    async with driven(served) as screen:
        await until(screen.pilot, lambda: screen.body.editor.catalog.relations)
        screen.body.editor.text = ""
        await type_text(screen.pilot, "select")
        await screen.press("enter")
        await until(screen.pilot, lambda: screen.body.editor.text == "select\n")


async def test_limits_are_set_in_their_dialog(served: Served) -> None:
    async with driven(served) as screen:
        await screen.run("SELECT 1 AS one")
        await screen.press("L")
        await until(screen.pilot, lambda: screen.app.screen.query("#time"))
        screen.app.screen.query_one("#time", Input).value = "0"
        await screen.press("enter")
        assert screen.app.screen.query("#time")
        screen.app.screen.query_one("#time", Input).value = "5"
        await screen.press("enter")
        await until(screen.pilot, lambda: screen.body._session.limits.timeout_s == 5)


async def test_escape_leaves_the_editor_and_e_comes_back(served: Served) -> None:
    async with driven(served) as screen:
        await screen.run("SELECT 1 AS one")
        await screen.press("e")
        assert screen.app.focused is screen.body.editor.text_input
        await screen.press("escape")
        assert screen.app.focused is screen.body.result.grid


@pytest.mark.usefixtures("homeless")
async def test_without_a_served_generation_it_shows_the_next_command(tmp_path: Path) -> None:
    async with driven(served_console(tmp_path)) as screen:
        assert "materia demo" in screen.text_of("hint")
        await screen.press("f5")
        await until(screen.pilot, lambda: screen.body.shown)
        assert "materia demo" in screen.text_of("hint")


async def test_leaving_during_a_query_leaves_neither_files_nor_waits(served: Served, tmp_path: Path) -> None:
    async with asyncio.timeout(20), driven(served) as screen:
        screen.app.post_message(RunQuery(ENDLESS))
        await until(screen.pilot, lambda: screen.body.running and screen.body.running.generation)
    assert not list((tmp_path / "cache").rglob("*.*"))


@pytest.mark.parametrize("size", [(80, 24), (140, 40)])
@pytest.mark.parametrize("state", ["empty", "healthy", "failing"])
def test_it_looks_as_it_should(
    served: Served, tmp_path: Path, snap_compare: Any, size: tuple[int, int], state: str
) -> None:
    console = served if state != "empty" else served_console(tmp_path / "nothing")
    app = ConsoleApp(console.context, first="query")
    sql = "SELECT * FROM serving.fct_psd" if state == "healthy" else "SELECT no_such_column FROM serving.fct_psd"

    async def prepare(pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: app.query(QueryBody))
        screen = Driven(app, pilot)
        if state != "empty":
            await screen.run(sql)
            screen.body.shown.started_at, screen.body.shown.ended_at = 0.0, 0.42
            screen.body._show_status()
            await until(pilot, lambda: app.query_one(SchemaPanel).names.root.children)
        await pilot.pause()

    assert snap_compare(app, terminal_size=size, run_before=prepare)


async def test_a_file_that_cannot_be_read_becomes_an_alert_on_overview(served: Served) -> None:
    path = served.context.settings.serving_path.resolve()
    path.chmod(0o644)
    for start in range(12_288, path.stat().st_size, 262_144):
        whole = path.read_bytes()
        path.write_bytes(whole[:start] + b"\xff" * 64 + whole[start + 64 :])
        if fault_of(path):  # the checks of `status` find it: damage the other blocks only
            path.write_bytes(whole)
    async with driven(served) as screen:
        await screen.run("SELECT * FROM serving.fct_psd")
        await screen.idle()
        await screen.press("escape", "1")
        await until(screen.pilot, lambda: any("cannot read" in row.cells[1].text for row in _alerts(screen)))


def _alerts(screen: Driven) -> tuple[Row, ...]:
    return tuple(screen.app.query_one("#alerts", Table).rows)


async def test_enter_shows_a_row_in_full(served: Served) -> None:
    async with driven(served) as screen:
        await screen.run("SELECT repeat('long ', 30) || 'end' AS text, [1, 2] AS list, 'a\nb' AS lines")
        await until(screen.pilot, lambda: screen.body.result.grid.has_focus)
        await screen.press("right", "enter")
        await until(screen.pilot, lambda: isinstance(screen.app.screen, RecordScreen))
        shown = screen_of(screen.pilot)
        assert "long end" in shown and "[1, 2]" in shown and "row 1 of 1" in shown
        await screen.press("escape")
        assert screen.body.result.grid.has_focus


async def test_an_export_names_the_file_and_its_size(served: Served, tmp_path: Path) -> None:
    async with driven(served) as screen:
        await screen.run("SELECT 1 AS one")
        await screen.press("w")
        screen.app.query_one("#line", Input).value = "out.csv"
        await screen.press("enter")
        await until(screen.pilot, lambda: screen.app._notifications)
        message = next(iter(screen.app._notifications)).message
        assert message == f"wrote 1 row, {(tmp_path / 'out.csv').stat().st_size} B, to {tmp_path / 'out.csv'}"


async def test_key_columns_stay_in_view_when_the_rows_scroll_sideways(served: Served) -> None:
    sql = "SELECT 'Wheat' AS commodity_name, 2025 AS market_year, " + ", ".join(
        f"{n} AS measure_{n}" for n in range(30)
    )
    async with driven(served) as screen:
        await screen.run(sql)
        grid = screen.body.result.grid
        await screen.press("end")
        await screen.pilot.pause()
        lines = [grid.render_line(y).text for y in (0, 1)]
        assert lines[0].startswith("commodity_name  market_year  ") and lines[0].rstrip().endswith("measure_29")
        assert lines[1].startswith("Wheat") and "2025" in lines[1] and lines[1].rstrip().endswith("29")
        assert "measure_0 " not in lines[0]
        await screen.press("home", *["right"] * 4)
        assert grid.cell == ("measure_2", 2)
        await screen.press("end", *["left"] * 29)
        await screen.pilot.pause()
        assert grid.cell == ("measure_0", 0)
        assert "measure_0 " in grid.render_line(0).text
        await screen.press("end")
        await screen.pilot.pause()
        await screen.pilot.click(grid, offset=(2, 1))
        assert grid.cell == ("commodity_name", "Wheat"), "a click on a key column hits it wherever the rows scrolled"


@pytest.mark.parametrize("size", [(80, 24), (140, 40)])
async def test_the_tables_are_listed_with_types_and_a_name_is_inserted(served: Served, size: tuple[int, int]) -> None:
    async with driven(served, size) as screen:
        panel = screen.app.query_one(SchemaPanel)
        await until(screen.pilot, lambda: panel.names.root.children)
        is_broad = size[0] == 140
        assert panel.display == is_broad
        screen.body.editor.replace_all("SELECT ")
        await screen.press("f12")
        await until(screen.pilot, lambda: panel.names.has_focus)
        table = next(each for each in panel.names.root.children if str(each.label).startswith("fct_psd"))
        panel.names.move_cursor(table)
        await screen.press("right")
        await until(screen.pilot, lambda: table.is_expanded)
        value = next(each for each in table.children if str(each.label).startswith("value"))
        assert str(value.label) == "value  DOUBLE"
        panel.names.move_cursor(value)
        await screen.press("enter")
        await until(screen.pilot, lambda: screen.body.editor.text == "SELECT value")
        await screen.press("f12")
        await until(screen.pilot, lambda: panel.names.has_focus)
        await screen.press("left")
        await until(screen.pilot, lambda: not table.is_expanded)
        await screen.press("f12")
        await until(screen.pilot, lambda: panel.display == is_broad and not panel.names.has_focus)


async def test_the_comment_of_a_name_is_shown(served: Served) -> None:
    from tui.query.catalog import Catalog, Column, Relation

    async with driven(served, (140, 40)) as screen:
        panel = screen.app.query_one(SchemaPanel)
        await until(screen.pilot, lambda: panel.names.root.children)
        column = Column("value", "DOUBLE", "What USDA\nprinted")
        panel.names.show(Catalog({"fct": Relation("fct", (column,), "One row per version", 7)}))
        await screen.press("f12")
        await until(screen.pilot, lambda: panel.names.has_focus)
        await screen.press("down", "right")
        await until(screen.pilot, lambda: "One row per version" in screen.text_of("schema-comment"))
        await screen.press("down")
        await until(screen.pilot, lambda: "What USDA printed" in screen.text_of("schema-comment"))
