"""The console on workers: it shows what happens there while it happens, whatever their providers do."""

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import pytest

from ops.pipelines.job import Request
from ops.workers.connection import WorkerTimeouts
from ops.workers.lifecycle import run_on
from tests.ops.workers.conftest import an_order
from tests.support.clouds import cloud_under_test
from tests.support.consoles import until
from tests.support.silent_server import silent_server
from tests.support.worker_world import WorkerWorld
from tui.shell.app import ConsoleApp
from tui.shell.config import TuiConfig
from tui.shell.context import create_context
from tui.shell.workers_watch import WorkersSnapshot, WorkersWatch
from tui.widgets.table import Table
from tui.workers.drawing import known_workers

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
PATIENCE = WorkerTimeouts(boot_s=20, code_s=60, reconnect_s=5, pause_s=0.05, quiet_s=20, stop_s=3, losses=3)


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
    app = ConsoleApp(create_context(world.settings, read_only=False), TuiConfig({}), first="runs")
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


def seen_when(watch: WorkersWatch, holds: Callable[[WorkersSnapshot], bool], now: datetime = NOW) -> WorkersSnapshot:
    """What it knows as soon as that holds."""
    deadline = time.monotonic() + 60
    while not holds(seen := watch.latest(now)):
        assert time.monotonic() < deadline, f"it did not come to that: {seen}"
        time.sleep(0.05)
    return seen


def has_heard(seen: WorkersSnapshot) -> bool:
    return seen.workers is not None


@pytest.fixture
def asked_once(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No provider is polled again because its last poll is old."""
    monkeypatch.setattr("tui.shell.workers_watch.EVERY_S", 3600.0)
    return monkeypatch


def set_up(monkeypatch: pytest.MonkeyPatch, environ: Mapping[str, str]) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)


def test_a_poll_does_not_wait_for_an_answer_and_the_next_poll_has_it(asked_once: pytest.MonkeyPatch) -> None:
    with cloud_under_test("hetzner") as cloud:
        cloud.provider.create_instance(order := an_order(), cloud.provider.offers()[0])
        set_up(asked_once, cloud.environ)
        watch = WorkersWatch()
        assert watch.latest(NOW) == WorkersSnapshot(None, ("hetzner, asked at 12:00:00 UTC",))
        seen = seen_when(watch, has_heard)
        assert [row.id for row in known_workers(seen).rows] == [order.name]
        asked = len(cloud.fake.requests)
        assert known_workers(watch.latest(NOW)) == known_workers(seen)
        assert len(cloud.fake.requests) == asked, "asked again at once"


def test_a_silent_provider_hides_no_worker_of_another(asked_once: pytest.MonkeyPatch) -> None:
    with cloud_under_test("hetzner") as cloud, cloud_under_test("scaleway") as other, silent_server() as url:
        cloud.provider.create_instance(order := an_order(), cloud.provider.offers()[0])
        set_up(asked_once, {**cloud.environ, **other.environ, "SCW_API_URL": url})
        seen = seen_when(WorkersWatch(), has_heard)
        assert [row.id for row in known_workers(seen).rows] == [order.name]
        assert "scaleway, asked at 12:00:00 UTC" in seen.waiting


def test_workers_of_a_provider_that_stops_answering_stay_visible_and_are_marked(
    asked_once: pytest.MonkeyPatch,
) -> None:
    with cloud_under_test("hetzner") as cloud, silent_server() as url:
        cloud.provider.create_instance(order := an_order(), cloud.provider.offers()[0])
        set_up(asked_once, cloud.environ)
        watch = WorkersWatch()
        seen_when(watch, has_heard)
        asked_once.setenv("HETZNER_API_URL", url)
        asked_once.setattr("tui.shell.workers_watch._SLOW_ANSWER_S", 0.0)
        watch.ask_again()
        late = ("hetzner, asked at 12:00:11 UTC",)
        seen = seen_when(watch, lambda seen: seen.waiting == late, NOW + timedelta(seconds=11))
        assert [row.id for row in known_workers(seen).rows] == [order.name]


def test_a_provider_s_refusal_is_its_own_trouble(asked_once: pytest.MonkeyPatch) -> None:
    with cloud_under_test("hetzner") as cloud, cloud_under_test("scaleway") as other:
        set_up(asked_once, {**cloud.environ, **other.environ, "HETZNER_TOKEN": "another-token"})
        (trouble,) = known_workers(seen_when(WorkersWatch(), lambda seen: bool(known_workers(seen).errors))).errors
        assert "Hetzner" in trouble and "another-token" not in trouble
