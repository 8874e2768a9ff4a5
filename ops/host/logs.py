"""Structured logs, one line per event: `2026-11-21T20:42:10.123Z INFO run=12 step=land landed size_bytes=512`

Code logs with the standard library, `log.info("landed", extra={"size_bytes": n})`; the items of `extra` become
`key=value`. Further lines of a text, such as a traceback, are indented, so that a line without indent is always an
event. Secrets of the environment are redacted.
"""

import json
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ops.host.redact import Redactor

if TYPE_CHECKING:
    from rich.console import Console

OURS = ("dataflows", "ops", "tui")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_PLAIN = re.compile(r"[^\s\"'=\\]+")

# The run belongs to the process, not to the context, so that threads of a download belong to it, too.
_runs: list[int] = []
_step: ContextVar[str | None] = ContextVar("step", default=None)


class LineFormatter(logging.Formatter):
    """Formats an event as one redacted line; `bare` omits its time and level, `traces` adds its traceback."""

    def __init__(self, redact: Redactor, *, bare: bool = False, traces: bool = True) -> None:
        super().__init__()
        self._redact = redact
        self._bare = bare
        self._traces = traces

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        head = [] if self._bare else [moment.replace("+00:00", "Z"), record.levelname]
        context = {"run": _runs[-1] if _runs else None, "step": _step.get()}
        text = [
            *head,
            *(f"{name}={self._value(value)}" for name, value in context.items() if value is not None),
            self._redact(record.getMessage()),
            *(f"{name}={self._value(value)}" for name, value in extra_fields(record).items()),
        ]
        return "\n    ".join([*" ".join(text).splitlines(), *self._trace(record)])

    def _value(self, value: Any) -> str:
        text = self._redact(str(value))
        return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)

    def _trace(self, record: logging.LogRecord) -> list[str]:
        if not self._traces:
            return []
        traces = [self.formatException(record.exc_info)] if record.exc_info else []
        if record.stack_info:
            traces.append(self.formatStack(record.stack_info))
        return self._redact("\n".join(traces)).splitlines()


def log_to_terminal(
    redact: Redactor,
    *,
    debug: bool = False,
    stream: TextIO | None = None,
    console: "Console | None" = None,
) -> logging.Handler:
    """Start logging to stderr, through rich on a terminal and as plain lines otherwise; returns the handler.

    Without `debug` only our own events and no tracebacks are shown; the run's log has the rest. A caller with a
    progress bar passes its `console`, so that the two do not overwrite each other.
    """
    stream = stream or sys.stderr
    if is_rich := console is not None or stream.isatty():
        from rich.console import Console
        from rich.logging import RichHandler

        handler: logging.Handler = RichHandler(console=console or Console(file=stream), show_path=False)
    else:
        handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter(redact, bare=is_rich, traces=debug))
    if not debug:
        handler.addFilter(_is_ours)
    _attach(handler)
    return handler


def log_to_file(path: Path, redact: Redactor) -> None:
    """Start logging to a file, too; if the file is rotated, a new one is created."""
    from logging.handlers import WatchedFileHandler

    path.parent.mkdir(parents=True, exist_ok=True)
    handler = WatchedFileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(LineFormatter(redact))
    _attach(handler)


@contextmanager
def run_log(run_id: int, path: Path | None, redact: Redactor) -> Iterator[None]:
    """Add the run's id to every event of this process, and write the events to the file `path`, if given."""
    handler = _file_handler(path, redact) if path else None
    if handler:
        _attach(handler)
    _runs.append(run_id)
    try:
        yield
    finally:
        _runs.remove(run_id)
        if handler:
            logging.getLogger().removeHandler(handler)
            handler.close()


@contextmanager
def step_log(name: str) -> Iterator[None]:
    """Add the step's name to every event of this context."""
    token = _step.set(name)
    try:
        yield
    finally:
        _step.reset(token)


def current_step() -> str | None:
    """The step of this context."""
    return _step.get()


def is_logged(record: logging.LogRecord) -> bool:
    """Whether an event is logged: all of our own, and warnings and errors of libraries."""
    return record.levelno >= logging.WARNING or _is_ours(record)


def extra_fields(record: logging.LogRecord) -> dict[str, Any]:
    """The items of an event's `extra`."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


class _RunLogHandler(logging.FileHandler):
    """Writes a run's log; a full disk is reported once and does not fail the run."""

    _is_reported = False

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exception()
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._is_reported:
            self._is_reported = True
            print(f"warning: {error.strerror}: cannot write {self.baseFilename}", file=sys.stderr)

    def close(self) -> None:
        with suppress(OSError):  # reported when it was written
            super().close()


def _file_handler(path: Path, redact: Redactor) -> logging.Handler:
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _RunLogHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(LineFormatter(redact))
    return handler


def _attach(handler: logging.Handler) -> None:
    handler.addFilter(is_logged)
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(min(root.level, logging.INFO))


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] in OURS
