"""Tests of the table: minimal redraws, and a cursor that stays on its row."""

import pytest
from textual.app import App, ComposeResult

from tui.widgets.columns import Bar, Cell, Column, Row, fit_columns, format_cell
from tui.widgets.table import LazyRows, Table

COLUMNS = (Column("id", right=True), Column("what", flexible=True), Column("more", rank=1), Column("most", rank=2))


class _TableApp(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.refreshed: list[int] = []

    def compose(self) -> ComposeResult:
        yield Table(COLUMNS, empty="? nothing\n  next: materia run-all")

    def on_table_opened(self, message: Table.Opened) -> None:
        self.opened.append(message.key)


def _rows(*ids: int, what: str = "what") -> list[Row]:
    return [Row(str(n), (Cell(str(n)), Cell(what), Cell("more"), Cell("most"))) for n in ids]


async def test_cursor_stays_on_its_row_when_rows_come_and_go() -> None:
    app = _TableApp()
    async with app.run_test(size=(60, 12)) as pilot:
        table = app.query_one(Table)
        table.show(_rows(*range(10, 0, -1)))
        table.focus()
        await pilot.press("down", "down")
        assert table.current.key == "8"
        table.show(_rows(*range(14, 0, -1)))
        assert table.current.key == "8"
        table.show(_rows(14, 13, 12))
        assert table.current.key == "12"
        table.show([])
        assert table.current is None
        await pilot.press("down", "enter")
        assert app.opened == []


async def test_keys_move_through_ten_thousand_rows_and_enter_opens() -> None:
    app = _TableApp()
    async with app.run_test(size=(60, 12)) as pilot:
        table = app.query_one(Table)
        table.show(_rows(*range(10_000)))
        table.focus()
        await pilot.press("end", "enter", "home", "enter", "pagedown", "enter", "up", "enter")
        assert app.opened == ["9999", "0", "11", "10"]


async def test_a_list_of_a_million_rows_builds_those_that_are_seen() -> None:
    built: set[int] = set()

    def row_at(index: int) -> Row:
        built.add(index)
        return _rows(index)[0]

    app = _TableApp()
    async with app.run_test(size=(60, 12)) as pilot:
        table = app.query_one(Table)
        table.show(LazyRows("test", 1_000_000, row_at, int))
        table.focus()
        await pilot.press("end")
        assert table.current.key == "999999"
        await pilot.press("up", "home", "pagedown")
        assert table.move_to("500000") and table.current.key == "500000"
        await pilot.pause()
        assert len(built) < 200


async def test_the_row_under_the_cursor_is_always_in_view() -> None:
    app = _TableApp()
    async with app.run_test(size=(60, 12)) as pilot:
        table = app.query_one(Table)
        table.styles.height = 12
        table.show(_rows(*range(100)))
        table.focus()
        for key in ("end", "up", "pageup", "pageup", "home", "pagedown"):
            await pilot.press(key)
            await pilot.pause()
            top = table.scroll_offset.y
            assert top <= int(table.current.key) < top + 11


async def test_a_row_stays_at_its_place_on_the_screen_when_others_come_above_it() -> None:
    app = _TableApp()
    async with app.run_test(size=(60, 12)) as pilot:
        table = app.query_one(Table)
        table.styles.height = 12
        table.show(_rows(*range(100)))
        table.focus()
        await pilot.press(*["pagedown"] * 4, "up", "up", "up")
        await pilot.pause()
        assert (table.current.key, table.scroll_offset.y) == ("41", 34)
        table.show(_rows(*range(-3, 100)))
        await pilot.pause()
        assert (table.current.key, table.scroll_offset.y) == ("41", 37)


async def test_only_changed_lines_are_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    app = _TableApp()
    async with app.run_test(size=(60, 12)) as pilot:
        table = app.query_one(Table)
        table.show(_rows(1, 2, 3))
        await pilot.pause()
        drawn: list[int] = []
        monkeypatch.setattr(table, "refresh_line", drawn.append)
        table.show(_rows(1, 2, 3))
        assert drawn == []
        table.show([*_rows(1), *_rows(2, what="hoho"), *_rows(3)])
        assert drawn == [2]
        changed = (*_rows(1), *_rows(2, what="hehe"), *_rows(3, what="hehe"))
        table.show(LazyRows("now", 3, changed.__getitem__, int))
        assert drawn == [2, 2, 3]


async def test_a_click_moves_and_a_second_one_opens() -> None:
    app = _TableApp()
    async with app.run_test(size=(60, 12)) as pilot:
        app.query_one(Table).show(_rows(5, 6, 7))
        await pilot.pause()
        await pilot.click(Table, offset=(3, 2))
        assert app.query_one(Table).current.key == "6" and app.opened == []
        await pilot.click(Table, offset=(3, 2))
        assert app.opened == ["6"]


def test_narrow_tables_drop_the_least_important_columns_first() -> None:
    natural = (4, 40, 10, 10)
    assert fit_columns(COLUMNS, natural, 80) == (4, 40, 10, 10)
    assert fit_columns(COLUMNS, natural, 50) == (4, 20, 10, 10)
    assert fit_columns(COLUMNS, natural, 40) == (4, 22, 10, 0)
    assert fit_columns(COLUMNS, natural, 25) == (4, 19, 0, 0)


def test_cells_are_cut_and_aligned() -> None:
    assert format_cell(Cell("12"), 4, Column("n", right=True)) == "  12"
    assert format_cell(Cell("abcdef"), 4, Column("t")) == "abc…"
    assert format_cell(Cell("▁▂▃▄"), 2, Column("s", tail=True)) == "▃▄"
    assert format_cell(Cell("日本語"), 5, Column("t")) == "日本…"
    assert format_cell(Bar("━", "", 0.5, 1.0), 8, Column("b")) == "    ━━━━"
    assert format_cell(Bar("━", "", 1.0, 1.0), 8, Column("b")) == "       ━"
