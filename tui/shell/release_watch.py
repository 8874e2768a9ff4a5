"""Watches for a newly served release, and reads its headline in a process of its own."""

import threading
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Final

from tui.widgets.panel import Found, Part, attempt

if TYPE_CHECKING:
    from ops.config.settings import Settings

DELAY_S = 1.0
"""Delay before the headline is read: its process would delay the first frame."""
_TIMEOUT_S: Final = 120.0
_HEADLINE: Final = ("releases", "show", "--headline")


@dataclass(frozen=True)
class ReleaseNews:
    """The newest served release."""

    released_on: date
    headline: Part[str] | None = None
    """One line, as `materia releases show --headline` prints it; None until it is read."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The largest drivers, the world's stocks, the comparison with WASDE; empty until they are read."""
        text = self.headline.value if isinstance(self.headline, Found) else ""
        return tuple(text.partition(" is served: ")[2].split("; ")) if text else ()


class ReleaseWatch:
    """The newest served release and its headline, shared by all screens."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._served: tuple[int, ...] | None = None
        self._news: ReleaseNews | None = None

    def latest(self, settings: "Settings") -> ReleaseNews | None:
        """Return the newest served release without waiting for its headline; None if nothing is served."""
        from dataflows.serving.store import ServingStore

        with self._lock:
            try:
                status = settings.serving_path.lstat()
            except OSError:
                return None
            served = (status.st_ino, status.st_mtime_ns)
            if served != self._served:
                self._served = served
                found = attempt(ServingStore(settings.serving_path).served)
                generation = found.value if isinstance(found, Found) else None
                day = generation.newest_released_on if generation else None
                self._news = ReleaseNews(day) if day else None
                if day:
                    reading = threading.Timer(DELAY_S, self._read_headline, (settings, served))
                    # Daemon thread: quitting must not wait for it.
                    reading.daemon = True
                    reading.start()
            return self._news

    def _read_headline(self, settings: "Settings", served: tuple[int, ...]) -> None:
        from ops.host.launch import last_line_of

        headline = attempt(lambda: last_line_of(_HEADLINE, settings, _TIMEOUT_S))
        with self._lock:
            if self._news is not None and self._served == served:
                self._news = replace(self._news, headline=headline)
