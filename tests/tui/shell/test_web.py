"""Tests of the web console: access checks, the page's resources, and a visitor's session."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import pytest

from dataflows.errors import SettingsError
from tests.tui.building import healthy
from tui.shell.web import console_command, is_loopback, is_request_allowed, serve

_WAIT_S = 30.0
_ESCAPE = re.compile(rb"\x1b\[[0-9;?]*[a-zA-Z]")


@dataclass(frozen=True)
class WebConsole:
    """A console server on this machine."""

    pid: int
    port: int

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def status(self, path: str, **headers: str) -> int:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path, headers=headers)
            return connection.getresponse().status
        finally:
            connection.close()


@pytest.fixture(scope="module")
def web_console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebConsole]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "tui.shell.main", "--web", "--port", str(port)],
        env=os.environ | {"MATERIA_DATA_DIR": str(healthy(tmp_path_factory.mktemp("web")))},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        assert f"http://127.0.0.1:{port}/" in server.stdout.readline()
        yield WebConsole(server.pid, port)
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=_WAIT_S) == 0
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize("may_act", [False, True])
def test_the_web_console_is_locked_to_read_only_by_default(may_act: bool) -> None:
    assert ("--locked" in console_command(may_act=may_act)) is not may_act


def test_the_web_console_listens_on_this_machine_only(web_console: WebConsole) -> None:
    assert _listening_on(web_console.pid, web_console.port) == {"0100007F"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "materia.example"])
def test_a_public_address_is_refused_without_to_anyone(host: str) -> None:
    with pytest.raises(SettingsError, match="--to-anyone"):
        serve(host, 8000, may_act=False, to_anyone=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_these_addresses_are_this_machine_s_own(host: str) -> None:
    assert is_loopback(host)


def test_a_port_in_use_is_reported_without_a_traceback(web_console: WebConsole) -> None:
    with pytest.raises(SettingsError, match="another --port"):
        serve("127.0.0.1", web_console.port, may_act=False, to_anyone=False)


@pytest.mark.parametrize(
    ("listens_on", "host", "origin", "let_in"),
    [
        ("127.0.0.1", "127.0.0.1:8000", None, True),
        ("127.0.0.1", "localhost:9000", "http://localhost:9000", True),  # a tunnel over SSH
        ("127.0.0.1", "[::1]:8000", "http://[::1]:8000", True),
        ("127.0.0.1", "rebound.example:8000", "http://rebound.example:8000", False),
        ("127.0.0.1", "127.0.0.1:8000", "https://elsewhere.example", False),
        ("127.0.0.1", "127.0.0.1:8000", "http://127.0.0.1:3000", False),
        ("127.0.0.1", "127.0.0.1:8000", "null", False),
        ("127.0.0.1", "", None, False),
        ("0.0.0.0", "materia.example:8000", "http://materia.example:8000", True),
        ("0.0.0.0", "materia.example:8000", "http://elsewhere.example", False),
    ],
)
def test_only_our_own_page_is_answered(listens_on: str, host: str, origin: str | None, let_in: bool) -> None:
    assert is_request_allowed(listens_on, host, origin) is let_in


def test_other_pages_and_other_names_are_turned_away(web_console: WebConsole) -> None:
    assert web_console.status("/") == 200
    assert web_console.status("/", Host="rebound.example") == 403
    assert web_console.status("/ws", Origin="https://elsewhere.example") == 403


def test_the_page_and_all_it_needs_come_from_this_machine(web_console: WebConsole) -> None:
    page = web_console.get("/")
    assert "Materia" in page and "://" not in page
    needed = re.findall(r'(?:src|href)="(/[^"]+)"|url\("([^"]+)"\)', page)
    assert len(needed) == 3
    for path in map("".join, needed):
        assert web_console.status(path) == 200
    assert "://" not in re.sub(r"/\*.*?\*/", "", web_console.get("/static/css/xterm.css"), flags=re.DOTALL)


def test_a_visitor_sees_the_console_and_cannot_make_it_act(web_console: WebConsole) -> None:
    assert asyncio.run(_visit(web_console.port)) == ["Overview", "read-only", "Steps", "locked to read-only", "closed"]


async def _visit(port: int) -> list[str]:
    """Return what a visitor sees who opens Runs, starts a run, switches read-only mode off, and leaves."""
    import aiohttp

    async with (
        asyncio.timeout(_WAIT_S),
        aiohttp.ClientSession() as session,
        session.ws_connect(
            f"http://127.0.0.1:{port}/ws?width=120&height=30", origin=f"http://127.0.0.1:{port}"
        ) as visit,
    ):
        screen, seen = b"", []

        async def sees(text: str) -> None:
            nonlocal screen
            while text.encode() not in _ESCAPE.sub(b"", screen):
                message = await visit.receive()
                assert message.type is aiohttp.WSMsgType.BINARY, message
                screen += message.data
            seen.append(text)

        async def presses(key: str) -> None:
            await visit.send_str(json.dumps(["stdin", key]))

        await sees("Overview")
        await sees("read-only")
        await presses("2")
        await sees("Steps")
        await presses("s")
        await presses("\x0f")
        await sees("locked to read-only")
        assert b"materia pipeline run" not in screen
        await presses("q")
        while (await visit.receive()).type is aiohttp.WSMsgType.BINARY:
            pass
        return [*seen, "closed"]


def _listening_on(pid: int, port: int) -> set[str]:
    """Return the addresses (hexadecimal, as in /proc) that have a listener on that port."""
    lines = [line for name in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]]
    sockets = [line.split()[1:4] for line in lines]
    return {
        local.split(":")[0] for local, _, state in sockets if state == "0A" and int(local.split(":")[1], 16) == port
    }
