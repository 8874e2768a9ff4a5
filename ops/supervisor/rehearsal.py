"""`materia supervisor tick --dry-run`: a tick that changes nothing on this host, for a commit that is not yet in use.

Due slots and problems are read from the real data directory. The tick itself, with housekeeping, a child process,
heartbeat, memory and alerts, runs in a scratch directory with a command that does nothing.
"""

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from dataflows.errors import JournalError
from ops.config.schedule import Slot
from ops.config.settings import Settings
from ops.health.status import take_status
from ops.journal.journal import Journal
from ops.journal.run import utc_now
from ops.supervisor.command import command_of
from ops.supervisor.tick import Command, ready_slots, tick


@dataclass(frozen=True)
class DryRun:
    """The slots that a tick would run now, with their commands, and the number of problems that `status` finds."""

    due: tuple[tuple[Slot, Sequence[str]], ...]
    problems: int

    def __str__(self) -> str:
        due = "; ".join(f"{slot.pipeline} for {slot.trigger}" for slot, _ in self.due)
        return f"dry run: {f'would run {due}' if due else 'nothing is due'}; {self.problems} problems"


def rehearse(settings: Settings, clock: Callable[[], datetime] = utc_now, command: Command = command_of) -> DryRun:
    """Tick in a scratch directory and return what a real tick would do. Raises any exception of the tick."""
    with tempfile.TemporaryDirectory(prefix="materia-tick-") as scratch, _disable_logging():
        environ = {"MATERIA_DATA_DIR": scratch, "MATERIA_MIN_FREE_MB": "0"}
        tick(Settings.from_environ(environ), clock, lambda slot, settings: ["true"], is_rehearsal=True)
    try:
        due = ready_slots(settings, clock(), Journal(settings.journal_path))
    except JournalError:
        due = ()  # the host's problem, not the commit's; `take_status` counts it
    return DryRun(tuple((slot, command(slot, settings)) for slot in due), len(take_status(settings, clock()).problems))


@contextmanager
def _disable_logging() -> Iterator[None]:
    """Log nothing: problems of the scratch directory are not problems of this host."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
