"""What the supervisor's tests share: a data directory, quick runs in it, and a server that takes alerts."""

import json
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from ops.config.schedule import Slot
from ops.config.settings import Settings
from ops.journal.run import utc_now
from tests.ops.conftest import serve

QUICK_RUN = Path(__file__).with_name("quick_run.py")


@dataclass
class Clock:
    """A clock that a test sets."""

    now: datetime

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **span: float) -> None:
        self.now += timedelta(**span)


def quick(slot: Slot, settings: Settings) -> Sequence[str]:
    """The command of a run that takes no time."""
    return [sys.executable, str(QUICK_RUN), str(settings.data_dir), slot.pipeline, slot.trigger]


def settings_of(data_dir: Path, **environ: str) -> Settings:
    return Settings.from_environ({"MATERIA_DATA_DIR": str(data_dir), "MATERIA_MIN_FREE_MB": "0", **environ})


@pytest.fixture(autouse=True)
def sigterm() -> Iterator[None]:
    """Restore the handler of SIGTERM: the supervisor's would reach other tests and their child processes."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def data_dir(tmp_path: Path, clock: Clock) -> Path:
    """A data directory where a generation of the clock's month is served."""
    folder = tmp_path / "data"
    folder.mkdir()
    serve(folder / "serving.duckdb", 7, released_on=clock.now.date())
    return folder


@pytest.fixture
def clock() -> Clock:
    """The last four in the morning UTC: both of the day's slots are due.

    Never later than the real time, by which quick runs are recorded: such a run would look hours old.
    """
    return Clock((utc_now() - timedelta(hours=4)).replace(hour=4, minute=0, second=0, microsecond=0))


@dataclass
class Alarm:
    """Records the calls of a webhook and a dead-man switch; refuses everything while `is_down`."""

    url: str = ""
    received: list[dict[str, Any]] = field(default_factory=list)
    pings: int = 0
    is_down: bool = False


@pytest.fixture
def alarm() -> Iterator[Alarm]:
    with alarm_server() as noted:
        yield noted


@contextmanager
def alarm_server() -> Iterator[Alarm]:
    """A webhook and dead-man switch on loopback."""
    noted = Alarm()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if not noted.is_down:
                noted.received.append(json.loads(body))
            self._end()

        def do_GET(self) -> None:
            noted.pings += not noted.is_down
            self._end()

        def _end(self) -> None:
            self.send_response(500 if noted.is_down else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        noted.url = f"http://127.0.0.1:{server.server_address[1]}/hook/s3cret-path"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield noted
        server.shutdown()
        thread.join()
