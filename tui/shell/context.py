"""What every pane is given: settings, the shared reader, and whether anything may be changed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING

from ops.config.settings import Settings
from ops.journal.run import utc_now
from tui.shell.workers_watch import WorkersWatch

if TYPE_CHECKING:
    from dataflows.serving import ServingReader


@dataclass(frozen=True)
class ConsoleContext:
    """The console's surroundings, the same for every pane."""

    settings: Settings
    read_only: bool
    reader: "Callable[[], ServingReader]"
    """One reader for the console's life; the first call imports DuckDB, so never before the first paint."""
    clock: Callable[[], datetime] = utc_now
    """What time it is (UTC); tests stop it."""
    workers: WorkersWatch = field(default_factory=WorkersWatch)
    """What the providers say: one for the console's life, so that nobody is asked twice."""


def context_of(settings: Settings, *, read_only: bool) -> ConsoleContext:
    """A context whose reader is made when it is first asked for."""

    @cache
    def reader() -> "ServingReader":
        from dataflows.serving import ServingReader

        return ServingReader(settings.serving_path)

    return ConsoleContext(settings, read_only, reader)
