"""Tests of the web console: access checks, what every response carries, and sessions."""

import asyncio
import contextlib
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import aiohttp
import psutil
import pytest

from dataflows.errors import SettingsError
from tests.support.ports import free_port
from tests.support.web_console import WebConsole, start, visit, wait_until
from tests.tui.building import healthy
from tui.shell.web.server import MAX_CONSOLES, Consoles, console_command, is_loopback, is_request_allowed, listen, serve
from tui.shell.web.session import Close

Opened = contextlib.AbstractAsyncContextManager[str]
_FOREIGN = {"Origin": "https://elsewhere.example"}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Opened]:
    """Serves consoles from the test's own process; yields the address."""
    monkeypatch.setenv("MATERIA_DATA_DIR", str(healthy(tmp_path)))

    @contextlib.asynccontextmanager
    async def serve_here(command: Sequence[str], reattach_s: float = 60.0) -> AsyncIterator[str]:
        port = free_port()
        async with listen("127.0.0.1", port, Consoles("127.0.0.1", command, reattach_s)):
            yield f"http://127.0.0.1:{port}"

    return serve_here


@pytest.mark.parametrize("may_act", [False, True])
def test_the_web_console_is_locked_to_read_only_by_default(may_act: bool) -> None:
    assert ("--locked" in console_command(may_act=may_act)) is not may_act


def test_the_web_console_listens_on_this_machine_only(web_console: WebConsole) -> None:
    assert _listening_on(web_console.process.pid, web_console.port) == {"0100007F"}


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
    assert web_console.get("/")[0].status == 200
    assert web_console.get("/", Host="rebound.example")[0].status == 403
    assert web_console.get("/ws", **_FOREIGN)[0].status == 403


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {}, 200),
        ("/health", {}, 200),
        ("/page/console.js", {}, 200),
        ("/static/js/textual.js", {}, 200),
        ("/ws", {}, 400),
        ("/nothing", {}, 404),
        ("/static/", {}, 403),
        ("/", _FOREIGN, 403),
    ],
)
def test_no_response_can_be_shown_in_a_frame(
    web_console: WebConsole, path: str, headers: dict[str, str], status: int
) -> None:
    answer, _ = web_console.get(path, **headers)
    assert answer.status == status
    assert "frame-ancestors 'none'" in (answer.headers["Content-Security-Policy"] or "").split("; ")
    assert answer.headers["X-Frame-Options"] == "DENY"


async def test_the_connection_to_a_console_carries_the_same_headers(web_console: WebConsole) -> None:
    async with visit(web_console.url) as visitor:
        headers = visitor.socket._response.headers
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"] and headers["X-Frame-Options"] == "DENY"
        await visitor.shows("read-only")
        await visitor.press("q")
        await visitor.end()


def test_the_page_and_all_it_needs_come_from_this_machine(web_console: WebConsole) -> None:
    _, page = web_console.get("/")
    _, style = web_console.get("/page/console.css")
    _, script = web_console.get("/page/console.js")
    assert "Materia" in page and all("://" not in text for text in (page, style, script))
    needed = re.findall(r'(?:src|href)="(/[^"]+)"|url\("([^"]+)"\)', page + style)
    assert len(needed) == 5
    for path in map("".join, needed):
        assert web_console.get(path)[0].status == 200
    assert "://" not in re.sub(r"/\*.*?\*/", "", web_console.get("/static/css/xterm.css")[1], flags=re.DOTALL)


async def test_a_visitor_sees_the_console_and_cannot_make_it_act(web_console: WebConsole) -> None:
    async with visit(web_console.url) as visitor:
        await visitor.shows("read-only")
        await visitor.press("2")
        await visitor.shows("Steps")
        await visitor.press("s", "\x0f")
        await visitor.shows("locked to read-only")
        assert b"materia pipeline run" not in visitor.output
        await visitor.press("q")
        assert await visitor.end() == (Close.ENDED, "the console has ended")


async def test_a_dropped_connection_gets_its_console_back_as_it_was(web_console: WebConsole) -> None:
    async with visit(web_console.url) as visitor:
        await visitor.shows("read-only")
        await visitor.press("2")
        await visitor.shows("Steps")
        (process,) = web_console.consoles()
        for key in "1212":  # what these draw reaches the server while no visitor or the next one is there
            await visitor.press(key)
        visitor.drop()
    async with visit(web_console.url, visitor.token) as again:
        await again.shows("Steps")
        assert again.output.startswith(b"\x1b[?1049h") and again.token == visitor.token
        assert web_console.consoles() == [process]
        # The first connection may still look open to the server; what is newer counts.
        async with visit(web_console.url, visitor.token) as third:
            await third.shows("Steps")
            assert await again.end() == (Close.TAKEN_OVER, "it was opened in another tab")
            await third.press("q")
            await third.end()


DRAWS_LATE = """
import json, struct, sys

def draw(data):
    sys.stdout.buffer.write(struct.pack(">cI", b"D", len(data)) + data)
    sys.stdout.flush()

sys.stdout.buffer.write(b"__GANGLION__\\n")
draw(b"first screen")
while header := sys.stdin.buffer.read(5):
    kind, size = struct.unpack(">cI", header)
    if json.loads(sys.stdin.buffer.read(size))["type"] == "attach":
        draw(b"drawn for the visitor before")
        draw(b"and the rest of it\\x1b[?1049hcomplete screen")
"""


async def test_what_was_drawn_for_the_visitor_before_is_not_sent(own: Callable[..., Opened]) -> None:
    async with own([sys.executable, "-c", DRAWS_LATE]) as url:
        async with visit(url) as visitor:
            await visitor.shows("first screen")
            visitor.drop()
        async with visit(url, visitor.token) as again:
            await again.shows("complete screen")
            assert again.output == b"\x1b[?1049hcomplete screen"


@pytest.mark.parametrize("token", ["A" * 43, "1", "%00"])
async def test_a_token_that_no_console_has_opens_none(web_console: WebConsole, token: str) -> None:
    async with visit(web_console.url, token) as visitor:
        assert await visitor.end() == (Close.UNKNOWN, "the console has ended")
    assert web_console.consoles() == []


async def test_a_message_that_the_page_does_not_send_leaves_the_console_alone(web_console: WebConsole) -> None:
    async with visit(web_console.url) as visitor:
        await visitor.shows("read-only")
        for value in (
            "not JSON",
            "{}",
            "[]",
            '["resize", {"width": -1, "height": 99999999}]',
            '["stdin", 7]',
            '["quit", ""]',
        ):
            await visitor.socket.send_str(value)
        await visitor.socket.send_str('["resize", {"width": 120, "height": 30}]')
        await visitor.press("\ud800", "2")
        await visitor.shows("Steps")
        await visitor.press("q")
        await visitor.end()


async def test_a_console_that_dies_is_reported_to_its_visitor(web_console: WebConsole) -> None:
    async with visit(web_console.url) as visitor:
        await visitor.shows("read-only")
        web_console.consoles()[0].kill()
        assert await visitor.end() == (Close.ENDED, "the console has ended")


@pytest.mark.parametrize("is_hung", [False, True])
async def test_a_console_ends_when_its_visitor_stays_away(own: Callable[..., Opened], is_hung: bool) -> None:
    """The minute is a fifth of a second here."""
    before = set(psutil.Process().children())
    async with own(console_command(may_act=False), reattach_s=0.2) as url:
        async with visit(url) as visitor:
            await visitor.shows("read-only")
            (process,) = set(psutil.Process().children()) - before
            if is_hung:
                process.suspend()
            visitor.drop()
        await asyncio.to_thread(process.wait, 10)
        async with visit(url, visitor.token) as late:
            assert await late.end() == (Close.UNKNOWN, "the console has ended")


async def test_a_ninth_visitor_reads_that_eight_consoles_are_open(own: Callable[..., Opened]) -> None:
    async with own(console_command(may_act=False)) as url, contextlib.AsyncExitStack() as visitors:
        for _ in range(MAX_CONSOLES):
            await visitors.enter_async_context(visit(url))
        async with visit(url) as ninth:
            assert await ninth.end() == (Close.FULL, "8 consoles are open, which is the limit; close one")
        assert await _health(url) == (200, {"sessions": 8, "connected": 8, "limit": 8, "newest_start": "starting"})


async def test_health_reports_what_was_seen(own: Callable[..., Opened]) -> None:
    async with own(console_command(may_act=False)) as url:
        assert await _health(url) == (200, {"sessions": 0, "connected": 0, "limit": 8, "newest_start": "unknown"})
        async with visit(url) as visitor:
            await visitor.shows("read-only")
            assert await _health(url) == (200, {"sessions": 1, "connected": 1, "limit": 8, "newest_start": "shown"})
            visitor.drop()
        while (answer := await _health(url))[1]["connected"]:
            await asyncio.sleep(0.02)
        assert answer == (200, {"sessions": 1, "connected": 0, "limit": 8, "newest_start": "shown"})


async def test_a_console_that_cannot_start_is_reported_to_its_visitor_and_by_health(own: Callable[..., Opened]) -> None:
    async with own([sys.executable, "-c", "raise SystemExit(1)"]) as url:
        async with visit(url) as visitor:
            assert await visitor.end() == (Close.ENDED, "the console did not start; the server's output says why")
        assert await _health(url) == (503, {"sessions": 0, "connected": 0, "limit": 8, "newest_start": "failed"})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_no_process_outlives_the_server(tmp_path: Path, number: int) -> None:
    """Also not the process that runs a console's SQL."""
    server = await asyncio.to_thread(start, healthy(tmp_path))
    async with visit(server.url) as visitor:
        await visitor.shows("read-only")
        await visitor.press("3", "\x1b[15~")
        await asyncio.to_thread(
            wait_until, lambda: len(psutil.Process(server.process.pid).children(recursive=True)) > 1
        )
        family = psutil.Process(server.process.pid).children(recursive=True)
        server.process.send_signal(number)
        if number == signal.SIGTERM:
            assert await visitor.end() == (Close.ENDED, "the server has stopped")
        assert await asyncio.to_thread(server.process.wait, 10) == (0 if number == signal.SIGTERM else -number)
        _, alive = await asyncio.to_thread(psutil.wait_procs, family, 10)
        assert alive == []


async def _health(url: str) -> tuple[int, dict[str, object]]:
    async with aiohttp.ClientSession() as http, http.get(f"{url}/health") as answer:
        return answer.status, await answer.json()


def _listening_on(pid: int, port: int) -> set[str]:
    """Return the addresses (hexadecimal, as in /proc) that have a listener on that port."""
    lines = [line for name in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]]
    sockets = [line.split()[1:4] for line in lines]
    return {
        local.split(":")[0] for local, _, state in sockets if state == "0A" and int(local.split(":")[1], 16) == port
    }
