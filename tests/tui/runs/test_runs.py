"""Tests of the Runs screen: history, run details, and starting and interrupting real processes."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from ops.host.launch import launch
from ops.journal.history import take_history
from ops.journal.journal import Journal
from ops.journal.run import RunStatus
from tests.support.consoles import packet, screen_of, until
from tests.support.served_demo import ServedDemo
from tests.tui.building import NOW, Past, console_on, context_in, settings_in
from tui.runs import snapshot
from tui.runs.detail import dags_of
from tui.runs.drawing import graph_text, node_states, progress_text, step_rows, traceback_text
from tui.runs.lanes import draw_graph
from tui.runs.pane import RunsPane
from tui.runs.snapshot import RunFilter, find_step_line, parse_filter, read_detail
from tui.shell.app import ConsoleApp
from tui.shell.command import CommandScreen
from tui.shell.config import TuiConfig
from tui.shell.context import create_context
from tui.shell.messages import FollowRun, OpenLog, OpenRun
from tui.widgets.log_tail import tail_text
from tui.widgets.panel import Panel
from tui.widgets.table import Table

_RUNNING = """
import sys, time
from pathlib import Path
from ops.journal.journal import Journal
from ops.host.launch import launch
from ops.journal.recorder import record_run
with Journal(Path(sys.argv[1])) as journal, record_run(journal, "extract") as recorder:
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


async def test_unrepaired_failures_come_first(failing_dir: Path) -> None:
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


def test_filter_words_are_parsed_by_kind() -> None:
    pipelines = frozenset({"extract"})
    assert parse_filter("extract failed Gate", pipelines) == RunFilter(("gate",), "extract", RunStatus.FAILED)
    assert parse_filter("", pipelines) == RunFilter()


async def test_failed_shows_only_failures_and_then_everything_again(failing_dir: Path) -> None:
    app = console_on(failing_dir, first="runs")
    async with app.run_test(size=(140, 40)) as pilot:
        await _shown(pilot)
        await pilot.press("exclamation_mark")
        await until(pilot, lambda: _ids(app) == [6])
        await pilot.press("exclamation_mark")
        await until(pilot, lambda: len(_ids(app)) == 4)


def _shown_run(app: ConsoleApp) -> str:
    return str(app.query_one("#facts-panel", Panel).border_title)


def _under_cursor(app: ConsoleApp) -> str:
    row = app.query_one("#history", Table).current
    return f"Run {row.key}" if row else ""


async def test_the_run_that_a_filter_leaves_under_the_cursor_is_shown(failing_dir: Path) -> None:
    app = console_on(failing_dir, first="runs")
    async with app.run_test(size=(140, 40)) as pilot:
        await _shown(pilot)
        await pilot.press("slash", *"died", "enter")
        await until(pilot, lambda: (_under_cursor(app), _shown_run(app)) == ("Run 3", "Run 3"))
        await pilot.press("escape")  # it is select_run all runs, too
        await until(pilot, lambda: _ids(app) == [6, 4, 3, 1])
        assert (_under_cursor(app), _shown_run(app)) == ("Run 3", "Run 3")
        await pilot.press("slash", *"done", "enter")  # it is not select_run those: the first of them is shown
        await until(pilot, lambda: _ids(app) == [4, 1])
        assert (_under_cursor(app), _shown_run(app)) == ("Run 4", "Run 4")


async def test_a_run_that_another_screen_asks_for_is_under_the_cursor_at_once(failing_dir: Path) -> None:
    app = console_on(failing_dir)
    async with app.run_test(size=(140, 40)) as pilot:
        app.post_message(OpenRun(3))
        await until(pilot, lambda: _shown_run(app) == "Run 3")
        assert _under_cursor(app) == "Run 3"


async def test_a_filter_changed_during_its_search_shows_its_own_lines(
    failing_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_asked, may_answer, look = threading.Event(), threading.Event(), snapshot.read_run

    def look_slowly(*asked: Any) -> Any:
        if not is_asked.is_set():
            is_asked.set()
            assert may_answer.wait(60)
        return look(*asked)

    app = console_on(failing_dir, first="runs")
    async with app.run_test(size=(140, 40)) as pilot:
        await _shown(pilot)
        monkeypatch.setattr("tui.runs.pane.read_run", look_slowly)
        app.query_one("#runs-filter", Input).value = "died"
        await until(pilot, is_asked.is_set)
        try:
            app.query_one("#runs-filter", Input).value = "died "
            await until(pilot, lambda: _ids(app) == [3])
        finally:
            may_answer.set()


async def test_keys_of_one_packet_are_for_the_run_that_they_go_to(failing_dir: Path) -> None:
    app = console_on(failing_dir, first="runs")
    async with app.run_test(size=(140, 40)) as pilot:
        await _shown(pilot)
        packet(pilot, "jl")  # run 4, which has no log, unlike run 6
        await until(pilot, lambda: [note.message for note in app._notifications] == ["this run has no log"])
        packet(pilot, "j\r")
        await until(pilot, lambda: app.focused.id == "steps")
        assert _shown_run(app) == "Run 3"


async def test_keys_after_a_filter_are_for_what_it_finds(failing_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_answer, look = threading.Event(), snapshot.read_history

    def look_slowly(*asked: Any) -> Any:
        assert may_answer.wait(60)
        return look(*asked)

    app = console_on(failing_dir, first="runs")
    async with app.run_test(size=(140, 40)) as pilot:
        await _shown(pilot)
        monkeypatch.setattr("tui.runs.pane.read_history", look_slowly)
        packet(pilot, "/done\rj\r")
        await until(pilot, lambda: app.query_one("#runs-filter", Input).value == "done")
        may_answer.set()
        await until(pilot, lambda: app.focused.id == "steps")
        assert (_ids(app), _under_cursor(app), _shown_run(app)) == ([4, 1], "Run 1", "Run 1")


async def test_the_filter_takes_a_line_and_no_column(failing_dir: Path) -> None:
    app = console_on(failing_dir, first="runs")
    async with app.run_test(size=(140, 40)) as pilot:
        await _shown(pilot)
        before = app.query_one("#history").size
        await pilot.press("slash")
        await until(pilot, lambda: app.query_one("#history").size == (before.width, before.height - 1))


async def test_escape_leads_out_of_a_run_first_and_then_out_of_the_filter(failing_dir: Path) -> None:
    app = console_on(failing_dir, first="runs")
    async with app.run_test(size=(140, 40)) as pilot:
        await _shown(pilot)
        await pilot.press("slash", *"extract", "enter", "down", "enter")
        assert app.focused.id == "steps"
        await pilot.press("escape")
        assert (app.focused.id, _ids(app), _shown_run(app)) == ("history", [7, 5, 3, 2], "Run 5")
        await pilot.press("escape")
        await until(pilot, lambda: _ids(app) == [6, 4, 3, 1])


# One run


async def test_enter_leads_back_from_a_run_inside_another(failing_dir: Path) -> None:
    app = console_on(failing_dir, first="runs")
    async with app.run_test(size=(140, 40)) as pilot:
        await _shown(pilot)
        await pilot.press("enter", "home", "enter")
        await until(pilot, lambda: _shown_run(app) == "Run 7")
        await pilot.press("escape", "enter")
        assert (_under_cursor(app), _shown_run(app)) == ("Run 6", "Run 6")


async def test_a_line_found_after_the_screen_was_left_leads_nowhere(
    failing_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_asked, may_answer, is_found, opened = threading.Event(), threading.Event(), threading.Event(), []

    def find_slowly(path: Path, step: str, *, failed: bool) -> int | None:
        is_asked.set()
        assert may_answer.wait(60)
        is_found.set()
        return find_step_line(path, step, failed=failed)

    monkeypatch.setattr("tui.runs.pane.find_step_line", find_slowly)
    app = console_on(failing_dir, first="runs")
    async with app.run_test(
        size=(140, 40), message_hook=lambda m: opened.append(m) if isinstance(m, OpenLog) else None
    ) as pilot:
        await _shown(pilot)
        await pilot.press("enter", "enter")
        await until(pilot, is_asked.is_set)
        await pilot.press("1")
        may_answer.set()
        await until(pilot, is_found.is_set)
        await _shown(pilot)
        assert app.shown_pane.PANE_ID == "overview" and opened == []


async def test_the_run_under_the_cursor_is_shown_in_full(failing_dir: Path) -> None:
    app = console_on(failing_dir, first="runs")
    async with app.run_test(size=(140, 40)) as pilot:
        await _shown(pilot)
        assert "generation 13 was refused" in app.query_one("#error").visual.plain
        assert "✗ 09:00:16 run failed" in app.query_one("#log-tail").visual.plain
        steps = [row.cells[1].text.strip() for row in app.query_one("#steps", Table).rows]
        assert steps[0] == "extract" and steps[-1] == "generation"
        await pilot.press("down")
        await until(pilot, lambda: app.query_one("#facts-panel", Panel).border_title == "Run 4")
        assert not app.query_one("#error-panel").display


async def test_another_run_is_shown_from_its_top_and_with_nothing_of_the_one_before(failing_dir: Path) -> None:
    app = console_on(failing_dir, first="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await _shown(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: app.query_one("#detail").scroll_y > 0)  # down to the step that failed
        await pilot.press("escape", "down")
        await until(pilot, lambda: _shown_run(app) == "Run 4")
        await until(pilot, lambda: app.query_one("#detail").scroll_y == 0)
        assert "run 4 has no log" in app.query_one("#log-panel .failure").visual.plain
        assert app.query_one("#log-tail").visual.plain == ""


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


async def test_the_log_of_a_failed_run_opens_at_its_first_error_and_esc_returns(failing_dir: Path) -> None:
    log = settings_in(failing_dir).log_dir / "run-6.log"
    filler = "".join(
        f"2026-11-21T09:00:16.000Z {level} run=6 line\n" for level in ["INFO"] * 200 + ["ERROR"] + ["INFO"] * 200
    )
    log.write_text(filler)
    app = console_on(failing_dir, first="runs")
    async with app.run_test(size=(140, 40)) as pilot:
        await _shown(pilot)
        await pilot.press("down", "up", "l")
        await until(pilot, lambda: "line 201 of 401" in screen_of(pilot))
        await pilot.press("escape")
        await until(pilot, lambda: app.shown_pane.PANE_ID == "runs" and _shown_run(app) == "Run 6")


async def test_the_order_of_the_runs_is_named_and_switched(failing_dir: Path) -> None:
    app = console_on(failing_dir, first="runs")
    async with app.run_test(size=(140, 40)) as pilot:
        await _shown(pilot)
        for order, ids in (("newest", [6, 4, 3, 1]), ("longest", [6, 4, 1, 3]), ("failed", [6, 3, 4, 1])):
            await until(pilot, lambda: f"Runs, {order} first" in screen_of(pilot) and _ids(app) == ids)  # noqa: B023
            await pilot.press("o")
        await until(pilot, lambda: "Runs, newest first" in screen_of(pilot))


def test_a_running_transform_names_its_model_and_its_number() -> None:
    lines = [
        "2026-11-28T12:58:39.536Z INFO run=10 step=transformed [1/1] raw.psd_alldata      [recreate view]       0.02s",
        "2026-11-28T12:58:39.579Z INFO run=10 step=transformed [1/2] raw.psd_snapshot     [recreate view]       0.04s",
        "2026-11-28T12:58:39.579Z INFO run=10 step=transformed [2/2] raw.psd_snapshot     [recreate view]       0.04s",
    ]
    assert "model 2 of at most 19: raw.psd_snapshot" in progress_text(lines, 19)
    assert progress_text(lines[:0], 19) == ""
    full = "… [1/1] staging.stg_fact   [insert 1990-01-01 - 2026-06-11 (12.3k rows), audits passed 3]   0.58s"
    assert progress_text([*lines, full], 19).endswith("model 3 of at most 19: staging.stg_fact, 12.3k rows[/]")
    assert "12:58:39 [1/1] raw.psd_alldata  [recreate view]  0.02s" in tail_text(lines[:1], 5).replace("\\", "")


def test_the_rows_shown_for_each_model_are_those_of_its_table(served_demo: ServedDemo) -> None:
    """As SQLMesh abbreviates them: 20,613 rows are `20.6 k rows`."""
    lines: list[str] = []
    shown: dict[str, tuple[str, str]] = {}
    logs = sorted((served_demo.data_dir / "logs").glob("run-*.log"), key=lambda path: int(path.stem.partition("-")[2]))
    for line in (line for path in logs for line in path.read_text().splitlines()):
        lines.append(line)
        if found := re.search(r"model \d+ of at most 99: (\S+), ([\d.]+) ?(k)? rows?", progress_text(lines[-1:], 99)):
            shown[found[1]] = found[2], found[3]
    assert len(shown) >= 15
    with duckdb.connect(str(served_demo.data_dir / "lakehouse.duckdb"), read_only=True) as connection:
        for model, (number, thousands) in shown.items():
            (count,) = connection.execute(f"SELECT COUNT(*) FROM {model}").fetchone() or (None,)
            assert float(number) == float(f"{count / 1000:.3g}" if thousands else count), model


@pytest.mark.parametrize(
    ("error", "detail", "is_shown"),
    [
        ("generation 13 was refused", "Traceback\ndataflows.errors.GateError: generation 13 was refused", False),
        ("KeyError: 'etag'", "Traceback\nKeyError: 'etag'", True),
        ("CatalogException: no table\nb", "Traceback\nduckdb.CatalogException: no table\nb", True),
        (
            "https://x/y.zip answered 500",
            "Traceback\ndataflows.errors.ArchiveError: https://x/y.zip answered 500",
            False,
        ),
    ],
)
def test_only_an_unexpected_error_shows_its_traceback(tmp_path: Path, error: str, detail: str, is_shown: bool) -> None:
    past = Past(settings_in(tmp_path))
    run_id = past.run("extract", "failed", timedelta(hours=1), 1.0, error=error, error_detail=detail)
    past.close()
    story = read_detail(Journal(settings_in(tmp_path).journal_path), run_id).story
    assert bool(traceback_text(story)) is is_shown


def test_a_step_s_line_is_its_error_else_its_first(failing_dir: Path) -> None:
    log = settings_in(failing_dir).log_dir / "run-8.log"
    assert find_step_line(log, "generation", failed=True) == 4
    assert find_step_line(log, "transformed", failed=False) == 2
    assert find_step_line(log, "landed", failed=False) is None
    assert find_step_line(log, "landed", failed=True) == 4


def test_the_bars_of_a_run_that_died_span_the_time_that_it_lived(tmp_path: Path) -> None:
    past = Past(settings_in(tmp_path))
    run_id = past.run("extract", "died", timedelta(days=2), 0, steps={"probes": 1.0, "download": 3.0})
    past._db.execute("UPDATE runs SET ended_at = NULL")
    past._db.execute("UPDATE steps SET ended_at = NULL, status = 'died' WHERE name = 'download'")
    past.close()
    rows = step_rows(read_detail(Journal(settings_in(tmp_path).journal_path), run_id).story, NOW)
    probes, download = (row.cells[-1] for row in rows)
    assert (probes.first, probes.last, download.first) == (0.0, 1.0, 1.0)


async def test_a_missing_log_affects_only_the_log_panel(failing_dir: Path) -> None:
    (settings_in(failing_dir).log_dir / "run-6.log").unlink()
    app = console_on(failing_dir, first="runs")
    async with app.run_test(size=(140, 40)) as pilot:
        await _shown(pilot)
        assert "no longer exists" in app.query_one("#log-panel .failure").visual.plain
        assert app.query_one("#steps", Table).rows


# The dataflow


def test_edges_to_the_next_node_go_straight_and_others_in_lanes() -> None:
    needs = {"a": (), "b": ("a",), "c": ("a", "b"), "d": ("b", "c"), "e": ()}
    lines = draw_graph(tuple("abcde"), needs)
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
    story = read_detail(Journal(settings_in(failing_dir).journal_path), 6).story
    states = node_states(story, NOW)
    assert states["generation"].status is RunStatus.FAILED and states["probes"].status is RunStatus.DONE
    text = graph_text(dags_of("run-all"), states)
    assert "✗ generation" in text and "● probes" in text and "○ generations_synced" in text


async def test_the_dataflow_takes_the_place_of_the_steps(failing_dir: Path) -> None:
    app = console_on(failing_dir, first="runs")
    async with app.run_test(size=(140, 40)) as pilot:
        await _shown(pilot)
        await pilot.press("v")
        assert app.query_one("#graph-panel").display and not app.query_one("#steps-panel").display
        await pilot.press("v")
        assert not app.query_one("#graph-panel").display and app.query_one("#steps-panel").display


async def test_keys_go_on_to_act_when_the_steps_under_them_give_way_to_the_dataflow(failing_dir: Path) -> None:
    app = console_on(failing_dir, first="runs")
    async with app.run_test(size=(140, 40)) as pilot:
        await _shown(pilot)
        await pilot.press("enter", "v")
        assert app.focused.id == "detail"
        await pilot.press("v")
        await until(pilot, lambda: app.focused.id == "steps")
        await pilot.press("v", "escape")
        assert app.focused.id == "history"


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


async def test_the_options_of_a_run_become_part_of_its_command(healthy_dir: Path) -> None:
    app = console_on(healthy_dir, first="runs")
    async with app.run_test(size=(140, 40)) as pilot:
        await _shown(pilot)
        await pilot.press("s", "tab", *"2025-03", "tab", "tab", *"it's right")
        dialog = app.screen
        assert isinstance(dialog, CommandScreen)
        commands = [row.cells[1].text for row in dialog.query_one(Table).rows]
        assert commands[0] == "materia pipeline run run-all --as-of 2025-03 --force 'it'\"'\"'s right'"
        assert commands[1:3] == ["materia pipeline run extract --as-of 2025-03", "materia pipeline run transform"]
        chosen: list[object] = []
        monitored = dialog.dismiss
        dialog.dismiss = lambda result=None: (chosen.append(result), monitored(None))[1]  # type: ignore[method-assign]
        await pilot.press("enter")
        expected = ("pipeline", "run", "run-all", "--as-of", "2025-03", "--force", "it's right")
        await until(pilot, lambda: chosen == [expected])


async def test_a_backfill_asks_for_its_months(healthy_dir: Path) -> None:
    app = console_on(healthy_dir, first="runs")
    async with app.run_test(size=(140, 40)) as pilot:
        await _shown(pilot)
        await pilot.press("B", "enter")
        assert isinstance(app.screen, CommandScreen) and isinstance(app.focused, Input)
        await pilot.press(*"2025-01", "enter", *"2025-03")
        shown = [row.cells[1].text for row in app.screen.query_one(Table).rows]
        assert shown == ["materia backfill --from 2025-01 --to 2025-03"]


async def test_a_started_pipeline_is_followed_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MATERIA_DATA_DIR", str(tmp_path))
    past = Past(settings_in(tmp_path))
    past.run("backfill", "failed", timedelta(hours=1), 1.0, error="no luck")
    past.close()
    may_look, look = threading.Event(), snapshot.read_history

    def look_late(*asked: Any) -> Any:
        """Only when it is over: a run that finds nothing new takes less time than there is between two looks."""
        assert may_look.wait(60)
        return look(*asked)

    app = ConsoleApp(create_context(settings_in(tmp_path), read_only=False), TuiConfig(), first="runs")
    async with app.run_test(size=(140, 40)) as pilot:
        await _shown(pilot)
        monkeypatch.setattr("tui.runs.pane.read_history", look_late)
        await pilot.press("s", "down", "down", "enter")  # transform, of nothing: it fails and says why
        await until(pilot, lambda: bool(app._notifications))
        may_look.set()
        assert "materia pipeline run transform" in [note.title for note in app._notifications]
        await until(pilot, lambda: _ids(app) == [2, 1])
        await until(pilot, lambda: "no snapshot" in app.query_one("#error").visual.plain)
        assert (_under_cursor(app), _shown_run(app)) == ("Run 2", "Run 2")


async def test_an_older_run_with_the_same_pid_is_not_mistaken_for_the_started_one(failing_dir: Path) -> None:
    app = console_on(failing_dir, first="runs")
    async with app.run_test(size=(140, 40)) as pilot:
        await _shown(pilot)
        await pilot.press("down")
        pane = app.query_one(RunsPane)
        pane.post_message(FollowRun(4711, 8))
        past = Past(settings_in(failing_dir))
        assert past.run("extract", "failed", timedelta(minutes=1), 1.0, error="no luck") == 9
        past.close()
        await until(pilot, lambda: _shown_run(app) == "Run 9")
        assert _under_cursor(app) == "Run 9"


async def test_a_failed_start_is_reported(healthy_dir: Path) -> None:
    app = console_on(healthy_dir, first="runs")
    async with app.run_test(size=(140, 40)) as pilot:
        await _shown(pilot)
        (healthy_dir / "logs").rename(healthy_dir / "old-logs")
        (healthy_dir / "logs").touch()  # no folder, so there is no place for what it says
        await pilot.press("s", "enter")
        await until(pilot, lambda: app._notifications)
        assert "could not start materia pipeline run run-all" in [note.title for note in app._notifications]


def test_moved_output_gives_no_last_line(tmp_path: Path) -> None:
    launched = launch(("--version",), settings_in(tmp_path))
    assert launched.wait() == 0 and launched.last_line()
    launched.output_path.rename(tmp_path / "rotated.log")
    assert launched.last_line() == ""


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
        app = ConsoleApp(create_context(settings, read_only=False), TuiConfig(), first="runs")
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


async def test_an_ended_run_is_not_interrupted(healthy_dir: Path) -> None:
    app = console_on(healthy_dir, first="runs")
    async with app.run_test(size=(140, 40)) as pilot:
        await _shown(pilot)
        await pilot.press("i")
        assert len(app.screen_stack) == 1
        assert [note.message for note in app._notifications] == ["this run is not running"]


def test_a_process_under_a_recycled_pid_is_not_interrupted() -> None:
    from ops.host.process import Process

    assert not Process(os.getpid(), "another-boot/1").interrupt()


async def test_relative_times_are_refreshed_without_reading_the_history_again(failing_dir: Path) -> None:
    now = [NOW]
    app = ConsoleApp(replace(context_in(failing_dir), clock=lambda: now[0]), first="runs")
    async with app.run_test(size=(140, 40)) as pilot:
        pane = app.query_one(RunsPane)
        await until(pilot, pane.drawn.is_set)
        seen = pane._seen
        assert pane.look() is None
        now[0] += timedelta(hours=1)
        refreshed = pane.look()
        assert refreshed is not None and seen is not None and refreshed.history is seen.history
        assert [row.key for row in refreshed.rows] == [row.key for row in seen.rows]
        assert refreshed.rows[0].cells[3] != seen.rows[0].cells[3], "an hour later"
