"""The screen Runs: history, one run in full, and starting and interrupting real processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot

from ops.history import take_history
from ops.journal import Journal
from ops.run import RunStatus
from tests.support.consoles import until
from tests.tui.building import NOW, console_on, settings_in
from tui.app import ConsoleApp
from tui.command import CommandScreen
from tui.config import TuiConfig
from tui.context import context_of
from tui.messages import OpenLog
from tui.panel import Panel
from tui.runs.dag import dags_of
from tui.runs.drawing import graph_text, node_states
from tui.runs.lanes import drawn
from tui.runs.snapshot import Wanted, line_of_step, parse_wanted, take_detail
from tui.table import Table

_RUNNING = """
import sys, time
from pathlib import Path
from ops.journal import Journal
from ops.recorder import run_recorded
with Journal(Path(sys.argv[1])) as journal, run_recorded(journal, "extract") as recorder:
    with recorder.step("download"):
        print("running", flush=True)
        time.sleep(60)
"""


def _ids(app: ConsoleApp) -> list[int]:
    return [int(row.key) for row in app.query_one("#history", Table).rows]


async def _shown(pilot: Pilot[None]) -> None:
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


# History


async def test_what_failed_and_never_since_succeeded_comes_first(failing_dir: Path) -> None:
    journal = Journal(settings_in(failing_dir).journal_path)
    history = take_history(journal)
    assert [run.id for run in history.runs] == [6, 4, 3, 1] and history.unrepaired == {6}
    of_export = take_history(journal, pipeline="export_serving")
    assert of_export.unrepaired == {8}  # without a success, every failure counts


async def test_the_filter_takes_words_pipelines_and_statuses(failing_dir: Path) -> None:
    app = console_on(failing_dir, first="runs")
    async with app.run_test(size=(140, 40)) as pilot:
        await _shown(pilot)
        await pilot.press("slash", *"extract")
        await _shown(pilot)
        await until(pilot, lambda: _ids(app) == [7, 5, 3, 2])
        await pilot.press(*" died", "enter")
        await until(pilot, lambda: _ids(app) == [3])
        assert app.focused.id == "history"
        await pilot.press("escape")
        await until(pilot, lambda: _ids(app) == [6, 4, 3, 1])


def test_typed_words_are_told_apart() -> None:
    pipelines = frozenset({"extract"})
    assert parse_wanted("extract failed Gate", pipelines) == Wanted(("gate",), "extract", RunStatus.FAILED)
    assert parse_wanted("", pipelines) == Wanted()


async def test_failed_shows_only_failures_and_then_everything_again(failing_dir: Path) -> None:
    app = console_on(failing_dir, first="runs")
    async with app.run_test(size=(140, 40)) as pilot:
        await _shown(pilot)
        await pilot.press("x")
        await until(pilot, lambda: _ids(app) == [6])
        await pilot.press("x")
        await until(pilot, lambda: len(_ids(app)) == 4)


# One run


async def test_the_run_under_the_cursor_is_shown_in_full(failing_dir: Path) -> None:
    app = console_on(failing_dir, first="runs")
    async with app.run_test(size=(140, 40)) as pilot:
        await _shown(pilot)
        assert "generation 13 was refused" in app.query_one("#error").visual.plain
        assert "✗ 09:00:16 run=" in app.query_one("#log-tail").visual.plain
        steps = [row.cells[1].text.strip() for row in app.query_one("#steps", Table).rows]
        assert steps[0] == "extract" and steps[-1] == "gated"
        await pilot.press("down")
        await until(pilot, lambda: app.query_one("#facts-panel", Panel).border_title == "Run 4")
        assert not app.query_one("#error-panel").display


async def test_enter_on_a_failed_step_leads_to_its_line_in_the_log(failing_dir: Path) -> None:
    app = console_on(failing_dir, first="runs")
    opened: list[OpenLog] = []
    async with app.run_test(
        size=(140, 40), message_hook=lambda m: opened.append(m) if isinstance(m, OpenLog) else None
    ) as pilot:
        await _shown(pilot)
        await pilot.press("enter", "enter")
        await until(pilot, lambda: bool(opened))
        assert (opened[0].path.name, opened[0].run_id, opened[0].at_line) == ("run-6.log", 6, 4)


def test_a_step_s_line_is_its_error_else_its_first(failing_dir: Path) -> None:
    log = settings_in(failing_dir).log_dir / "run-8.log"
    assert line_of_step(log, "gated", failed=True) == 4
    assert line_of_step(log, "transformed", failed=False) == 2
    assert line_of_step(log, "landed", failed=False) is None
    assert line_of_step(log, "landed", failed=True) == 4


async def test_a_log_that_is_gone_is_only_the_log_s_trouble(failing_dir: Path) -> None:
    (settings_in(failing_dir).log_dir / "run-6.log").unlink()
    app = console_on(failing_dir, first="runs")
    async with app.run_test(size=(140, 40)) as pilot:
        await _shown(pilot)
        assert "is gone" in app.query_one("#log-panel .trouble").visual.plain
        assert app.query_one("#steps", Table).rows


# The dataflow


def test_the_dataflow_read_from_source_is_hamilton_s() -> None:
    from importlib import import_module

    from dataflows.driver import build

    for dag, (module, wanted) in zip(
        dags_of("run-all"), (("dataflows.extract", "snapshot"), ("dataflows.export", "generation")), strict=True
    ):
        upstream, _ = build(import_module(module)).graph.get_upstream_nodes([wanted])
        theirs = {node.name: {each.name for each in node.dependencies} for node in upstream if not node.user_defined}
        assert {node.name: {*node.needs, *node.takes} for node in dag.nodes} == theirs


def test_edges_to_the_next_node_go_straight_and_others_in_lanes() -> None:
    needs = {"a": (), "b": ("a",), "c": ("a", "b"), "d": ("b", "c"), "e": ()}
    lines = drawn(tuple("abcde"), needs)
    assert [line.lanes + (f"● {line.node}" if line.node else "") for line in lines] == [
        "    ● a",
        "  ╭─┤",
        "  │ ● b",
        "╭─┼─┤",
        "│ ╰▶● c",
        "│   │",
        "╰──▶● d",
        "     ",
        "    ● e",
    ]


def test_nodes_are_drawn_in_the_state_of_their_steps(failing_dir: Path) -> None:
    story = take_detail(Journal(settings_in(failing_dir).journal_path), 6).story
    states = node_states(story, NOW)
    assert states["gated"].status is RunStatus.FAILED and states["probes"].status is RunStatus.DONE
    text = graph_text(dags_of("run-all"), states)
    assert "✗ gated" in text and "● probes" in text and "○ generation" in text


async def test_the_dataflow_takes_the_place_of_the_steps(failing_dir: Path) -> None:
    app = console_on(failing_dir, first="runs")
    async with app.run_test(size=(140, 40)) as pilot:
        await _shown(pilot)
        await pilot.press("d")
        assert app.query_one("#graph-panel").display and not app.query_one("#steps-panel").display
        await pilot.press("d")
        assert not app.query_one("#graph-panel").display and app.query_one("#steps-panel").display


# Acting


async def test_starting_asks_first_and_esc_starts_nothing(healthy_dir: Path) -> None:
    app = console_on(healthy_dir, first="runs")
    async with app.run_test(size=(140, 40)) as pilot:
        await _shown(pilot)
        await pilot.press("s")
        assert isinstance(app.screen, CommandScreen)
        commands = [row.cells[1].text for row in app.screen.query_one(Table).rows]
        assert "materia pipeline run transform" in commands
        await pilot.press("escape")
        assert not (healthy_dir / "logs" / "console.log").exists()


async def test_a_started_pipeline_is_followed_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MATERIA_DATA_DIR", str(tmp_path))
    app = ConsoleApp(context_of(settings_in(tmp_path), read_only=False), TuiConfig(), first="runs")
    async with app.run_test(size=(140, 40)) as pilot:
        await _shown(pilot)
        await pilot.press("s", "down", "down", "enter")  # transform, of nothing: it fails and says why
        await until(pilot, lambda: bool(app._notifications))
        assert "materia pipeline run transform" in [note.title for note in app._notifications]
        await until(pilot, lambda: _ids(app) == [1])
        await until(pilot, lambda: "no snapshot" in app.query_one("#error").visual.plain)


@contextmanager
def _running(journal_path: Path) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-c", _RUNNING, str(journal_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "running\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def test_interrupt_reaches_the_run_only_after_a_yes(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    with _running(settings.journal_path) as process:
        app = ConsoleApp(context_of(settings, read_only=False), TuiConfig(), first="runs")
        async with app.run_test(size=(140, 40)) as pilot:
            await _shown(pilot)
            assert "◌ running" in app.query_one("#facts").visual.plain
            await pilot.press("i")
            assert f"kill -INT {process.pid}" in app.screen.query_one(Table).rows[0].cells[1].text
            await pilot.press("escape")
            assert process.poll() is None
            await pilot.press("i", "enter")
            assert process.wait(timeout=20) == -signal.SIGINT
            await until(pilot, lambda: "■ interrupted" in app.query_one("#facts").visual.plain)


async def test_what_has_ended_is_not_interrupted(healthy_dir: Path) -> None:
    app = console_on(healthy_dir, first="runs")
    async with app.run_test(size=(140, 40)) as pilot:
        await _shown(pilot)
        await pilot.press("i")
        assert len(app.screen_stack) == 1
        assert [note.message for note in app._notifications] == ["this run is not running"]


def test_a_process_under_a_recycled_pid_is_not_interrupted() -> None:
    from ops.process import Process

    assert not Process(os.getpid(), "another-boot/1").interrupt()
