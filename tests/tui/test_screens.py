"""Every screen as a picture, empty, healthy and failing, at two sizes."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from tests.tui.building import console_on
from tests.tui.conftest import STATES

SIZES = {"80x24": (80, 24), "140x40": (140, 40), "60x20": (60, 20)}


async def _settle(pilot: Pilot[None]) -> None:
    await pilot.app.workers.wait_for_complete()
    await pilot.pause(0.3)  # exact times come once the cursor has settled


def _settled_then(key: str) -> Callable[[Pilot[None]], Awaitable[None]]:
    """Press a key when everything is drawn: what is behind a dialog then always looks the same."""

    async def press(pilot: Pilot[None]) -> None:
        await _settle(pilot)
        await pilot.press(key)
        await _settle(pilot)

    return press


@pytest.mark.parametrize("screen", ["overview", "runs"])
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("size", ["80x24", "140x40"])
def test_screen_looks_as_it_did(snap_compare: Any, tmp_path: Path, screen: str, state: str, size: str) -> None:
    app = console_on(STATES[state](tmp_path), first=screen)
    assert snap_compare(app, terminal_size=SIZES[size], run_before=_settle)


@pytest.mark.parametrize("size", ["80x24", "140x40"])
def test_workers_say_what_is_missing(snap_compare: Any, tmp_path: Path, size: str) -> None:
    assert snap_compare(console_on(tmp_path, first="workers"), terminal_size=SIZES[size], run_before=_settle)


def test_overview_fits_sixty_columns(snap_compare: Any, failing_dir: Path) -> None:
    assert snap_compare(console_on(failing_dir), terminal_size=SIZES["60x20"], run_before=_settle)


def test_dataflow_is_drawn_in_the_colours_of_its_run(snap_compare: Any, failing_dir: Path) -> None:
    app = console_on(failing_dir, first="runs")
    assert snap_compare(app, terminal_size=SIZES["140x40"], run_before=_settled_then("d"))


def test_starting_shows_the_commands(snap_compare: Any, healthy_dir: Path) -> None:
    app = console_on(healthy_dir, first="runs")
    assert snap_compare(app, terminal_size=SIZES["80x24"], run_before=_settled_then("s"))


def test_help_lists_every_action(snap_compare: Any, healthy_dir: Path) -> None:
    app = console_on(healthy_dir, first="runs")
    assert snap_compare(app, terminal_size=SIZES["80x24"], run_before=_settled_then("question_mark"))
