"""Snapshot tests of every screen: empty, healthy and failing, at two sizes."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from textual.app import App
from textual.pilot import Pilot

from ops.workers.view import Workers
from tests.support.consoles import until
from tests.tui.building import NOW, WORKER, console_on
from tests.tui.conftest import STATES
from tui.logs.pane import LogsPane
from tui.shell.workers_watch import WorkersSnapshot, WorkersWatch
from tui.widgets.panel import Found, Panel
from tui.widgets.table import Table

SIZES = {"80x24": (80, 24), "140x40": (140, 40), "60x20": (60, 20)}


async def _settle(pilot: Pilot[None]) -> None:
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()
    await until(pilot, lambda: _is_fully_drawn(pilot.app))
    await pilot.pause()


def _is_fully_drawn(app: App[None]) -> bool:
    """Whether the exact times of the row under the cursor and the log are shown."""
    table, reading = app.focused, [pane._reading for pane in app.query(LogsPane) if not pane._drawing]
    if app.query(LogsPane) and not all(reading) and app.query_one(LogsPane)._sources:
        return False
    if any(each and each.document.line_count is None for each in reading):
        return False
    exact = table.current.exact if isinstance(table, Table) and table.current else ""
    panels = [each for each in table.ancestors if isinstance(each, Panel)] if table else []
    return not panels or panels[0].border_subtitle == exact


def _settled_then(key: str) -> Callable[[Pilot[None]], Awaitable[None]]:
    """Press a key once everything is drawn, so that the background of a dialog is always the same."""

    async def press(pilot: Pilot[None]) -> None:
        await _settle(pilot)
        await pilot.press(key)
        await _settle(pilot)

    return press


@pytest.fixture(autouse=True)
def _without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the screens independent of systemd and the disk of this machine."""
    monkeypatch.setattr("tui.overview.snapshot._free_bytes", lambda _: 123_456_789_000)
    monkeypatch.setattr("tui.logs.sources.has_system_journal", lambda _: False)


@pytest.mark.parametrize("screen", ["overview", "runs", "logs"])
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("size", ["80x24", "140x40"])
def test_screen_looks_as_it_did(snap_compare: Any, tmp_path: Path, screen: str, state: str, size: str) -> None:
    app = console_on(STATES[state](tmp_path), first=screen)
    assert snap_compare(app, terminal_size=SIZES[size], run_before=_settle)


@pytest.mark.parametrize("size", ["80x24", "140x40"])
def test_a_missing_log_shows_its_error_beside_the_other_logs(snap_compare: Any, failing_dir: Path, size: str) -> None:
    (failing_dir / "logs" / "run-8.log").unlink()
    app = console_on(failing_dir, first="logs")
    assert snap_compare(app, terminal_size=SIZES[size], run_before=_settle)


@pytest.mark.parametrize("state", ["healthy", "failing"])
@pytest.mark.parametrize("size", ["80x24", "140x40"])
def test_workers_and_what_they_cost_are_seen(
    snap_compare: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: str, state: str
) -> None:
    late = replace(WORKER, id="materia-4", state="off", expires_at=NOW - timedelta(minutes=20), run_id=9)
    found = Workers((WORKER,) if state == "healthy" else (late, WORKER))
    monkeypatch.setattr(WorkersWatch, "latest", lambda _, now: WorkersSnapshot(Found(found)))
    app = console_on(tmp_path, first="workers")
    assert snap_compare(app, terminal_size=SIZES[size], run_before=_settle)


@pytest.mark.parametrize("size", ["80x24", "140x40"])
def test_workers_say_what_is_missing(snap_compare: Any, tmp_path: Path, size: str) -> None:
    assert snap_compare(console_on(tmp_path, first="workers"), terminal_size=SIZES[size], run_before=_settle)


def test_overview_fits_sixty_columns(snap_compare: Any, failing_dir: Path) -> None:
    assert snap_compare(console_on(failing_dir), terminal_size=SIZES["60x20"], run_before=_settle)


def test_dataflow_is_drawn_in_the_colours_of_its_run(snap_compare: Any, failing_dir: Path) -> None:
    app = console_on(failing_dir, first="runs")
    assert snap_compare(app, terminal_size=SIZES["140x40"], run_before=_settled_then("v"))


def test_starting_shows_the_commands(snap_compare: Any, healthy_dir: Path) -> None:
    app = console_on(healthy_dir, first="runs")
    assert snap_compare(app, terminal_size=SIZES["80x24"], run_before=_settled_then("s"))


def test_help_lists_every_action(snap_compare: Any, healthy_dir: Path) -> None:
    app = console_on(healthy_dir, first="runs")
    assert snap_compare(app, terminal_size=SIZES["80x24"], run_before=_settled_then("question_mark"))
