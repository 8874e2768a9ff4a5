"""Serves the console to a browser. There is no login, so the default is loopback and read-only."""

import asyncio
import ipaddress
import shlex
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dataflows.errors import SettingsError

if TYPE_CHECKING:
    from aiohttp import web

MAX_CONSOLES = 8
"""Maximum number of open consoles; each is a process."""

_SHUTDOWN_S = 2.0
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


def console_command(*, may_act: bool) -> str:
    """Return the command that serves one visitor; without `may_act` it is locked to read-only mode."""
    return shlex.join([sys.executable, "-m", "tui.shell.main", *(() if may_act else ("--locked",))])


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


async def _serve(host: str, port: int, command: str) -> None:
    from aiohttp import web
    from textual_serve.server import Server

    server = Server(command, host=host, port=port, title="Materia", templates_path=_PAGE)
    app = await server._make_app()
    app.on_startup.remove(server.on_startup)  # its banner
    app.middlewares.append(_access_check(host))
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    # A short timeout: shutdown waits for the open consoles, which do not exit by themselves.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        print(f"the console is at http://{host}:{port}/   ctrl+c stops it", flush=True)
        await ended.wait()
    finally:
        await runner.cleanup()


def _access_check(host: str) -> "Callable[..., Awaitable[web.StreamResponse]]":
    """Create the middleware that rejects foreign pages and visitors beyond MAX_CONSOLES."""
    from aiohttp import web

    visitor_count = 0

    @web.middleware
    async def check_access(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        nonlocal visitor_count
        if not is_request_allowed(host, request.host, request.headers.get("Origin")):
            raise web.HTTPForbidden(text="forbidden: open the console's own page\n")
        if request.path != "/ws":
            return await handler(request)
        if visitor_count >= MAX_CONSOLES:
            raise web.HTTPServiceUnavailable(text=f"{MAX_CONSOLES} consoles are open; close one\n")
        visitor_count += 1
        try:
            return await handler(request)
        finally:
            visitor_count -= 1

    return check_access
