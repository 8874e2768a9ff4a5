"""The ten commonest jobs, done with the keys that `docs/how-to/console.md` names."""

import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from dataflows.serving.store import ServingStore
from ops.config.settings import Settings
from ops.journal.journal import Journal
from ops.journal.run import Run, RunStatus
from tests.support.command_line import MATERIA, materia
from tests.support.consoles import screen_of, type_text, until
from tests.support.served import Served
from tests.support.silent_server import silent_server
from tui.shell.app import ConsoleApp
from tui.shell.context import create_context

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "console.md"
_KEY = re.compile(r"`([^`]+)`")
_NAMED_KEYS = frozenset({"enter", "tab", "right", "f5"})


@dataclass(frozen=True)
class Job:
    """A row of the table."""

    name: str
    keys: tuple[str, ...]
    number: int
    shows: str

    @property
    def pressed(self) -> int:
        return sum(1 if key in _NAMED_KEYS else len(key) for key in self.keys)


def _jobs() -> Iterator[Job]:
    table = PAGE.read_text().partition("## The ten commonest jobs")[2].partition("\n## ")[0]
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[2].isdigit():
            yield Job(cells[0], tuple(_KEY.findall(cells[1])), int(cells[2]), cells[3].strip("`"))


JOBS = {job.name: job for job in _jobs()}


@dataclass(frozen=True)
class World:
    """A data directory with two generations and a failed run, and the settings that point to it."""

    settings: Settings

    @property
    def runs(self) -> list[Run]:
        """The runs, newest first."""
        return list(Journal(self.settings.journal_path).runs(10))


class _EmptyArchive(SimpleHTTPRequestHandler):
    """Answers 404: nothing is posted."""

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def empty_archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = str(tmp_path_factory.mktemp("archive"))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_EmptyArchive, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def world(served: Served, empty_archive: str, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("MATERIA_DATA_DIR", str(served.data_dir))
    monkeypatch.setenv("PSD_ARCHIVE_URL", empty_archive)
    monkeypatch.setenv("PSD_LIVE_URL", f"{empty_archive}/psd.zip")
    served.publish()
    world = World(Settings.from_environ())
    assert materia(served.data_dir, "pipeline", "run", "extract").returncode == 1
    return world


@pytest.fixture
def running(world: World) -> Iterator[World]:
    """With a run that waits for an archive that does not answer."""
    with silent_server() as url:
        process = subprocess.Popen(
            [MATERIA, "pipeline", "run", "extract"],
            env=os.environ | {"PSD_ARCHIVE_URL": url, "PSD_LIVE_URL": f"{url}/psd.zip"},
            stderr=subprocess.DEVNULL,
        )
        try:
            while world.runs[0].status is not RunStatus.RUNNING or world.runs[0].log_path is None:
                assert process.poll() is None
            yield world
        finally:
            process.kill()
            process.wait()


def test_the_page_names_ten_jobs_and_counts_their_keys() -> None:
    assert len(JOBS) == 10
    assert {job.name: job.number for job in JOBS.values()} == {job.name: job.pressed for job in JOBS.values()}


@pytest.mark.parametrize(
    ("name", "is_done"),
    [
        ("What is wrong?", lambda world: True),
        ("Why did it fail?", lambda world: True),
        ("Run again for a month", lambda world: "2025-07" in world.runs[0].arguments),
        ("Roll back", lambda world: ServingStore(world.settings.serving_path).served_number() == 1),
        ("What changed in the release?", lambda world: True),
        ("One fact's history", lambda world: True),
        ("SQL to chart to file", lambda world: "facts_new" in Path("result.csv").read_text()),
        ("Find an error in a log", lambda world: True),
    ],
)
async def test_a_job_is_done_with_the_keys_of_the_page(
    world: World, name: str, is_done: Callable[[World], bool]
) -> None:
    await _press_keys_of(JOBS[name], world, is_done)


@pytest.mark.parametrize(
    ("name", "is_done"),
    [
        ("Follow a run", lambda world: world.runs[0].status is RunStatus.RUNNING),
        ("Interrupt a run", lambda world: world.runs[0].status is RunStatus.INTERRUPTED),
    ],
)
async def test_a_job_on_a_run_is_done_with_the_keys_of_the_page(
    running: World, name: str, is_done: Callable[[World], bool]
) -> None:
    await _press_keys_of(JOBS[name], running, is_done)


async def _press_keys_of(job: Job, world: World, is_done: Callable[[World], bool]) -> None:
    """Press the keys, after F5 once the rows are there; the screen shows what the page says, and not before."""
    app = ConsoleApp(create_context(world.settings, read_only=False))
    async with app.run_test(size=(140, 40)) as pilot:
        await until(pilot, lambda: "extract failed" in screen_of(pilot))
        assert not job.keys or job.shows not in screen_of(pilot)
        for key in job.keys:
            await (pilot.press(key) if key in _NAMED_KEYS else type_text(pilot, key))
            if key == "f5":
                await until(pilot, lambda: " rows in " in screen_of(pilot))
        await until(pilot, lambda: job.shows in _all_text(pilot) and is_done(world))


def _all_text(pilot: Pilot[Any]) -> str:
    """What the screen shows, notifications included."""
    notes = (f"{note.title} {note.message}" for note in pilot.app._notifications)
    return "\n".join((screen_of(pilot), *notes))
