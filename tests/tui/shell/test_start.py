"""Tests of the console's start: no heavy imports before the first paint, and errors for invalid settings."""

import os
import subprocess
import sys
from pathlib import Path

HEAVY = ("duckdb", "pyarrow", "pandas", "numpy", "hamilton", "sqlmesh", "tree_sitter", "boto3", "httpx")

MAX_OWN_MODULES = 60
"""Modules of this project that are imported before the first frame; each costs about 0.7 ms of the 60 ms that it may
take longer than a bare Textual app."""
LATE = ("argparse", "csv", "email.utils", "hashlib", "tomllib", "zipfile", "zoneinfo")
LATE_OWN = ("ops.health.status", "ops.workers", "dataflows.serving", "dataflows.landing", "dataflows.lakehouse")

_FIRST_FRAME = """
import os, pty, sys
from textual.drivers.linux_driver import LinuxDriver
from tui.shell import main

pid, terminal = pty.fork()
if pid:
    shown = b""
    while b"MODULES" not in shown:
        shown += os.read(terminal, 65536)
    sys.exit(0)
write, shown = LinuxDriver.write, [""]

def look(driver, data):
    write(driver, data)
    shown[0] += data
    if "export_serving" in shown[0]:
        report = os.open(os.environ["REPORT"], os.O_CREAT | os.O_WRONLY)
        os.write(report, " ".join(sys.modules).encode())
        os.write(1, b"MODULES")
        os._exit(0)

LinuxDriver.write = look
main.main([])
"""

_SHOW_AND_TELL = """
import asyncio, sys
from ops.config.settings import Settings
from tui.shell.app import ConsoleApp
from tui.shell.config import TuiConfig
from tui.shell.context import create_context

async def main():
    app = ConsoleApp(create_context(Settings.from_environ(), read_only=False), TuiConfig())
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
    result = subprocess.run(
        [sys.executable, "-c", _SHOW_AND_TELL],
        env=os.environ | {"MATERIA_DATA_DIR": str(healthy_dir)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    assert set(HEAVY).isdisjoint(result.stdout.split())


def test_the_first_frame_imports_only_what_it_shows(healthy_dir: Path, tmp_path: Path) -> None:
    report = tmp_path / "modules"
    result = subprocess.run(
        [sys.executable, "-c", _FIRST_FRAME],
        env=os.environ | {"MATERIA_DATA_DIR": str(healthy_dir), "REPORT": str(report), "TERM": "xterm-256color"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    modules = set(report.read_text().split())
    assert not modules & {*HEAVY, *LATE}
    assert [name for name in sorted(modules) if name.startswith(LATE_OWN)] == []
    own = [name for name in modules if name.partition(".")[0] in ("dataflows", "ops", "tui")]
    assert 30 < len(own) <= MAX_OWN_MODULES, sorted(own)


def test_an_invalid_setting_is_reported_without_a_traceback() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tui.shell.main"],
        env=os.environ | {"PSD_ARCHIVE_URL": "ftp://nowhere"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 2
    assert "PSD_ARCHIVE_URL" in result.stderr and "Traceback" not in result.stderr


def test_without_a_terminal_it_reports_that_and_exits(healthy_dir: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tui.shell.main"],
        env=os.environ | {"MATERIA_DATA_DIR": str(healthy_dir)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 2
    assert result.stderr == "error: the console needs a terminal; in a script, use `materia status --json`\n"
