"""`materia supervisor run`: tick and sleep in one process until a signal arrives.

`supervisor.sh` does the same with one process per tick, so that each tick runs the newest good commit.
"""

import logging
import os
import signal
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import FrameType

from dataflows.errors import LockHeldError
from ops.config.settings import Settings
from ops.health import alerts
from ops.health.heartbeat import record_tick_failure, record_tick_stop
from ops.health.memory import read_memory, write_memory
from ops.health.status import take_status
from ops.host.redact import Redactor
from ops.journal.recorder import Terminated
from ops.journal.run import utc_now
from ops.supervisor.command import command_of
from ops.supervisor.hang import end_if_silent
from ops.supervisor.notify import notify
from ops.supervisor.tick import Command, TickResult, tick

log = logging.getLogger(__name__)


def once(
    settings: Settings,
    clock: Callable[[], datetime] = utc_now,
    command: Command = command_of,
    *,
    is_supervised: bool | None = None,
) -> TickResult:
    """Tick once; a signal stops a running pipeline first. Without `is_supervised` the parent process decides.

    Raises any exception of the tick, after recording it in the heartbeat and the alerts.
    """
    signal.signal(signal.SIGTERM, _terminate)
    supervised = _is_child_of_loop() if is_supervised is None else is_supervised
    return _tick(settings, clock, command, is_supervised=supervised)


def run(
    settings: Settings,
    report: Callable[[TickResult], None],
    *,
    ticks: int | None = None,
    clock: Callable[[], datetime] = utc_now,
    command: Command = command_of,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Tick until a signal arrives, or `ticks` times; a failed tick is logged and does not end the loop.

    SIGTERM raises Terminated, a KeyboardInterrupt, after a running pipeline was stopped.
    """
    signal.signal(signal.SIGTERM, _terminate)
    notify("READY=1")
    done = 0
    while ticks is None or done < ticks:
        try:
            report(_tick(settings, clock, command))
        except Exception as error:
            log.error("the tick failed", extra={"error": str(error)})
        done += 1
        if done != ticks:
            sleep(settings.supervision.tick_s)


def _tick(
    settings: Settings, clock: Callable[[], datetime], command: Command, *, is_supervised: bool = True
) -> TickResult:
    with end_if_silent(settings.supervision.tick_silent_s):
        try:
            return tick(settings, clock, command, is_supervised=is_supervised)
        except LockHeldError:
            raise  # another supervisor runs here and owns the heartbeat
        except KeyboardInterrupt:
            if is_supervised:
                record_tick_stop(settings.supervisor_dir, clock())
            raise
        except Exception as error:
            if is_supervised:
                _report_failure(settings, clock(), error)
            raise


def _report_failure(settings: Settings, now: datetime, error: Exception) -> None:
    """Record a failed tick and send alerts, as far as possible."""
    reason = Redactor.from_environ()(" ".join(f"{type(error).__name__}: {error}".split()))
    try:
        settings.supervisor_dir.mkdir(parents=True, exist_ok=True)
        record_tick_failure(settings.supervisor_dir, now, reason, settings.supervision.tick_s)
        status = take_status(settings, now)
        write_memory(
            settings.supervisor_dir, alerts.send_alerts(settings, status, read_memory(settings.supervisor_dir))
        )
    except Exception as second:
        log.error("a failed tick could not be reported", extra={"failed": reason, "error": str(second)})


def _is_child_of_loop() -> bool:
    """Whether `supervisor.sh` started this process. A tick by hand is not a running supervisor."""
    try:
        return b"supervisor.sh" in Path(f"/proc/{os.getppid()}/cmdline").read_bytes()
    except OSError:
        return False


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    # A second signal must not interrupt stopping the pipeline.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated("SIGTERM")
