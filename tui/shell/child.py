"""Starts `materia` commands as separate processes that survive the console."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from textual.message import Message
from textual.widget import Widget

from ops.config.settings import Settings
from ops.host.launch import LaunchedCommand, command_text, launch
from ops.host.redact import Redactor


@dataclass
class CommandEnded(Message):
    """A command that the console started has ended; `last_line` is the last line of its output."""

    command: str
    exit_code: int
    last_line: str


def start(widget: Widget, arguments: Sequence[str], settings: Settings) -> LaunchedCommand | None:
    """Start `materia ARGUMENTS`; posts CommandEnded to the widget when it ends.

    If the command cannot be started, notifies the user and returns None.
    """
    try:
        launched = launch(arguments, settings)
    except OSError as error:
        widget.notify(f"{error}; materia doctor", title=f"could not start {command_text(arguments)}", severity="error")
        return None
    # Daemon thread: quitting the console must not wait for the command.
    threading.Thread(target=_watch, args=(widget, launched), daemon=True, name=f"watch {launched.process.pid}").start()
    return launched


def _watch(widget: Widget, launched: LaunchedCommand) -> None:
    exit_code = launched.wait()
    last_line = Redactor.from_environ()(launched.last_line())
    widget.post_message(CommandEnded(command_text(launched.arguments), exit_code, last_line))
