"""Tests of the Workers screen."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ops.config.settings import Settings
from ops.workers.caps import LEDGER_NAME, Caps, Entry, Ledger
from ops.workers.view import Workers
from tests.support.consoles import packet, screen_of, until
from tests.support.fake_hetzner import TOKEN, FakeHetzner
from tests.tui.building import NOW, WORKER, console_on
from tui.shell.app import ConsoleApp
from tui.shell.command import CommandScreen
from tui.shell.context import create_context
from tui.shell.workers_summary import summary
from tui.shell.workers_watch import WorkersSnapshot, WorkersWatch
from tui.widgets.panel import Failure, Found
from tui.widgets.table import Row, Table
from tui.workers.drawing import row_of
from tui.workers.pane import Seen, WorkersPane


def _seen(workers: WorkersSnapshot) -> Seen:
    return Seen(workers, Failure("not read", "materia doctor"))


async def test_the_rest_of_the_caps_and_past_workers_are_shown(tmp_path: Path) -> None:
    began = NOW - timedelta(hours=5)
    old = Entry("materia-3", 0.5, began, began + timedelta(hours=6), began + timedelta(minutes=90), "hetzner")
    Ledger(tmp_path / LEDGER_NAME).begin(old, Caps(2, 10.0, 10.0), 0, began)
    Ledger(tmp_path / LEDGER_NAME).end("materia-3", "hetzner", began + timedelta(minutes=90))
    app = console_on(tmp_path, first="workers")
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: "materia-3 hetzner, 5 h ago for 1 h 30 min, at most 1.00 EUR" in screen_of(pilot))
        assert "left for 24 hours" in screen_of(pilot) and "EUR a run" in screen_of(pilot)


def test_a_worker_s_row_has_its_cost_and_its_end() -> None:
    texts = [cell.text for cell in row_of(WORKER, NOW).cells]
    assert texts == ["materia-7", "● running", "hetzner", "ccx13", "fsn1", "3 h", "0.021", "0.06", "in 1 h", "12"]
    late = row_of(WORKER, NOW + timedelta(hours=2))
    assert late.cells[8].text == "▲ overdue"


def test_no_worker_is_certain_only_when_every_provider_answered() -> None:
    nothing, waiting = Found(Workers()), ("ovh, asked at 12:00:00 UTC",)
    assert "no cost" in summary(WorkersSnapshot(nothing), NOW)
    for unsure in (
        WorkersSnapshot(None, waiting),
        WorkersSnapshot(nothing, waiting),
        WorkersSnapshot(Found(Workers(errors=("OVH did not answer: 503",)))),
    ):
        assert "no cost" not in summary(unsure, NOW)
        assert "ovh" in summary(unsure, NOW).lower()


def test_a_worker_that_should_have_ended_is_seen_on_the_overview() -> None:
    assert "▲ 1 overdue" in summary(WorkersSnapshot(Found(Workers((WORKER,)))), NOW + timedelta(hours=2))
    assert "overdue" not in summary(WorkersSnapshot(Found(Workers((WORKER,)))), NOW)


async def test_without_a_token_the_command_that_brings_one_is_shown(tmp_path: Path) -> None:
    app = console_on(tmp_path, first="workers")
    async with app.run_test(size=(100, 30)) as pilot:
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert "esc run beanflows/prod" in app.query_one("#workers-table", Table)._empty.text


async def test_a_provider_that_does_not_answer_is_named_beside_the_workers_of_others(tmp_path: Path) -> None:
    app = console_on(tmp_path, first="workers")
    async with app.run_test(size=(100, 30)) as pilot:
        await app.workers.wait_for_complete()
        await pilot.pause()
        pane = app.shown_pane
        assert isinstance(pane, WorkersPane)
        pane.draw(
            _seen(WorkersSnapshot(Found(Workers((WORKER,), errors=("OVH did not answer: 503; try again later",)))))
        )
        shown = app.query_one("#workers-total").visual.plain
        assert "1 worker, 0.021 EUR/h" in shown and "▲ OVH did not answer: 503" in shown


@pytest.mark.parametrize(("key", "command"), [("D", "materia worker destroy materia-7"), ("R", "materia worker reap")])
async def test_destructive_actions_ask_first_and_show_their_command(tmp_path: Path, key: str, command: str) -> None:
    app = console_on(tmp_path, first="workers")
    async with app.run_test(size=(100, 30)) as pilot:
        await app.workers.wait_for_complete()
        await pilot.pause()
        pane = app.shown_pane
        assert isinstance(pane, WorkersPane)
        pane.draw(_seen(WorkersSnapshot(Found(Workers((WORKER,))))))
        await pilot.press(key)
        assert isinstance(app.screen, CommandScreen)
        assert app.screen.query_one(Table).rows[0].cells[1].text == command
        await pilot.press("escape")
        assert not (tmp_path / "logs").exists()


async def test_a_worker_is_created_and_destroyed_at_the_provider(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public_key = tmp_path / "key.pub"
    public_key.write_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOpK8lP6hlwaYOAVIm/sZxEaY7ZCjO32q+/H0PdGlWyc me")
    with FakeHetzner() as hetzner:
        for name, value in {"HETZNER_TOKEN": TOKEN, "HETZNER_API_URL": hetzner.url}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("MATERIA_DATA_DIR", str(tmp_path))
        app = ConsoleApp(create_context(Settings.from_environ(), read_only=False), first="workers")
        async with app.run_test(size=(140, 40)) as pilot:
            await until(pilot, lambda: "no workers" in screen_of(pilot))
            await pilot.press("a", "enter")  # the required option is asked for first
            packet(pilot, f"{public_key}\t\x1b[200~bench\x1b[201~\r")
            await until(pilot, lambda: "known_hosts: " in screen_of(pilot))
            (server,) = hetzner.state.servers.values()
            assert server["name"].endswith("-bench")
            await pilot.press("6")
            await until(pilot, lambda: [row.key for row in _rows(app)] == [server["name"]])
            await pilot.press("D", "enter")
            await until(pilot, lambda: hetzner.state.everything == [])
            await pilot.press("6")
            await until(pilot, lambda: "no workers" in screen_of(pilot))
        assert hetzner.violations == []


def _rows(app: ConsoleApp) -> tuple[Row, ...]:
    return tuple(app.query_one("#workers-table", Table).rows)


@pytest.mark.parametrize(
    ("owner", "run_id", "message"),
    [
        ("", None, "no known run uses materia-7"),
        ("elsewhere-012345", 12, "run 12 is in the journal of elsewhere-012345"),
    ],
)
async def test_a_worker_leads_to_no_run_that_is_not_its_own(
    failing_dir: Path, monkeypatch: pytest.MonkeyPatch, owner: str, run_id: int | None, message: str
) -> None:
    found = Workers((replace(WORKER, owner=owner, run_id=run_id),))
    monkeypatch.setattr(WorkersWatch, "latest", lambda _, now: WorkersSnapshot(Found(found)))
    app = console_on(failing_dir, first="workers")
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: app.query_one("#workers-table", Table).rows)
        await pilot.press("enter")
        await until(pilot, lambda: [note.message for note in app._notifications] == [message])
        assert app.shown_pane.PANE_ID == "workers"
