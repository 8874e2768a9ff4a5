"""The context that every pane receives: settings, the shared reader, read-only mode, clock, releases, workers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING

from ops.config.settings import Settings
from ops.journal.run import utc_now
from tui.shell.release_watch import ReleaseWatch
from tui.shell.sightings import Sightings
from tui.shell.workers_watch import WorkersWatch

if TYPE_CHECKING:
    from dataflows.serving import ServingReader


@dataclass(frozen=True)
class ConsoleContext:
    """Dependencies shared by all panes."""

    settings: Settings
    read_only: bool
    reader: "Callable[[], ServingReader]"
    """Returns the shared reader. The first call imports DuckDB, so do not call it before the first paint."""
    clock: Callable[[], datetime] = utc_now
    """Returns the current time (UTC); tests freeze it."""
    sightings: Sightings = field(default_factory=Sightings)
    """The errors that the screens met; shared, so that Overview shows them as alerts."""
    releases: ReleaseWatch = field(default_factory=ReleaseWatch)
    """Reads the headline of the newest release once for all screens."""
    workers: WorkersWatch = field(default_factory=WorkersWatch)
    """Polls the providers; shared, so that each provider is polled once for all panes."""


def create_context(settings: Settings, *, read_only: bool) -> ConsoleContext:
    """Create a context whose reader is opened on first use."""

    @cache
    def reader() -> "ServingReader":
        from dataflows.serving import ServingReader

        return ServingReader(settings.serving_path)

    return ConsoleContext(settings, read_only, reader)
