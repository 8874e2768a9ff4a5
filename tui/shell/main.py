"""`materia-tui`: the operator's console, in this terminal or in a browser."""

import argparse
import gc
import os
import sys
from collections.abc import Sequence

from dataflows.errors import MateriaError, SettingsError
from ops.config.settings import Settings
from ops.host.process import only_the_owner_writes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the console and return its exit code."""
    asked = _parser().parse_args(arguments)
    only_the_owner_writes()
    try:
        if asked.web:
            return _serve(asked)
        return _run(asked)
    except MateriaError as error:
        from ops.host.redact import Redactor

        print(f"error: {Redactor.from_environ()(str(error))}", file=sys.stderr)
        return error.exit_code


def _run(asked: argparse.Namespace) -> int:
    # Nothing of what is made before the first paint is garbage; the console collects once it is on the screen.
    gc.disable()
    from tui.shell.app import ConsoleApp
    from tui.shell.config import config_path, read_config
    from tui.shell.context import context_of
    from tui.shell.theme import THEME_16_NAME

    settings = Settings.from_environ()
    _see_to_a_terminal()
    context = context_of(settings, read_only=asked.read_only or asked.locked)
    config = read_config(config_path())
    app = ConsoleApp(context, config, first=asked.screen, locked=asked.locked, alone=True)
    if config.theme is None and app.console.color_system == "standard":
        app.theme = THEME_16_NAME
    app.run()
    return app.return_code or 0


def _see_to_a_terminal() -> None:
    """Raise SettingsError where nobody could see the console or press a key: it would wait for one forever."""
    in_a_browser = os.environ.get("TEXTUAL_DRIVER")
    if not in_a_browser and not (os.isatty(0) and os.isatty(2)):
        raise SettingsError("the console needs a terminal; in a script, ask `materia status --json`")


def _serve(asked: argparse.Namespace) -> int:
    from tui.shell.web import serve

    Settings.from_environ()
    serve(asked.host, asked.port, may_act=asked.may_act, to_anyone=asked.to_anyone)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="materia-tui", description="Materia's console: pipelines, data, logs, machines."
    )
    parser.add_argument("--read-only", action="store_true", help="hide everything that acts")
    parser.add_argument("--locked", action="store_true", help="the same, and nobody can switch it off")
    parser.add_argument("--screen", default="overview", help="the screen to begin with")
    web = parser.add_argument_group("in a browser")
    web.add_argument("--web", action="store_true", help="serve the console over HTTP, read-only; there is no login")
    web.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: this machine only)")
    web.add_argument("--port", type=int, default=8000, help="the port to listen on (default: 8000)")
    web.add_argument("--to-anyone", action="store_true", help="listen also where others can reach it; no login")
    web.add_argument("--may-act", action="store_true", help="let the browser start, interrupt and destroy")
    return parser


if __name__ == "__main__":
    sys.exit(main())
