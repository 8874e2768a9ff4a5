"""Commands that the console starts: processes of their own, which it watches but does not take with it."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from textual.message import Message
from textual.widget import Widget

from ops.config.settings import Settings
from ops.host.launch import Launched, command_text, launch
from ops.host.redact import Redactor


@dataclass
class CommandEnded(Message):
    """A command that the console started has ended; `said` is its last line."""

    command: str
    exit_code: int
    said: str


def start(widget: Widget, arguments: Sequence[str], settings: Settings) -> Launched | None:
    """Start `materia ARGUMENTS`; the widget gets a CommandEnded when it ends. What cannot be started is told: None."""
    try:
        launched = launch(arguments, settings)
    except OSError as error:
        widget.notify(f"{error}; materia doctor", title=f"{command_text(arguments)} was not started", severity="error")
        return None
    # A daemon, so that leaving the console does not wait for the command.
    threading.Thread(target=_watch, args=(widget, launched), daemon=True, name=f"watch {launched.process.pid}").start()
    return launched


def _watch(widget: Widget, launched: Launched) -> None:
    exit_code = launched.wait()
    said = Redactor.from_environ()(launched.last_line())
    widget.post_message(CommandEnded(command_text(launched.arguments), exit_code, said))
