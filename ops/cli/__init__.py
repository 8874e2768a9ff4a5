"""The command line `materia`. Each command is a module of its own and is imported only when it is used.

Keep imports here, and at the top of a command's module, light: they add to the start-up time of every call. A command
that runs pipelines calls `Session.log_to_terminal` first.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

import click

from dataflows.errors import MateriaError
from ops.host.exits import Exit
from ops.host.garbage import rare_garbage_collection
from ops.host.process import restrict_umask

if TYPE_CHECKING:
    import logging

    from rich.console import Console

COMMANDS = {
    "backfill": "ops.cli.pipeline:backfill",
    "completion": "ops.cli.completion:completion",
    "dag": "ops.cli.dag:dag",
    "demo": "ops.cli.demo:demo",
    "doctor": "ops.cli.doctor:doctor",
    "explain": "ops.cli.explain:explain",
    "export": "ops.cli.export:export",
    "iceberg": "ops.cli.iceberg:iceberg",
    "landing": "ops.cli.landing:landing",
    "pipeline": "ops.cli.pipeline:pipeline",
    "query": "ops.cli.query:query",
    "releases": "ops.cli.releases:releases",
    "run-all": "ops.cli.pipeline:run_all",
    "runs": "ops.cli.runs:runs",
    "scrub": "ops.cli.scrub:scrub",
    "secrets": "ops.cli.secrets:secrets",
    "serving": "ops.cli.serving:serving",
    "status": "ops.cli.status:status",
    "supervisor": "ops.cli.supervisor:supervisor",
    "tables": "ops.cli.tables:tables",
    "wasde": "ops.cli.wasde:wasde",
    "worker": "ops.cli.worker:worker",
}
"""The location of each command, as `module:attribute`."""


@dataclass
class Session:
    """The options given before the command; commands get it with `@click.pass_obj`."""

    debug: bool = False

    def log_to_terminal(self, console: "Console | None" = None) -> "logging.Handler":
        """Log events to stderr from now on; returns the handler."""
        from ops.host.logs import log_to_terminal
        from ops.host.redact import Redactor

        return log_to_terminal(Redactor.from_environ(), debug=self.debug, console=console)


class LazyGroup(click.Group):
    """A group that imports a command's module only to run that command or to list the help of all."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


def _print_version(ctx: click.Context, _parameter: click.Parameter, is_requested: bool) -> None:
    if is_requested:
        from ops.host.version import code_version, distribution_version

        click.echo(f"materia {distribution_version()} ({code_version()})")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--debug", is_flag=True, help="Show tracebacks and the log lines of libraries.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and the commit.",
)
@click.pass_obj
def materia(session: Session, debug: bool) -> None:
    """Keep USDA's PSD data current, complete and queryable, with every revision."""
    session.debug = debug


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (`sys.argv` without `arguments`) and return its exit code."""
    with rare_garbage_collection():
        return _run(arguments)


def _run(arguments: Sequence[str] | None) -> int:
    session = Session()
    restrict_umask()
    try:
        code = materia.main(
            args=None if arguments is None else list(arguments),
            prog_name="materia",
            standalone_mode=False,
            obj=session,
        )
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) closed the pipe; without this the interpreter reports an error when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE
    except Exception as error:
        _print_error(error, session.debug)
        return error.exit_code if isinstance(error, MateriaError) else Exit.FAILED
    # Commands return None; only `ctx.exit(code)` gives a number here.
    return code if isinstance(code, int) else Exit.DONE


def extract_psd() -> int:
    """Run the command `extract_psd`, which equals `materia pipeline run extract`."""
    return main(["pipeline", "run", "extract", *sys.argv[1:]])


def _print_error(error: Exception, debug: bool) -> None:
    from ops.host.redact import Redactor

    redact = Redactor.from_environ()
    if debug:
        import traceback

        click.echo(redact("".join(traceback.format_exception(error))), err=True, nl=False)
    text = str(error)
    if not isinstance(error, MateriaError):
        text = f"unexpected {type(error).__name__}: {text}" + ("" if debug else "; `materia --debug` shows more")
    click.echo(f"{click.style('error:', fg='red')} {redact(text)}", err=True)
    for note in getattr(error, "__notes__", ()):
        click.echo(redact(note), err=True)
