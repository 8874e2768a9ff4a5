"""The same console in a browser. There is no login: loopback and read-only unless told otherwise."""

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
"""How many consoles may be open at once; each is a process."""

_END_S = 2.0
_PAGE = Path(__file__).parent / "page"


def serve(host: str, port: int, *, may_act: bool, to_anyone: bool) -> None:
    """Serve the console over HTTP until interrupted; each visitor gets a console process of its own.

    Raises SettingsError when others could reach that address and it isn't to be served `to_anyone`, and when
    it cannot be listened on.
    """
    if not (is_loopback(host) or to_anyone):
        raise SettingsError(
            f"others can reach {host}, and the console has no login; keep to 127.0.0.1 and tunnel to it"
            f" (ssh -L {port}:127.0.0.1:{port} HOST), or add --to-anyone"
        )
    try:
        asyncio.run(_serve(host, port, console_command(may_act=may_act)))
    except OSError as error:
        raise SettingsError(f"cannot listen on {host}:{port}: {error.strerror or error}; try another --port") from error


def console_command(*, may_act: bool) -> str:
    """The command that a visit starts; what only looks cannot be switched to act."""
    return shlex.join([sys.executable, "-m", "tui.shell.main", *(() if may_act else ("--locked",))])


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def may_visit(listens_on: str, host: str, origin: str | None) -> bool:
    """Whether a request that says it is for `host`, from a page of `origin`, is a person's who opened our page.

    Any page in the operator's browser may connect to a WebSocket of this machine, and only the origin tells that
    it did; a name that somebody else resolves to this machine (DNS rebinding) shows in the host.
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
    app.middlewares.append(_doorman(host))
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    # Soon, not after a minute: it is the visitors' consoles that are waited for, and those would not end by themselves.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_END_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        print(f"the console is at http://{host}:{port}/   ctrl+c ends it", flush=True)
        await ended.wait()
    finally:
        await runner.cleanup()


def _doorman(host: str) -> "Callable[..., Awaitable[web.StreamResponse]]":
    """A middleware that turns away who did not come by our own page, and those who are too many."""
    from aiohttp import web

    visitors = 0

    @web.middleware
    async def doorman(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        nonlocal visitors
        if not may_visit(host, request.host, request.headers.get("Origin")):
            raise web.HTTPForbidden(text="this console answers to its own page only\n")
        if request.path != "/ws":
            return await handler(request)
        if visitors >= MAX_CONSOLES:
            raise web.HTTPServiceUnavailable(text=f"{MAX_CONSOLES} consoles are open; close one\n")
        visitors += 1
        try:
            return await handler(request)
        finally:
            visitors -= 1

    return doorman
