"""Reaping: ticks destroy the workers that a run or a machine left behind.

It runs in a process of its own, with a deadline and the secrets of a run: a provider that hangs does not block the
tick, and the memory of its client is freed. `materia status` reports failures.
"""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from ops.config.settings import Settings
from ops.config.table import complete_providers
from ops.health.memory import Reaping, read_memory, write_memory
from ops.host.redact import Redactor
from ops.supervisor.child import ChildResult
from ops.supervisor.command import reaping_command, run_logged

EVERY = timedelta(minutes=5)
DEADLINE_S = 120.0

log = logging.getLogger(__name__)


def reap(
    settings: Settings,
    now: datetime,
    on_alive: Callable[[], None],
    command: Callable[[Settings], Sequence[str]] = reaping_command,
    deadline_s: float = DEADLINE_S,
) -> None:
    """Reap if it is due and credentials of a provider are available; never raises an error of a provider."""
    memory = read_memory(settings.supervisor_dir)
    if not complete_providers(os.environ) and settings.supervision.esc_environment is None:
        if memory.reaping is not None:
            write_memory(settings.supervisor_dir, replace(memory, reaping=None))
        return
    waited = now - memory.reaping.at if memory.reaping else EVERY
    if timedelta(0) <= waited < EVERY:
        return
    result = run_logged(settings, "reap", command(settings), deadline_s, on_alive)
    write_memory(
        settings.supervisor_dir,
        replace(read_memory(settings.supervisor_dir), reaping=_outcome(result, now, memory.reaping)),
    )


def _outcome(result: ChildResult, now: datetime, before: Reaping | None) -> Reaping:
    last_line = Redactor.from_environ()(result.last_line)
    if result.exit_code == 0 and not result.timed_out:
        log.info("workers reaped", extra={"output": last_line})
        return Reaping(now)
    error = "it took too long" if result.timed_out else last_line or f"exit code {result.exit_code}"
    log.warning("workers could not be reaped; the supervisor retries", extra={"error": error})
    since = before.failing_since if before else None
    return Reaping(now, since or now, error)
