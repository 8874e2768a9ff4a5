"""Tests of the Overview screen: alert order, and navigation from rows to details."""

import os
import threading
import time
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from ops.health.heartbeat import FAILING_AFTER, Heartbeat
from ops.health.status import Problem, Severity
from ops.host.lock import writer_lock
from ops.workers.view import Workers
from tests.support.consoles import screen_of, until
from tests.support.served import Served, served_console
from tests.tui.building import NOW, WORKER, Past, console_on, context_in, serve_at, settings_in, timedelta
from tui.overview import drawing
from tui.overview.pane import OverviewPane
from tui.overview.snapshot import Overview, read_overview
from tui.shell import release_watch
from tui.shell.app import ConsoleApp
from tui.shell.command import CommandScreen
from tui.shell.context import create_context
from tui.shell.workers_watch import WorkersSnapshot, WorkersWatch
from tui.widgets.panel import Failure, Found, Panel
from tui.widgets.table import Table


def _alerts(app: ConsoleApp) -> list[str]:
    return [row.cells[1].text for row in app.query_one("#alerts", Table).rows]


def _shown_run(app: ConsoleApp) -> str:
    return str(app.query_one("#facts-panel", Panel).border_title) if app.query("#facts-panel") else ""


async def test_the_worst_alert_comes_first(failing_dir: Path) -> None:
    app = console_on(failing_dir)
    async with app.run_test(size=(140, 40)) as pilot:
        await until(pilot, lambda: _alerts(app))
        failed, stale = _alerts(app)
        assert failed.startswith("export_serving failed (run 8)") and "newest served release" in stale


async def test_the_first_frame_holds_the_pipelines_and_claims_nothing_about_the_rest(
    failing_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_read = threading.Event()
    monkeypatch.setattr(OverviewPane, "look", lambda pane: may_read.wait(60) and read_overview(pane.context))
    app = console_on(failing_dir)
    async with app.run_test(size=(140, 40)) as pilot:
        try:
            await until(pilot, lambda: "export_serving" in screen_of(pilot))
            shown = screen_of(pilot)
            assert shown.count(drawing.READING) == 4 and "✗ failed" in shown
            assert not [word for word in ("well", "fresh", "no workers", "alive", "no data") if word in shown]
            assert not app.query_one(OverviewPane).drawn.is_set(), "keys wait for the alerts"
        finally:
            may_read.set()
        await until(pilot, lambda: _alerts(app) and drawing.READING not in screen_of(pilot))


async def test_enter_on_an_alert_opens_the_run_that_explains_it(failing_dir: Path) -> None:
    app = console_on(failing_dir)
    async with app.run_test(size=(140, 40)) as pilot:
        await pilot.press("enter")
        await until(pilot, lambda: _shown_run(app) == "Run 8")
        assert app.shown_pane.PANE_ID == "runs"


def _with_problems(overview: Overview, *problems: Problem) -> Overview:
    assert isinstance(overview.status, Found)
    return replace(overview, status=Found(replace(overview.status.value, problems=problems)))


async def test_the_cursor_stays_on_its_alert_when_a_worse_one_comes(failing_dir: Path) -> None:
    app = console_on(failing_dir)
    async with app.run_test(size=(140, 40)) as pilot:
        await pilot.press("down")
        assert app.query_one("#alerts", Table).current.cells[1].text.startswith("the newest served release")
        pane = app.query_one(OverviewPane)
        worse = Problem(Severity.FAILED, "no room left", None, "make room", key="disk-full")
        pane.draw(_with_problems(pane._overview, worse, *pane._overview.status.value.problems))
        assert app.query_one("#alerts", Table).current.cells[1].text.startswith("the newest served release")


async def test_problems_of_every_severity_are_drawn_and_damage_comes_first(healthy_dir: Path) -> None:
    app = console_on(healthy_dir)
    async with app.run_test(size=(140, 40)) as pilot:
        pane = app.query_one(OverviewPane)
        await until(pilot, pane.drawn.is_set)
        every = [Problem(each, f"one is {each}", None, "materia run-all", key=each) for each in Severity]
        pane.draw(_with_problems(pane._overview, *every))
        table = app.query_one("#alerts", Table)
        assert table.current.cells[1].text == "one is damaged" and table.current.cells[3].text == "f fix"


async def test_opening_a_resolved_alert_shows_that_it_is_resolved(
    failing_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = console_on(failing_dir)
    async with app.run_test(size=(140, 40)) as pilot:
        await until(pilot, lambda: _alerts(app))
        # Else what is looked at meanwhile is drawn, where the alert still is.
        monkeypatch.setattr(OverviewPane, "look", lambda _: None)
        await app.workers.wait_for_complete()
        await pilot.pause()
        pane, table = app.query_one(OverviewPane), app.query_one("#alerts", Table)
        table.action_edge(-1)
        table.action_open()  # a message, which comes to the screen only after what is drawn now
        pane.draw(_with_problems(pane._overview))
        await until(pilot, lambda: [note.message for note in app._notifications] == ["this alert is resolved"])


async def test_an_older_result_is_not_drawn_over_a_newer_one(
    healthy_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_taken, may_answer, has_answered = threading.Event(), threading.Event(), threading.Event()

    def take_slowly(*asked: Any) -> Overview:
        overview = read_overview(*asked)
        if not is_taken.is_set():
            is_taken.set()
            assert may_answer.wait(60)
            has_answered.set()
        return overview

    app = console_on(healthy_dir)
    seen: list[int] = []
    async with app.run_test(
        size=(140, 40), message_hook=lambda m: seen.append(1) if isinstance(m, OverviewPane.Seen) else None
    ) as pilot:
        await app.workers.wait_for_complete()
        monkeypatch.setattr("tui.overview.pane.read_overview", take_slowly)
        await pilot.press("r")
        await until(pilot, is_taken.is_set)
        past = Past(settings_in(healthy_dir))
        past.run("transform", "failed", timedelta(minutes=1), 2.0, error="no luck")
        past.close()
        await pilot.press("r")
        await until(pilot, lambda: _alerts(app) == ["transform failed (run 17): no luck"])
        before = len(seen)
        may_answer.set()
        await until(pilot, lambda: has_answered.is_set() and len(seen) > before)
        await pilot.pause()
        assert _alerts(app) == ["transform failed (run 17): no luck"]


async def test_a_pipeline_without_runs_shows_that_in_read_only_mode(tmp_path: Path) -> None:
    app = console_on(tmp_path, read_only=True)
    async with app.run_test(size=(140, 40)) as pilot:
        await pilot.press("tab", "enter")
        await until(pilot, lambda: app._notifications)
        assert "run-all never ran" in next(iter(app._notifications)).message


async def test_fix_shows_the_command_of_the_alert_under_the_cursor(failing_dir: Path) -> None:
    app = console_on(failing_dir)
    async with app.run_test(size=(140, 40)) as pilot:
        for key, command in (("down", "materia run-all"), ("up", "materia pipeline run export_serving")):
            await pilot.press(key, "f")
            await until(pilot, lambda: isinstance(app.screen, CommandScreen))
            assert app.screen.query_one(Table).current.cells[1].text == command
            await pilot.press("escape")


async def test_a_fix_is_performed_from_the_alert_and_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MATERIA_DATA_DIR", str(tmp_path))
    past = Past(settings_in(tmp_path))
    past.run("transform", "failed", timedelta(hours=1), 1.0, error="no luck")
    past.close()
    app = ConsoleApp(create_context(settings_in(tmp_path), read_only=False))
    async with app.run_test(size=(140, 40)) as pilot:
        await pilot.press("f", "enter")
        await until(pilot, lambda: _shown_run(app) == "Run 2")
        await until(pilot, lambda: "materia pipeline run transform" in [note.title for note in app._notifications])


async def test_a_command_that_is_no_run_is_followed_in_its_log(
    healthy_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MATERIA_DATA_DIR", str(healthy_dir))
    app = console_on(healthy_dir)
    async with app.run_test(size=(140, 40)) as pilot:
        await pilot.press("H", "enter")
        await until(pilot, lambda: app.shown_pane.PANE_ID == "logs" and "Python" in screen_of(pilot))


async def test_a_roll_back_offers_the_other_kept_generations(healthy_dir: Path) -> None:
    settings = settings_in(healthy_dir)
    settings.serving_path.unlink()
    serve_at(settings, 11, date(2026, 10, 9), timedelta(days=40))
    app = console_on(healthy_dir)
    async with app.run_test(size=(140, 40)) as pilot:
        await until(pilot, lambda: "U roll back" in screen_of(pilot))
        await pilot.press("U")
        await until(pilot, lambda: isinstance(app.screen, CommandScreen))
        rows = app.screen.query_one(Table).rows
        assert [row.cells[1].text for row in rows] == ["materia serving rollback 12"]


async def test_the_footer_offers_no_roll_back_without_another_generation(healthy_dir: Path) -> None:
    app = console_on(healthy_dir)
    async with app.run_test(size=(140, 40)) as pilot:
        await until(pilot, lambda: "all is well" in screen_of(pilot))
        await pilot.pause()
        assert "? help" in screen_of(pilot) and "roll back" not in screen_of(pilot)


async def test_a_worker_whose_time_is_up_is_an_alert_that_leads_to_it(
    healthy_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = replace(WORKER, expires_at=NOW - timedelta(minutes=20))
    monkeypatch.setattr(WorkersWatch, "latest", lambda _, now: WorkersSnapshot(Found(Workers((late, WORKER)))))
    app = console_on(healthy_dir)
    async with app.run_test(size=(140, 40)) as pilot:
        await until(pilot, lambda: _alerts(app))
        (row,) = app.query_one("#alerts", Table).rows
        assert [cell.text for cell in row.cells] == [
            "▲",
            "worker materia-7 is overdue",
            "20 min ago",
            "f fix",
        ]
        await pilot.press("f")
        await until(pilot, lambda: isinstance(app.screen, CommandScreen))
        assert app.screen.query_one(Table).current.cells[1].text == "materia worker reap"


async def test_fix_starts_nothing_in_read_only_mode(tmp_path: Path) -> None:
    app = console_on(tmp_path, read_only=True)
    async with app.run_test(size=(140, 40)) as pilot:
        await pilot.press("f", "enter")
        await until(pilot, lambda: len(app._notifications) == 1)
        assert len(app.screen_stack) == 1


async def test_enter_on_a_pipeline_opens_its_last_run(healthy_dir: Path) -> None:
    app = console_on(healthy_dir)
    async with app.run_test(size=(140, 40)) as pilot:
        app.query_one("#pipelines", Table).focus()
        await pilot.press("down", "enter")
        await until(pilot, lambda: _shown_run(app) == "Run 16")


async def test_changes_are_shown_and_nothing_else_is_read(healthy_dir: Path) -> None:
    app = console_on(healthy_dir)
    async with app.run_test(size=(140, 40)) as pilot:
        pane = app.query_one(OverviewPane)
        await until(pilot, pane.drawn.is_set)
        assert pane.look() is None  # no trace of anything new
        past = Past(settings_in(healthy_dir))
        past.run("transform", "failed", timedelta(minutes=1), 2.0, error="no luck")
        past.close()
        await pilot.press("r")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert _alerts(app) == ["transform failed (run 17): no luck"]


def test_ten_thousand_runs_cost_a_handful_of_looks_into_an_index(tmp_path: Path) -> None:
    past = Past(settings_in(tmp_path))
    past._db.execute("BEGIN")
    for number in range(10_000):
        past.run("extract", "done", timedelta(minutes=number + 1), 1.0)
    past._db.execute("COMMIT")
    past.close()
    began = time.process_time()
    overview = read_overview(context_in(tmp_path))
    assert isinstance(overview.pipelines, Found) and len(overview.pipelines.value.recent["extract"]) == 30
    assert time.process_time() - began < 1.0  # a full scan that parses every run takes several times that


def test_the_supervisor_is_alive_only_while_its_ticks_succeed() -> None:
    beats = [
        Heartbeat(NOW - age, "waiting", 60.0, 1, "host", "code", failures=failures)
        for failures in (0, FAILING_AFTER)
        for age in (timedelta(0), timedelta(hours=1))
    ]
    marks = [drawing.heartbeat(beat, NOW).partition("  ")[0] for beat in beats]
    assert [word for mark in marks for word in ("alive", "late", "failing") if word in mark] == [
        "alive",
        "late",
        "failing",
        "failing",
    ]


def _publish_again(folder: Path) -> None:
    link = settings_in(folder).serving_path
    target = link.readlink()
    time.sleep(0.02)  # a file system's clock is coarser than ours
    link.unlink()
    link.symlink_to(target)
    time.sleep(0.02)


async def test_a_file_that_another_screen_cannot_read_is_an_alert_until_it_can(healthy_dir: Path) -> None:
    app = console_on(healthy_dir)
    async with app.run_test(size=(140, 40)) as pilot:
        await until(pilot, lambda: "all is well" in screen_of(pilot) and "fresh" in screen_of(pilot))
        app.context.sightings.note("query", Failure("block 7 is damaged", "materia doctor"), NOW)
        await until(pilot, lambda: _alerts(app) == ["Query cannot read: block 7 is damaged"])
        assert "● fresh" not in screen_of(pilot) and "cannot be read" in screen_of(pilot)
        _publish_again(healthy_dir)
        await until(pilot, lambda: "all is well" in screen_of(pilot) and "fresh" in screen_of(pilot))
        app.context.sightings.note("query", Failure("block 7 is damaged", "materia doctor"), NOW)
        await until(pilot, lambda: _alerts(app) == ["Query cannot read: block 7 is damaged"])
        app.context.sightings.note("query", None, NOW)
        await until(pilot, lambda: "all is well" in screen_of(pilot) and "fresh" in screen_of(pilot))


async def test_the_durations_show_which_runs_failed(tmp_path: Path) -> None:
    past = Past(settings_in(tmp_path))
    for hours, status in ((4, "done"), (3, "failed"), (2, "interrupted"), (1, "done")):
        past.run("extract", status, timedelta(hours=hours), hours)
    past.close()
    app = console_on(tmp_path)
    async with app.run_test(size=(140, 40)) as pilot:
        await until(pilot, lambda: "▇✗■▃" in screen_of(pilot))


@pytest.mark.parametrize("size", [(80, 24), (140, 40)])
async def test_the_alert_under_the_cursor_is_shown_to_its_last_word(failing_dir: Path, size: tuple[int, int]) -> None:
    app = console_on(failing_dir)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: "2,171,402 are" in " ".join(screen_of(pilot).split()))
        await pilot.press("down")
        await until(pilot, lambda: "next: materia run-all; if USDA has not posted it, wait" in screen_of(pilot))


async def test_a_high_terminal_shows_the_end_of_the_newest_log_and_the_free_disk(
    failing_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.overview.snapshot._free_bytes", lambda _: 5_000_000_000)
    app = console_on(failing_dir)
    async with app.run_test(size=(140, 40)) as pilot:
        for text in (
            "✗ 09:00:16 run=8 step=generation run failed",
            "Log run-8.log",
            "no run in progress · disk 5.0 GB free",
        ):
            await until(pilot, lambda: text in screen_of(pilot))  # noqa: B023


async def test_the_log_keeps_to_its_panel_when_another_takes_more_room(healthy_dir: Path) -> None:
    """One line too many would hide the newest."""
    app = console_on(healthy_dir)
    async with app.run_test(size=(140, 40)) as pilot:
        panel, log, served = (app.query_one(f"#{name}") for name in ("log-panel", "log", "served-panel"))
        await until(pilot, lambda: 6 < log.size.height == panel.content_size.height)
        before = log.size.height
        served.styles.height = served.size.height + 4
        await until(pilot, lambda: log.size.height == panel.content_size.height < before)


async def test_the_holder_of_the_lock_is_named(healthy_dir: Path) -> None:
    app = console_on(healthy_dir)
    with writer_lock(settings_in(healthy_dir).lock_path, "scrub"):
        async with app.run_test(size=(140, 40)) as pilot:
            await until(pilot, lambda: f"scrub (pid {os.getpid()}) holds the lock since" in screen_of(pilot))


async def test_the_newest_release_is_shown_with_its_biggest_driver(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release_watch, "DELAY_S", 0.0)
    monkeypatch.setattr(OverviewPane, "POLL_S", 0.1)
    app = ConsoleApp(served.context)
    async with app.run_test(size=(140, 40)) as pilot:
        await until(pilot, lambda: "United States Wheat 2025 Production -60 (1000 MT) (-0.1 %)" in screen_of(pilot))
        assert "world Wheat 2025 Ending Stocks 24,230 → 24,230 (1000 MT)" in screen_of(pilot)


@pytest.mark.parametrize("screen", ["overview", "logs"])
async def test_a_release_that_lands_is_announced_on_every_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, screen: str
) -> None:
    monkeypatch.setattr(release_watch, "DELAY_S", 0.0)
    monkeypatch.setattr("tui.shell.app._RELEASE_POLL_S", 0.1)
    console = served_console(tmp_path)
    app = ConsoleApp(console.context, first=screen)
    async with app.run_test(size=(140, 40)) as pilot:
        await until(pilot, lambda: app._newest_release)
        console.publish()
        await until(pilot, lambda: list(app._notifications))
        console.publish()  # the same release in another generation
        await pilot.pause(0.5)
        (note,) = app._notifications
        assert note.title == "The release of 2025-08-12 is served"
        assert note.message.startswith("United States Wheat 2025 Production -60 (1000 MT)")
        assert note.message.endswith("\n4 shows what changed") and note.message.count("\n") > 1
        await pilot.press("4")
        await until(pilot, lambda: not app._notifications)


async def test_a_release_that_lands_hides_little_of_a_small_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release_watch, "DELAY_S", 0.0)
    monkeypatch.setattr("tui.shell.app._RELEASE_POLL_S", 0.1)
    for screen, lines in (("logs", 2), ("releases", 1)):
        (tmp_path / screen).mkdir()
        console = served_console(tmp_path / screen)
        app = ConsoleApp(console.context, first=screen)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda app=app: app._newest_release)
            console.publish()
            await until(pilot, lambda app=app: list(app._notifications))
            (note,) = app._notifications
            assert len(note.message.splitlines() or [""]) == lines
