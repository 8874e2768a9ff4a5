"""`materia supervisor run`: tick, sleep, and again, in one process; a signal ends it at once.

`supervisor.sh` does the same with a process per tick, so that each tick runs the newest good commit.
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
from ops.health.heartbeat import tick_failed, tick_stopped
from ops.health.memory import recall, remember
from ops.health.status import take_status
from ops.host.redact import Redactor
from ops.journal.recorder import Terminated
from ops.journal.run import utc_now
from ops.supervisor.command import command_of
from ops.supervisor.notify import notify
from ops.supervisor.tick import Command, Ticked, tick

log = logging.getLogger(__name__)


def once(
    settings: Settings,
    clock: Callable[[], datetime] = utc_now,
    command: Command = command_of,
    *,
    is_supervised: bool | None = None,
) -> Ticked:
    """Tick once; a signal ends a run that is under way first. Without `is_supervised` the parent process decides.

    Raises whatever the tick raises, after the heartbeat and the alerts have it.
    """
    signal.signal(signal.SIGTERM, _terminate)
    supervised = _is_child_of_loop() if is_supervised is None else is_supervised
    return _tick(settings, clock, command, is_supervised=supervised)


def run(
    settings: Settings,
    report: Callable[[Ticked], None],
    *,
    ticks: int | None = None,
    clock: Callable[[], datetime] = utc_now,
    command: Command = command_of,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Tick until a signal comes, or `ticks` times; a tick that fails is logged, and the next one comes.

    SIGTERM raises Terminated, a KeyboardInterrupt, once a run that is under way was ended.
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


def _tick(settings: Settings, clock: Callable[[], datetime], command: Command, *, is_supervised: bool = True) -> Ticked:
    try:
        return tick(settings, clock, command, is_supervised=is_supervised)
    except LockHeldError:
        raise  # another supervisor works here, and the heartbeat is its own
    except KeyboardInterrupt:
        if is_supervised:
            tick_stopped(settings.supervisor_dir, clock())
        raise
    except Exception as error:
        if is_supervised:
            _report_failure(settings, clock(), error)
        raise


def _report_failure(settings: Settings, now: datetime, error: Exception) -> None:
    """Record a failed tick and alert, as far as what failed allows it."""
    said = Redactor.from_environ()(" ".join(f"{type(error).__name__}: {error}".split()))
    try:
        settings.supervisor_dir.mkdir(parents=True, exist_ok=True)
        tick_failed(settings.supervisor_dir, now, said, settings.supervision.tick_s)
        status = take_status(settings, now)
        remember(settings.supervisor_dir, alerts.tell(settings, status, recall(settings.supervisor_dir)))
    except Exception as second:
        log.error("a failed tick could not be reported", extra={"failed": said, "error": str(second)})


def _is_child_of_loop() -> bool:
    """Whether `supervisor.sh` started this process. A tick by hand is not a running supervisor."""
    try:
        return b"supervisor.sh" in Path(f"/proc/{os.getppid()}/cmdline").read_bytes()
    except OSError:
        return False


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    # A second one must not interrupt how the run under way is ended.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated("SIGTERM")
