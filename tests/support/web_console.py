"""The web console as `materia-tui --web` starts it, and visitors without a browser."""

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import aiohttp
import psutil

from tests.support.ports import free_port

_WAIT_S = 30.0
_ESCAPE = re.compile(rb"\x1b\[[0-9;?]*[a-zA-Z]")


@dataclass(frozen=True)
class WebConsole:
    """A console server on this machine."""

    process: "subprocess.Popen[str]"
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, **headers: str) -> tuple[HTTPResponse, str]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer, answer.read().decode(errors="replace")
        finally:
            connection.close()

    def consoles(self) -> list[psutil.Process]:
        """The console processes of all visitors."""
        return psutil.Process(self.process.pid).children()


def start(data_dir: Path, *options: str) -> WebConsole:
    """Start `materia-tui --web` and return when it listens."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tui.shell.main", "--web", "--port", str(port), *options],
        env=os.environ | {"MATERIA_DATA_DIR": str(data_dir)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert f"http://127.0.0.1:{port}/" in process.stdout.readline()
    return WebConsole(process, port)


def wait_until(holds: Callable[[], object]) -> None:
    """Wait until this is true; fails after half a minute."""
    deadline = time.monotonic() + _WAIT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@dataclass
class Visit:
    """A connection to a console; `output` is all that was drawn so far."""

    socket: aiohttp.ClientWebSocketResponse
    token: str = ""
    output: bytes = b""

    async def shows(self, text: str) -> None:
        """Read until this text has been drawn."""
        async with asyncio.timeout(_WAIT_S):
            while text.encode() not in _ESCAPE.sub(b"", self.output):
                message = await self.socket.receive()
                if message.type is aiohttp.WSMsgType.TEXT:
                    kind, self.token = json.loads(message.data)
                    assert kind == "session"
                else:
                    assert message.type is aiohttp.WSMsgType.BINARY, message
                    self.output += message.data

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.socket.send_str(json.dumps(["stdin", key]))

    async def end(self) -> tuple[int | None, str]:
        """Read until the server closes the connection; return the code and the reason of that."""
        async with asyncio.timeout(_WAIT_S):
            while (message := await self.socket.receive()).type is not aiohttp.WSMsgType.CLOSE:
                assert message.type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT), message
        return message.data, str(message.extra)

    def drop(self) -> None:
        """Lose the connection without closing it."""
        self.socket._response.connection.transport.abort()


@contextlib.asynccontextmanager
async def visit(url: str, token: str = "") -> AsyncIterator[Visit]:
    """Connect to a new console, or with a token to the one that it belongs to."""
    query = "?width=120&height=30" + (f"&session={token}" if token else "")
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{url}/ws{query}", origin=url, autoclose=False) as socket,
    ):
        yield Visit(socket)
