"""Reaping: each tick destroys the workers that a run or a machine left behind.

In a process of its own, with a deadline, and with the secrets that a run has: a provider that hangs or is down holds
no tick, and its client's memory is not kept for weeks. What went wrong is a problem of `materia status`.
"""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from ops.config.settings import Settings
from ops.config.table import complete_providers
from ops.health.memory import Reaping, recall, remember
from ops.host.redact import Redactor
from ops.supervisor.child import Ended
from ops.supervisor.command import reaping_command, run_logged

EVERY = timedelta(minutes=5)
DEADLINE_S = 120.0

log = logging.getLogger(__name__)


def reap(
    settings: Settings,
    now: datetime,
    alive: Callable[[], None],
    command: Callable[[Settings], Sequence[str]] = reaping_command,
    deadline_s: float = DEADLINE_S,
) -> None:
    """Reap, if it is time to and any provider's credentials may be had; never raises for what a provider does."""
    memory = recall(settings.supervisor_dir)
    if not complete_providers(os.environ) and settings.supervision.esc_environment is None:
        if memory.reaping is not None:
            remember(settings.supervisor_dir, replace(memory, reaping=None))
        return
    waited = now - memory.reaping.at if memory.reaping else EVERY
    if timedelta(0) <= waited < EVERY:
        return
    ended = run_logged(settings, "reap", command(settings), deadline_s, alive)
    remember(
        settings.supervisor_dir, replace(recall(settings.supervisor_dir), reaping=_outcome(ended, now, memory.reaping))
    )


def _outcome(ended: Ended, now: datetime, before: Reaping | None) -> Reaping:
    said = Redactor.from_environ()(ended.last_line)
    if ended.exit_code == 0 and not ended.timed_out:
        log.info("workers reaped", extra={"said": said})
        return Reaping(now)
    said = "it took too long" if ended.timed_out else said or f"exit code {ended.exit_code}"
    log.warning("workers could not be reaped; it is tried again", extra={"said": said})
    since = before.failing_since if before else None
    return Reaping(now, since or now, said)
