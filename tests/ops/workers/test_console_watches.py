"""The console on a run that works on a worker: it shows what happens there while it happens."""

import threading
import time
from collections.abc import Callable

import pytest
from textual.pilot import Pilot

from ops.job import Request
from ops.workers.lifecycle import run_on
from ops.workers.wire import Patience
from tests.support.worker_world import WorkerWorld
from tui.app import ConsoleApp
from tui.config import TuiConfig
from tui.context import context_of
from tui.table import Table

PATIENCE = Patience(boot_s=20, code_s=60, reconnect_s=5, pause_s=0.05, quiet_s=20, stop_s=3, losses=3)


async def until(pilot: Pilot[None], met: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not met():
        assert time.monotonic() < deadline, "it did not come to pass"
        await pilot.pause(0.1)


def texts(app: ConsoleApp, table: str) -> list[list[str]]:
    """What a table shows, without its bars."""
    rows = app.query_one(table, Table).rows
    return [[cell.text.strip() for cell in row.cells if hasattr(cell, "text")] for row in rows]


async def test_runs_and_workers_show_a_remote_run_live(world: WorkerWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HETZNER_TOKEN", "HETZNER_API_URL"):
        monkeypatch.setenv(name, world.environ[name])
    go = world.root / "go"
    world.pipeline(f"for _ in $(seq 1200); do [ -e {go} ] && break; sleep 0.05; done")
    working = threading.Thread(
        target=lambda: run_on(world.hire(), "run-all", world.settings, Request(), world.environ, PATIENCE)
    )
    app = ConsoleApp(context_of(world.settings, read_only=False), TuiConfig({}), first="runs")
    async with app.run_test(size=(140, 40)) as pilot:
        working.start()
        try:
            # A step that is under way on the worker, inside the run that began here.
            await until(pilot, lambda: ["◌", "candidates"] in [row[:2] for row in texts(app, "#steps")])
            assert "worker_created" in [row[1] for row in texts(app, "#steps")]
            assert "probed order_bytes=" in app.query_one("#log-tail").visual.plain
            facts = app.query_one("#facts").visual.plain
            assert "running" in facts and "--on hetzner" in facts and "worker materia-" in facts
            await pilot.press("6")
            await until(pilot, lambda: len(texts(app, "#workers-table")) == 1)
            (row,) = texts(app, "#workers-table")
            assert row[1:5] == ["● running", "hetzner", "cpx32", "fsn1"] and row[-1] == "1"
            await pilot.press("enter")
            go.touch()
            await until(pilot, lambda: "landed 2021-08" in app.query_one("#facts").visual.plain)
            assert {row[0] for row in texts(app, "#steps")} == {"●"}
            await pilot.press("6", "r")
            await until(pilot, lambda: texts(app, "#workers-table") == [])
        finally:
            go.touch()
            working.join(60)
    assert world.left() == []
