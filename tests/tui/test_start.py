"""Starting the console: what it may import before it is seen, and the console in a browser."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tui.web import console_command

HEAVY = ("duckdb", "pyarrow", "pandas", "numpy", "hamilton", "sqlmesh", "tree_sitter", "boto3", "httpx")

_SHOW_AND_TELL = """
import asyncio, sys
from ops.settings import Settings
from tui.app import ConsoleApp
from tui.config import TuiConfig
from tui.context import context_of

async def main():
    app = ConsoleApp(context_of(Settings.from_environ(), read_only=False), TuiConfig())
    async with app.run_test(size=(100, 30)) as pilot:
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert app.query_one("#pipelines").rows
        await pilot.press("2", "6")
        await app.workers.wait_for_complete()
        print(*sorted(name for name in sys.modules if "." not in name))

asyncio.run(main())
"""


def test_overview_runs_and_workers_import_nothing_heavy(healthy_dir: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-c", _SHOW_AND_TELL],
        env=os.environ | {"MATERIA_DATA_DIR": str(healthy_dir)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.returncode == 0, told.stderr
    assert set(HEAVY).isdisjoint(told.stdout.split())


def test_a_wrong_setting_is_told_without_a_traceback() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "tui.main"],
        env=os.environ | {"PSD_ARCHIVE_URL": "ftp://nowhere"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.returncode == 2
    assert "PSD_ARCHIVE_URL" in told.stderr and "Traceback" not in told.stderr


@pytest.mark.parametrize("may_act", [False, True])
def test_a_browser_only_looks_unless_told_otherwise(may_act: bool) -> None:
    assert ("--locked" in console_command(may_act=may_act)) is not may_act


def test_the_web_console_listens_on_this_machine_only(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "tui.main", "--web", "--port", str(port)]
    server = subprocess.Popen(
        command,
        env=os.environ | {"MATERIA_DATA_DIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        page = _page(f"http://127.0.0.1:{port}/")
        assert b"Materia" in page
        inodes = _listening_on(server.pid, port)
        assert inodes == {"0100007F"}
    finally:
        server.kill()
        server.wait()


def _page(url: str) -> bytes:
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return bytes(answer.read())
        except OSError:
            assert time.monotonic() < deadline, f"{url} does not answer"
            time.sleep(0.1)


def _listening_on(pid: int, port: int) -> set[str]:
    """The addresses, in /proc's hexadecimal, that somebody listens on at that port."""
    lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    sockets = [line.split()[1:4] for line in lines]
    return {
        local.split(":")[0] for local, _, state in sockets if state == "0A" and int(local.split(":")[1], 16) == port
    }
