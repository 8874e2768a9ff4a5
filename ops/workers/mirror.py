"""Mirrors a run on a worker: writes its runs, steps and log lines into the local journal as they arrive."""

import json
import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ops.host.logs import run_log, step_log
from ops.host.redact import Redactor
from ops.journal.recorder import Recorder
from ops.journal.run import Run, RunStatus, Step
from ops.workers.errors import WorkerError

log = logging.getLogger(__name__)

EXIT_MARK = b"exit "
_TEXT_CHARS = 20_000


class Mirror:
    """Processes each line of a worker exactly once, and counts the bytes so that following can resume."""

    def __init__(self, recorder: Recorder, redact: Redactor) -> None:
        self.offset_bytes = 0
        """How many bytes of the worker's file have been processed."""
        self.exit_code: int | None = None
        self.is_lost = False
        """Whether the worker's process ended without an exit code."""
        self.error: str | None = None
        self._recorder = recorder
        self._redact = redact
        self._runs: dict[int, Run] = {}
        self._steps: dict[int, Step] = {}
        self._logs: dict[int, ExitStack] = {}

    def take(self, line: bytes) -> None:
        """Process one line; raises WorkerError if it is not an event."""
        if line.startswith(EXIT_MARK):
            code = line.removeprefix(EXIT_MARK).strip()
            self.exit_code, self.is_lost = (int(code), False) if code.isdigit() else (None, True)
            return
        self.offset_bytes += len(line) + 1
        try:
            event = json.loads(line)
            match event["event"]:
                case "run_began":
                    self._run_began(event)
                case "run_ended":
                    self._run_ended(event)
                case "step_began":
                    run = self._runs[event["run"]]
                    step = self._recorder.journal.begin_step(
                        run.id, self._text(event["name"]), self._text(event["detail"])
                    )
                    self._steps[event["step"]] = step
                case "step_ended":
                    step = self._steps.pop(event["step"])
                    self._recorder.journal.finish_step(step.id, RunStatus(event["status"]), self._text(event["detail"]))
                case "log":
                    self._log(event)
                case "failed":
                    self.error = self._text(event["error"])
        except (ValueError, KeyError, TypeError) as error:
            raise WorkerError(f"the worker sent something that is not an event: {line[:200]!r}") from error

    def close(self, why: str) -> None:
        """Mark the runs that the worker did not end as failed, because of `why`."""
        for number in reversed([number for number, run in self._runs.items() if run.id != self._recorder.run.id]):
            if number in self._logs:
                self._recorder.journal.finish(self._runs[number].id, RunStatus.FAILED, error=self._text(why))
                self._logs.pop(number).close()

    def _run_began(self, event: dict[str, Any]) -> None:
        if event["parent"] is None:
            self._runs[event["run"]] = self._recorder.run
            return
        local = self._recorder.run
        log_dir = Path(local.log_path).parent if local.log_path else None
        run = self._recorder.journal.begin(
            self._text(event["pipeline"]),
            trigger=self._text(event["trigger"]),
            arguments=[self._text(each) for each in event["arguments"]],
            parent_id=self._runs[event["parent"]].id,
            worker=local.worker,
            code_version=local.code_version,
            log_dir=log_dir,
        )
        self._runs[event["run"]] = run
        self._logs[event["run"]] = ExitStack()
        path = Path(run.log_path) if run.log_path else None
        self._logs[event["run"]].enter_context(run_log(run.id, path, self._redact))

    def _run_ended(self, event: dict[str, Any]) -> None:
        run = self._runs[event["run"]]
        result, error, detail = (self._text(event.get(name)) or None for name in ("result", "error", "error_detail"))
        snapshots = tuple(self._text(each) for each in event["snapshots"])
        if run.id == self._recorder.run.id:
            self._recorder.result, self._recorder.snapshots = result, snapshots
            self.error = error or self.error
            return
        self._recorder.journal.finish(
            run.id, RunStatus(event["status"]), result, error=error, error_detail=detail, snapshots=snapshots
        )
        self._logs.pop(event["run"]).close()

    def _log(self, event: dict[str, Any]) -> None:
        text = self._text(event["message"])
        if event["trace"]:
            text = f"{text}\n{self._text(event['trace'])}"
        fields = {str(name): self._text(value) for name, value in event["fields"].items()}
        with ExitStack() as stack:
            if event["step"]:
                stack.enter_context(step_log(self._text(event["step"])))
            logging.getLogger(str(event["logger"])).log(int(event["level"]), "%s", text, extra=fields)

    def _text(self, text: object) -> str:
        """A worker's text, bounded, redacted and without control characters."""
        kept = self._redact(str(text or ""))[:_TEXT_CHARS]
        return "".join(char if char.isprintable() or char == "\n" else "?" for char in kept)
