"""The same console in a browser. There is no login: loopback and read-only unless told otherwise."""

import shlex
import sys


def serve(host: str, port: int, *, may_act: bool) -> None:
    """Serve the console over HTTP until interrupted; each visitor gets a console process of its own."""
    from textual_serve.server import Server

    Server(console_command(may_act=may_act), host=host, port=port, title="Materia").serve()


def console_command(*, may_act: bool) -> str:
    """The command that a visit starts; what only looks cannot be switched to act."""
    return shlex.join([sys.executable, "-m", "tui.main", *(() if may_act else ("--locked",))])
