"""The command line of `materia-tui`: runs the console in this terminal or serves it to a browser."""

import gc
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dataflows.errors import MateriaError, SettingsError
from ops.config.settings import Settings
from ops.host.process import restrict_umask

if TYPE_CHECKING:
    import argparse


@dataclass
class Options:
    """The options of the command line, with their defaults."""

    read_only: bool = False
    locked: bool = False
    screen: str = "overview"
    web: bool = False
    host: str = "127.0.0.1"
    port: int = 8000
    to_anyone: bool = False
    may_act: bool = False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the console and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    # Without arguments argparse is not even imported: that would delay the first frame.
    options = _create_parser().parse_args(arguments, Options()) if arguments else Options()
    restrict_umask()
    try:
        if options.web:
            return _serve(options)
        return _run(options)
    except MateriaError as error:
        from ops.host.redact import Redactor

        print(f"error: {Redactor.from_environ()(str(error))}", file=sys.stderr)
        return error.exit_code


def _run(options: Options) -> int:
    # Nothing created before the first paint is garbage; collection is enabled again after it.
    gc.disable()
    from tui.shell.app import ConsoleApp
    from tui.shell.config import config_path, read_config
    from tui.shell.context import create_context
    from tui.shell.theme import THEME_16_NAME

    settings = Settings.from_environ()
    _require_terminal()
    context = create_context(settings, read_only=options.read_only or options.locked)
    config = read_config(config_path())
    app = ConsoleApp(context, config, first=options.screen, locked=options.locked, owns_process=True)
    if config.theme is None and app.console.color_system == "standard":
        app.theme = THEME_16_NAME
    app.run()
    # Textual sets no code when it ends because of an error outside of its own loop.
    return 1 if app.return_code is None else app.return_code


def _require_terminal() -> None:
    """Raise SettingsError without a terminal, where the console would wait for input forever."""
    in_a_browser = os.environ.get("TEXTUAL_DRIVER")
    if not in_a_browser and not (os.isatty(0) and os.isatty(2)):
        raise SettingsError("the console needs a terminal; in a script, use `materia status --json`")


def _serve(options: Options) -> int:
    from tui.shell.web.server import serve

    Settings.from_environ()
    serve(options.host, options.port, may_act=options.may_act, to_anyone=options.to_anyone)
    return 0


def _create_parser() -> "argparse.ArgumentParser":
    import argparse

    parser = argparse.ArgumentParser(
        prog="materia-tui", description="Materia's console: pipelines, data, logs, machines."
    )
    parser.add_argument("--read-only", action="store_true", help="hide every action that changes something")
    parser.add_argument("--locked", action="store_true", help="read-only mode that cannot be switched off")
    parser.add_argument("--screen", help="the screen to show first (default: overview)")
    web = parser.add_argument_group("in a browser")
    web.add_argument("--web", action="store_true", help="serve the console over HTTP, read-only; there is no login")
    web.add_argument("--host", help="the address to listen on (default: this machine only)")
    web.add_argument("--port", type=int, help="the port to listen on (default: 8000)")
    web.add_argument(
        "--to-anyone", action="store_true", help="allow a --host that other machines can reach; there is no login"
    )
    web.add_argument(
        "--may-act", action="store_true", help="allow actions that change something, such as start and destroy"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
