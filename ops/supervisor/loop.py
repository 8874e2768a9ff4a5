"""`materia supervisor run`: tick, sleep, and again, in one process; a signal ends it at once.

`supervisor.sh` does the same with a process per tick, so that each tick runs the newest good commit.
"""

import logging
import signal
import time
from collections.abc import Callable
from datetime import datetime
from types import FrameType

from dataflows.errors import MateriaError
from ops.config.settings import Settings
from ops.journal.recorder import Terminated
from ops.journal.run import utc_now
from ops.supervisor.command import command_of
from ops.supervisor.notify import notify
from ops.supervisor.tick import Command, Ticked, tick

log = logging.getLogger(__name__)


def once(settings: Settings) -> Ticked:
    """Tick once; a signal ends a run that is under way first."""
    signal.signal(signal.SIGTERM, _terminate)
    return tick(settings)


def run(
    settings: Settings,
    told: Callable[[Ticked], None],
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
            told(tick(settings, clock, command))
        except (MateriaError, OSError) as error:
            log.error("the tick failed", extra={"error": str(error)})
        done += 1
        if done != ticks:
            sleep(settings.supervision.tick_s)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    # A second one must not cut short how the run under way is ended.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated("SIGTERM")
