"""Starts `materia` commands, after confirmation, as separate processes that survive the console, and follows them."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.message import Message

from dataflows.errors import JournalError
from ops.config.settings import Settings
from tui.shell.messages import FollowRun, OpenLog
from tui.shell.pane import Pane

if TYPE_CHECKING:
    from ops.host.launch import LaunchedCommand
    from tui.shell.choice import Choice

_RECORDED = (("run-all",), ("backfill",), ("pipeline", "run"), ("serving", "rollback"), ("landing", "repair"))
"""Commands whose runs are in the journal; the output of others is in a log."""
READ_ONLY = "read-only mode: nothing was started"


@dataclass
class CommandEnded(Message):
    """A command that the console started has ended; `last_line` is the last line of its output."""

    command: str
    exit_code: int
    last_line: str


def offer(pane: Pane, title: str, choices: "Sequence[Choice]", note: str, first: int = 0) -> None:
    """Show commands; after confirmation, start the chosen one and show its run or its output. Not in read-only mode."""

    def on_answer(arguments: tuple[str, ...] | None) -> None:
        if arguments is not None and not is_refused(pane):
            _start(pane, arguments)

    if not is_refused(pane):
        from tui.shell.command import CommandScreen

        pane.app.push_screen(CommandScreen(title, choices, note=note, first=first), on_answer)


def is_refused(pane: Pane) -> bool:
    """Whether read-only mode refuses to change anything; if so, the user is notified."""
    if pane.context.read_only:
        pane.notify(READ_ONLY, severity="warning")
    return pane.context.read_only


def _start(pane: Pane, arguments: tuple[str, ...]) -> None:
    """Start `materia ARGUMENTS` and follow it; posts CommandEnded to the pane when it ends."""
    from ops.host.launch import command_text, launch

    settings = pane.context.settings
    newest_id = _newest_run_id(settings)
    try:
        launched = launch(arguments, settings)
    except OSError as error:
        pane.notify(f"{error}; materia doctor", title=f"could not start {command_text(arguments)}", severity="error")
        return
    # Daemon thread: quitting the console must not wait for the command.
    threading.Thread(target=_watch, args=(pane, launched), daemon=True, name=f"watch {launched.process.pid}").start()
    if any(arguments[: len(command)] == command for command in _RECORDED):
        pane.post_message(FollowRun(launched.process.pid, newest_id))
    else:
        pane.post_message(OpenLog(launched.output_path))


def _newest_run_id(settings: Settings) -> int:
    """Return the id of the newest run: that of a run that starts now is larger, while its process id may be old."""
    from ops.journal.journal import Journal

    try:
        return max((run.id for run in Journal(settings.journal_path).runs(1)), default=0)
    except JournalError:
        return 0


def _watch(pane: Pane, launched: "LaunchedCommand") -> None:
    from ops.host.launch import command_text
    from ops.host.redact import Redactor

    exit_code = launched.wait()
    last_line = Redactor.from_environ()(launched.last_line())
    pane.post_message(CommandEnded(command_text(launched.arguments), exit_code, last_line))
