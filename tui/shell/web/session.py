"""A visitor's console: a process that outlives a dropped connection by a minute, and never its server."""

import asyncio
import contextlib
import json
import os
import secrets
import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web

REATTACH_S = 60.0
"""How long a console waits for its visitor after the connection dropped."""

_HEADER = struct.Struct(">cI")
"""Before each packet of Textual's web driver: its kind (data or meta) and its size."""
_READY = b"__GANGLION__\n"
"""What the driver writes before its first packet."""
SCREEN = b"\x1b[?1049h"
"""What the driver writes before it draws a complete screen."""
_DRIVER = "tui.shell.web.driver:BrowserDriver"
_QUIT_S = 2.0
_CLOSE_S = 2.0
_MAX_CELLS = 1_000


class Close:
    """Why the server closes a connection. The page shows the reason and does not connect again."""

    ENDED = 4000
    TAKEN_OVER = 4001
    UNKNOWN = 4004
    FULL = 4008


class Session:
    """A console process and the visitor's connection to it, if there is one."""

    def __init__(
        self, process: asyncio.subprocess.Process, on_end: Callable[["Session"], None], reattach_s: float
    ) -> None:
        self.token = secrets.token_urlsafe(32)
        """Gives access to the session."""
        self.has_drawn = False
        self.is_ending = False
        self._process = process
        self._on_end = on_end
        self._reattach_s = reattach_s
        self._connection: tuple[web.WebSocketResponse, asyncio.Transport | None] | None = None
        self._awaits_screen = False
        """Whether the visitor is new, so that what is drawn on the screen of the one before is not sent."""
        self._timer: asyncio.TimerHandle | None = None
        self._last_words = b"the console has ended"
        self._tasks = {asyncio.create_task(self._relay())}

    @classmethod
    async def start(
        cls, command: Sequence[str], size: tuple[int, int], on_end: Callable[["Session"], None], reattach_s: float
    ) -> "Session":
        """Start the command's process, which draws `size` columns and lines."""
        columns, lines = _bounded(*size)
        terminal = {"TEXTUAL_DRIVER": _DRIVER, "TEXTUAL_COLOR_SYSTEM": "truecolor", "TERM_PROGRAM": "textual"}
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | terminal | {"COLUMNS": str(columns), "ROWS": str(lines)},
        )
        return cls(process, on_end, reattach_s)

    @property
    def is_alive(self) -> bool:
        """Whether its process runs."""
        return self._process.returncode is None

    @property
    def state(self) -> str:
        """How its start ended: `shown`, `failed`, or `starting` as long as that is open."""
        return "shown" if self.has_drawn else "failed" if self.is_ending else "starting"

    @property
    def is_connected(self) -> bool:
        """Whether a visitor is connected."""
        return self._connection is not None

    async def attach(self, socket: "web.WebSocketResponse", transport: asyncio.Transport | None) -> None:
        """Send what the console draws to this connection, from a complete screen on; closes an older connection."""
        self._stop_timer()
        older, self._connection, self._awaits_screen = self._connection, (socket, transport), self.has_drawn
        if older:
            self._tasks.add(asyncio.create_task(_close(*older, Close.TAKEN_OVER, b"it was opened in another tab")))
        await socket.send_json(["session", self.token])
        if self.has_drawn:
            self._send_meta(type="attach")

    def detach(self, socket: "web.WebSocketResponse") -> None:
        """Start the minute after which the process ends; nothing if another connection has taken over."""
        if self._connection and self._connection[0] is socket and not self.is_ending:
            self._connection = None
            self._timer = asyncio.get_running_loop().call_later(self._reattach_s, self.quit)

    async def receive(self, kind: str, value: object = None, *_: object) -> None:
        """Pass a message of the page on to the process; messages of other kinds are ignored."""
        assert self._process.stdin is not None
        match kind, value:
            case "stdin", str():
                self._send_packet(b"D", value.encode(errors="ignore"))
            case "resize", {"width": int() as columns, "height": int() as lines}:
                columns, lines = _bounded(columns, lines)
                self._send_meta(type="resize", width=columns, height=lines)
            case (("focus" | "blur"), _):
                self._send_meta(type=kind)
        with contextlib.suppress(ConnectionError):  # the process has ended
            await self._process.stdin.drain()

    def quit(self, last_words: bytes = b"") -> None:
        """Let the process exit, and kill it when it does not. A visitor reads `last_words`."""
        self._stop_timer()
        self.is_ending = True
        self._last_words = last_words or self._last_words
        self._send_meta(type="quit")
        self._timer = asyncio.get_running_loop().call_later(_QUIT_S, self._kill)

    async def wait(self) -> None:
        """Wait until the process has ended and its visitor has been notified."""
        await asyncio.gather(*self._tasks)

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def _relay(self) -> None:
        """Send what the process draws to the visitor until it ends. Without a visitor its output is dropped."""
        assert self._process.stdout is not None
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await self._process.stdout.readuntil(_READY)
            while True:
                kind, size = _HEADER.unpack(await self._process.stdout.readexactly(_HEADER.size))
                data = await self._process.stdout.readexactly(size)
                if kind == b"D":
                    self.has_drawn = True
                    await self._draw(data)
        self.quit()
        await self._process.wait()
        self._stop_timer()
        self._on_end(self)
        if self._connection:
            failure = b"the console did not start; the server's output says why"
            await _close(*self._connection, Close.ENDED, self._last_words if self.has_drawn else failure)

    async def _draw(self, data: bytes) -> None:
        if self._awaits_screen:
            start = data.find(SCREEN)
            if start < 0:
                return
            data, self._awaits_screen = data[start:], False
        if self._connection:
            # The handler that reads from a dropped connection notices it, too.
            with contextlib.suppress(ConnectionError):
                await self._connection[0].send_bytes(data)

    def _send_meta(self, **values: object) -> None:
        self._send_packet(b"M", json.dumps(values).encode())

    def _send_packet(self, kind: bytes, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(_HEADER.pack(kind, len(data)) + data)


async def _close(
    socket: "web.WebSocketResponse", transport: asyncio.Transport | None, code: int, reason: bytes
) -> None:
    """Close a connection, also one whose other end does not answer."""
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(_CLOSE_S):
            await socket.close(code=code, message=reason)
    if transport:
        transport.abort()


def _bounded(columns: int, lines: int) -> tuple[int, int]:
    return min(max(columns, 1), _MAX_CELLS), min(max(lines, 1), _MAX_CELLS)
