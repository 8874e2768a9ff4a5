"""The worker's side of a run: `python -m ops.workers.remote` reads its order and writes events as JSON lines.

Secrets come with the order and stay in this process: neither its arguments nor its environment contain them. Every
line is redacted before it is written.
"""

import json
import logging
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dataflows.errors import MateriaError
from ops.host.exits import Exit
from ops.host.logs import current_step, extra_fields, is_logged
from ops.host.process import restrict_umask
from ops.host.redact import Redactor
from ops.journal.journal import Journal
from ops.journal.run import Run, RunStatus, Step

ALIVE_EVERY_S = 5.0


class Events:
    """Writes events, one line each; thread-safe."""

    def __init__(self, handle: int, redact: Redactor) -> None:
        self._handle = handle
        self._redact = redact
        self._lock = threading.Lock()

    def write(self, event: str, **fields: Any) -> None:
        line = json.dumps({"event": event, **self._clean(fields)}).encode() + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self._handle, line) :]

    def _clean(self, value: Any) -> Any:
        """Redact texts before JSON escapes could hide a secret."""
        match value:
            case dict():
                return {name: self._clean(each) for name, each in value.items()}
            case list() | tuple():
                return [self._clean(each) for each in value]
            case None | bool() | int() | float():
                return value
            case _:
                return self._redact(str(value))


class EventJournal(Journal):
    """A journal that also writes each record as an event."""

    def __init__(self, path: Path, events: Events) -> None:
        super().__init__(path)
        self._events = events

    def begin(self, pipeline: str, **given: Any) -> Run:
        run = super().begin(pipeline, **given)
        fields = {"parent": run.parent_id, "pipeline": pipeline, "arguments": run.arguments, "trigger": run.trigger}
        self._events.write("run_began", run=run.id, **fields)
        return run

    def finish(self, run_id: int, status: RunStatus, result: str | None = None, **given: Any) -> None:
        super().finish(run_id, status, result, **given)
        self._events.write("run_ended", run=run_id, status=status, result=result, **given)

    def begin_step(self, run_id: int, name: str, detail: str = "") -> Step:
        step = super().begin_step(run_id, name, detail)
        self._events.write("step_began", step=step.id, run=run_id, name=name, detail=detail)
        return step

    def finish_step(self, step_id: int, status: RunStatus, detail: str = "") -> None:
        super().finish_step(step_id, status, detail)
        self._events.write("step_ended", step=step_id, status=status, detail=detail)


class EventHandler(logging.Handler):
    """Writes every log record as an event."""

    def __init__(self, events: Events) -> None:
        super().__init__(logging.INFO)
        self._events = events
        self.addFilter(is_logged)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            trace = logging.Formatter().formatException(record.exc_info) if record.exc_info else None
            fields = {name: str(value) for name, value in extra_fields(record).items()}
            self._events.write(
                "log",
                level=record.levelno,
                logger=record.name,
                step=current_step(),
                message=record.getMessage(),
                fields=fields,
                trace=trace,
            )
        except OSError:
            self.handleError(record)


def main() -> int:
    """Read the order, run its pipeline, write events, and return the exit code."""
    restrict_umask()
    line = sys.stdin.readline()
    if not line.endswith("\n"):
        print("the order is incomplete", file=sys.stderr)
        return Exit.FAILED
    order = json.loads(line)
    # Not into this process's own environment, because child processes would inherit them.
    environ = {**os.environ, **order["environ"]}
    redact = Redactor.from_environ(environ)
    # Output of libraries goes to stderr; stdout is for events only.
    handle = os.dup(1)
    os.dup2(2, 1)
    events = Events(handle, redact)
    events.write("ready", pid=os.getpid())
    threading.Thread(target=_write_heartbeats, args=(events,), daemon=True).start()
    logging.getLogger().addHandler(EventHandler(events))
    logging.getLogger().setLevel(logging.INFO)
    return _run(order, environ, events, redact)


def _run(order: Mapping[str, Any], environ: Mapping[str, str], events: Events, redact: Redactor) -> int:
    try:
        from dataflows.source.release import Month
        from ops.config.settings import Settings
        from ops.pipelines.job import Request
        from ops.pipelines.run import run

        request = Request(
            trigger=order["trigger"],
            as_of=Month.parse(order["as_of"]) if order["as_of"] else None,
            forced_reason=order["forced_reason"],
            open_journal=lambda path: EventJournal(path, events),
            redact=redact,
        )
        run(order["pipeline"], Settings.from_environ(environ), request)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except MateriaError as error:
        events.write("failed", error=str(error))
        return error.exit_code
    except Exception as error:
        events.write("failed", error=f"{type(error).__name__}: {error}")
        return Exit.FAILED
    return Exit.DONE


def _write_heartbeats(events: Events) -> None:
    pause = threading.Event()
    while not pause.wait(ALIVE_EVERY_S):
        events.write("alive")


if __name__ == "__main__":
    sys.exit(main())
