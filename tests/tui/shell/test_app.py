"""Tests of the shell: screens, the registry of actions, read-only mode and navigation."""

import asyncio
import gc
from pathlib import Path

import pytest

from dataflows.errors import SettingsError
from tests.support.consoles import until
from tests.tui.building import console_on, context_in
from tui.runs.pane import RunsPane
from tui.shell.actions import ActionSpec, Registry
from tui.shell.app import ConsoleApp
from tui.shell.bars import ActionBar
from tui.shell.command import CommandScreen
from tui.shell.config import TuiConfig, config_path, read_config
from tui.shell.help import HelpScreen
from tui.shell.messages import OpenRun
from tui.shell.pane import PANES, make_pane
from tui.widgets.panel import Found, Panel, attempt
from tui.widgets.table import Table


async def test_numbers_switch_screens_and_only_shown_ones_are_created(healthy_dir: Path) -> None:
    app = console_on(healthy_dir)
    async with app.run_test() as pilot:
        assert app.shown_pane.PANE_ID == "overview" and len(app.query(".pane")) == 1
        await pilot.press("6")
        assert app.shown_pane.PANE_ID == "workers" and len(app.query(".pane")) == 2
        assert [pane.id for pane in app.query(".pane") if pane.display] == ["workers"]
        await pilot.press("1")
        assert app.shown_pane.PANE_ID == "overview" and len(app.query(".pane")) == 2


async def test_a_click_on_a_name_switches_screens(healthy_dir: Path) -> None:
    app = console_on(healthy_dir)
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.click("#top", offset=(14, 0))
        assert app.shown_pane.PANE_ID == "runs"


async def test_every_pane_is_notified_when_it_is_hidden(healthy_dir: Path) -> None:
    app = console_on(healthy_dir)
    async with app.run_test() as pilot:
        await app.workers.wait_for_complete()
        await pilot.pause()
        overview = app.shown_pane
        assert overview._timer is not None
        await pilot.press("6")
        assert overview._timer is None


async def test_navigation_messages_wait_until_the_screen_is_created(
    failing_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_mount, mount = asyncio.Event(), RunsPane.on_mount

    async def mount_slowly(pane: RunsPane) -> None:
        await may_mount.wait()
        mount(pane)

    monkeypatch.setattr(RunsPane, "on_mount", mount_slowly)
    app = console_on(failing_dir)
    async with app.run_test(size=(140, 40)) as pilot:
        app.run_worker(app.show_pane("runs"))
        while not app.query("#runs"):
            await asyncio.sleep(0)
        app.post_message(OpenRun(3))
        while not app._message_queue.empty():
            await asyncio.sleep(0)
        may_mount.set()
        await until(pilot, lambda: app.query_one("#facts-panel", Panel).border_title == "Run 3")


async def test_focus_returns_to_where_it_was(failing_dir: Path) -> None:
    app = console_on(failing_dir)
    async with app.run_test() as pilot:
        await pilot.press("tab")
        assert app.focused.id == "pipelines"
        await pilot.press("2", "1")
        assert app.focused.id == "pipelines"


async def test_a_screen_that_cannot_be_created_shows_the_error_and_others_work(
    healthy_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PANES, "query", "tui.nowhere:Pane")
    app = console_on(healthy_dir)
    async with app.run_test() as pilot:
        await pilot.press("3")
        assert "tui.nowhere" in str(app.shown_pane.query_one("Static").content)
        await pilot.press("2")
        assert app.shown_pane.PANE_ID == "runs"


@pytest.mark.parametrize("pane_id", ["overview", "runs", "workers"])
def test_every_action_has_a_method_a_help_and_a_key_of_its_own(pane_id: str, tmp_path: Path) -> None:
    pane = make_pane(pane_id, context_in(tmp_path))
    specs = pane.actions()
    keys = [key for spec in specs for key in spec.key.split(",")]
    assert len(keys) == len(set(keys))
    for spec in specs:
        assert spec.owner == pane_id == pane.PANE_ID
        assert callable(getattr(pane, f"action_{spec.verb}"))
        assert spec.help and spec.label


async def test_the_palette_goes_to_the_screen_of_an_action(healthy_dir: Path) -> None:
    app = console_on(healthy_dir)
    async with app.run_test(size=(140, 40)) as pilot:
        await pilot.press("ctrl+p", *"backfill")
        await until(pilot, lambda: app.screen.query("CommandList") and app.screen.query_one("CommandList").option_count)
        await pilot.press("enter")
        await until(pilot, lambda: app.shown_pane.PANE_ID == "runs" and isinstance(app.screen, CommandScreen))


async def test_palette_offers_what_can_be_done_here(healthy_dir: Path) -> None:
    from tui.shell.palette import ActionProvider

    app = console_on(healthy_dir, first="runs")
    async with app.run_test() as pilot:
        provider = ActionProvider(app.screen)
        offered = [hit.text or str(hit.match_display) async for hit in provider.search("start")]
        assert any("runs: start" in text for text in offered)
        await pilot.press("ctrl+p", *"workers screen")
        await until(pilot, lambda: app.screen.query("CommandList") and app.screen.query_one("CommandList").option_count)
        await pilot.press("enter")
        await until(pilot, lambda: app.shown_pane.PANE_ID == "workers")


async def test_help_shows_the_actions_of_the_screen_in_view(healthy_dir: Path) -> None:
    app = console_on(healthy_dir, first="runs")
    async with app.run_test() as pilot:
        await pilot.press("question_mark")
        text = str(app.screen.query_one("Static").content)
        assert isinstance(app.screen, HelpScreen)
        assert all(spec.help in text for spec in app.available)
        await pilot.press("escape")
        assert not isinstance(app.screen, HelpScreen)


# Read-only


async def test_read_only_hides_what_acts_and_its_keys_do_nothing(healthy_dir: Path) -> None:
    app = console_on(healthy_dir, first="runs", read_only=True)
    async with app.run_test(size=(100, 30)) as pilot:
        assert not any(spec.writes for spec in app.available)
        assert "start" not in str(app.query_one(ActionBar).content)
        await pilot.press("s")
        assert len(app.screen_stack) == 1


async def test_read_only_is_switched_live(healthy_dir: Path) -> None:
    app = console_on(healthy_dir, first="runs")
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("ctrl+o")
        assert app.shown_pane.context.read_only and "start" not in str(app.query_one(ActionBar).content)
        await pilot.press("s")
        assert len(app.screen_stack) == 1
        await pilot.press("ctrl+o", "s")
        assert len(app.screen_stack) == 2


async def test_a_locked_console_cannot_be_switched_to_act(healthy_dir: Path) -> None:
    app = ConsoleApp(context_in(healthy_dir, read_only=True), first="runs", locked=True)
    async with app.run_test() as pilot:
        await pilot.press("ctrl+o", "s")
        assert app.context.read_only and len(app.screen_stack) == 1


# Keys of one's own


async def test_a_key_is_remapped_by_the_action_s_id(healthy_dir: Path) -> None:
    app = console_on(healthy_dir, first="runs", keys={"runs.start": "z"})
    async with app.run_test(size=(100, 30)) as pilot:
        assert " z start" in app.query_one(ActionBar).visual.plain
        await pilot.press("s")
        assert len(app.screen_stack) == 1
        await pilot.press("z")
        assert len(app.screen_stack) == 2


@pytest.mark.parametrize("name", ["app.fly", "cellar.fly"])
def test_a_key_for_an_action_that_is_not_there_is_refused(name: str) -> None:
    registry = Registry({name: "f", "logs.fly": "g"})
    registry.add([ActionSpec("app.quit", "q", "quit", "Leave")])
    with pytest.raises(SettingsError, match=name):
        registry.check_all_known(("app", "logs"))


async def test_an_unknown_action_of_a_screen_created_later_is_reported_there(healthy_dir: Path) -> None:
    app = console_on(healthy_dir, keys={"workers.fly": "f"})
    async with app.run_test() as pilot:
        await pilot.press("6")
        assert app.shown_pane.PANE_ID == "workers"
        assert any("workers.fly" in note.message for note in app._notifications)


def test_config_names_keys_and_theme(tmp_path: Path) -> None:
    path = config_path({"MATERIA_TUI_CONFIG": str(tmp_path / "tui.toml")})
    assert read_config(path) == TuiConfig()
    path.write_text('theme = "nord"\n[keys]\n"runs.start" = "z"\n')
    assert read_config(path) == TuiConfig({"runs.start": "z"}, "nord")
    for broken in ("keys = 3", "[keys]\n'runs.start' = 1", "theme = 4", "[[["):
        path.write_text(broken)
        with pytest.raises(SettingsError, match=r"tui\.toml"):
            read_config(path)


def test_unknown_theme_and_screen_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="neon"):
        ConsoleApp(context_in(tmp_path), TuiConfig(theme="neon"))
    with pytest.raises(SettingsError, match="cellar"):
        ConsoleApp(context_in(tmp_path), first="cellar")


# Navigation and failures


async def test_a_message_opens_the_run_it_names(failing_dir: Path) -> None:
    app = console_on(failing_dir)
    async with app.run_test(size=(120, 40)) as pilot:
        app.shown_pane.post_message(OpenRun(8))
        await until(
            pilot, lambda: app.query("#facts-panel") and app.query_one("#facts-panel", Panel).border_title == "Run 8"
        )
        assert app.shown_pane.PANE_ID == "runs"


async def test_the_failure_of_one_panel_affects_no_other(healthy_dir: Path) -> None:
    (healthy_dir / "runs.sqlite").write_bytes(b"this is no journal" * 100)
    app = console_on(healthy_dir)
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.pause()
        assert "generation 12" in str(app.query_one("#served").content)
        assert "✗" in app.query_one("#alerts", Table).rows[0].cells[0].text


async def test_an_error_while_drawing_becomes_a_line(healthy_dir: Path) -> None:
    app = console_on(healthy_dir)
    async with app.run_test() as pilot:
        await app.workers.wait_for_complete()
        await pilot.pause()
        panel = app.query_one("#served-panel", Panel)
        panel.show(Found({}), lambda found: found["missing"])
        await pilot.pause()
        assert panel.query_one(".failure").display and "KeyError" in str(panel.query_one(".failure").content)
        panel.show(Found(1), lambda found: None)
        assert not panel.query_one(".failure").display


def test_a_failure_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HETZNER_TOKEN", "hunter2hunter2")

    def look() -> None:
        raise ValueError("the token hunter2hunter2 was refused")

    assert "hunter2" not in str(attempt(look))


# The garbage collector


async def test_a_console_that_has_its_process_to_itself_spares_the_collector_what_stays(healthy_dir: Path) -> None:
    frozen, size = gc.get_freeze_count(), len(gc.get_objects())
    app = ConsoleApp(context_in(healthy_dir), owns_process=True)
    gc.disable()
    try:
        async with app.run_test() as pilot:
            await until(pilot, lambda: gc.get_freeze_count() > frozen)
            assert gc.get_freeze_count() >= frozen + size / 2 and gc.isenabled()
    finally:
        gc.unfreeze()
        gc.enable()


async def test_a_console_among_others_leaves_the_collector_alone(healthy_dir: Path) -> None:
    frozen = gc.get_freeze_count()
    async with console_on(healthy_dir).run_test() as pilot:
        await pilot.press("2")
        await pilot.pause()
        assert gc.get_freeze_count() <= frozen  # what was frozen may be freed
