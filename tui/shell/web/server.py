"""Serves the console to a browser. There is no login, so the default is loopback and read-only."""

import asyncio
import contextlib
import ipaddress
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dataflows.errors import SettingsError
from tui.shell.web.session import REATTACH_S, Close, Session

if TYPE_CHECKING:
    from aiohttp import WSMessage, web

MAX_CONSOLES = 8
"""Maximum number of open consoles; each is a process."""

_SHUTDOWN_S = 2.0
_HEARTBEAT_S = 15.0
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; connect-src 'self' ws: wss:; img-src data:;"
    " style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}
"""Sent with every response: no other page may show the console in a frame, and it loads nothing from elsewhere."""
_PAGE = Path(__file__).parent / "page"


def serve(host: str, port: int, *, may_act: bool, to_anyone: bool) -> None:
    """Serve the console over HTTP until interrupted; each visitor gets a separate console process.

    Raises SettingsError when `host` is not loopback and `to_anyone` is false, and when listening fails.
    """
    if not (is_loopback(host) or to_anyone):
        raise SettingsError(
            f"other machines can reach {host}, and the console has no login; use 127.0.0.1 and an SSH tunnel"
            f" (ssh -L {port}:127.0.0.1:{port} HOST), or add --to-anyone"
        )
    try:
        asyncio.run(_serve(host, port, console_command(may_act=may_act)))
    except OSError as error:
        raise SettingsError(f"cannot listen on {host}:{port}: {error.strerror or error}; try another --port") from error


def console_command(*, may_act: bool) -> list[str]:
    """Return the command that serves one visitor; without `may_act` it is locked to read-only mode."""
    return [sys.executable, "-m", "tui.shell.main", *(() if may_act else ("--locked",))]


def is_loopback(host: str) -> bool:
    """Whether the address can be reached only from this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def is_request_allowed(listens_on: str, host: str, origin: str | None) -> bool:
    """Whether a request with this Host and Origin comes from our own page.

    Any page in the operator's browser can open a WebSocket to this machine; the Origin header reveals that. A foreign
    name that resolves to this machine (DNS rebinding) appears in the Host header.
    """
    name = urlsplit(f"//{host}").hostname or ""
    if is_loopback(listens_on) and not is_loopback(name):
        return False
    return origin is None or urlsplit(origin).netloc == host


async def _serve(host: str, port: int, command: Sequence[str]) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with listen(host, port, Consoles(host, command)):
        print(f"the console is at http://{host}:{port}/   ctrl+c stops it", flush=True)
        await ended.wait()


@contextlib.asynccontextmanager
async def listen(host: str, port: int, consoles: "Consoles") -> AsyncIterator[None]:
    """Listen while the context is open; every console process has ended when it is left."""
    from aiohttp import web

    runner = web.AppRunner(consoles.make_app(), access_log=None, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield
    finally:
        await consoles.close()
        await runner.cleanup()


class Consoles:
    """The sessions of all visitors, and the HTTP application that leads to them."""

    def __init__(self, listens_on: str, command: Sequence[str], reattach_s: float = REATTACH_S) -> None:
        self._listens_on = listens_on
        self._command = command
        self._reattach_s = reattach_s
        self._sessions: dict[str, Session] = {}
        self._starting = 0
        self._newest: Session | None = None

    def make_app(self) -> "web.Application":
        """Create the application: the page, what it loads, the connection to a console, and `/health`."""
        import textual_serve
        from aiohttp import web

        app = web.Application(middlewares=[_access_check(self._listens_on)])
        app.on_response_prepare.append(_add_headers)
        app.router.add_get("/", _show_page)
        app.router.add_get("/ws", self._connect)
        app.router.add_get("/health", self._report_health)
        app.router.add_static("/page", _PAGE)
        app.router.add_static("/static", Path(textual_serve.__file__).parent / "static")
        return app

    async def close(self) -> None:
        """End every session."""
        sessions = list(self._sessions.values())
        for session in sessions:
            session.quit(b"the server has stopped")
        await asyncio.gather(*(session.wait() for session in sessions))

    async def _connect(self, request: "web.Request") -> "web.WebSocketResponse":
        """Connect a page to its session, or to a new one."""
        from aiohttp import web

        socket = web.WebSocketResponse(heartbeat=_HEARTBEAT_S)
        await socket.prepare(request)
        token = request.query.get("session")
        session = self._sessions.get(token) if token else None
        if token and (session is None or session.is_ending):
            await socket.close(code=Close.UNKNOWN, message=b"the console has ended")
        elif session is None and len(self._sessions) + self._starting >= MAX_CONSOLES:
            reason = f"{MAX_CONSOLES} consoles are open, which is the limit; close one"
            await socket.close(code=Close.FULL, message=reason.encode())
        else:
            session = session or await self._start(request)
            try:
                await session.attach(socket, request.transport)
                async for message in socket:
                    match _parse(message):
                        case ["ping", sent_at]:
                            await socket.send_json(["pong", sent_at])
                        case [str() as kind, *values]:
                            await session.receive(kind, *values)
            finally:
                session.detach(socket)
        return socket

    async def _start(self, request: "web.Request") -> Session:
        size = (int(request.query.get("width", 80)), int(request.query.get("height", 24)))
        self._starting += 1
        try:
            session = await Session.start(self._command, size, self._forget, self._reattach_s)
        finally:
            self._starting -= 1
        self._sessions[session.token] = self._newest = session
        return session

    def _forget(self, session: Session) -> None:
        del self._sessions[session.token]

    async def _report_health(self, request: "web.Request") -> "web.Response":
        """Answer with the open consoles and how the newest start ended; status 503 if that failed."""
        from aiohttp import web

        alive = [session for session in self._sessions.values() if session.is_alive]
        state = self._newest.state if self._newest else "unknown"
        answer = {
            "sessions": len(alive),
            "connected": sum(session.is_connected for session in alive),
            "limit": MAX_CONSOLES,
            "newest_start": state,
        }
        return web.json_response(answer, status=503 if state == "failed" else 200)


def _access_check(listens_on: str) -> "Callable[..., Awaitable[web.StreamResponse]]":
    """Create the middleware that refuses the requests of foreign pages."""
    from aiohttp import web

    @web.middleware
    async def check_access(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if not is_request_allowed(listens_on, request.host, request.headers.get("Origin")):
            raise web.HTTPForbidden(text="forbidden: open the console's own page\n")
        return await handler(request)

    return check_access


def _parse(message: "WSMessage") -> object:
    """Return what the page sent; None if that is no JSON."""
    try:
        return json.loads(message.data)
    except (TypeError, ValueError):
        return None


async def _add_headers(request: "web.Request", response: "web.StreamResponse") -> None:
    response.headers.update(_HEADERS)


async def _show_page(request: "web.Request") -> "web.StreamResponse":
    from aiohttp import web

    return web.FileResponse(_PAGE / "index.html", headers={"Cache-Control": "no-cache"})
