"""Errors that screens met when they read: alerts on Overview until the screen reads again, or other data is served."""

import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from ops.health.problem import Problem, Severity
from tui.widgets.panel import Failure

_CHECK = "materia scrub, which reads every stored file and finds the damaged ones"


@dataclass
class Sightings:
    """The last error of each screen, shared by all of them."""

    _problems: dict[str, Problem] = field(default_factory=dict)
    _seen_at_s: dict[str, float] = field(default_factory=dict)

    def note(self, screen: str, failure: Failure | None, now: datetime) -> None:
        """Remember why a screen could not read, or with None that it could."""
        if failure is None:
            self._problems.pop(screen, None)
            return
        known = self._problems.get(screen)
        what = f"{screen.title()} cannot read: {failure.what}"
        self._problems[screen] = Problem(
            Severity.FAILED, what, known.since if known else now, _CHECK, key=f"seen-{screen}"
        )
        self._seen_at_s[screen] = time.time()

    def problems(self, serving_path: Path) -> tuple[Problem, ...]:
        """Return the errors that were met after the last publish, which may have repaired the earlier ones."""
        try:
            published_s = serving_path.lstat().st_mtime
        except OSError:
            published_s = 0.0
        return tuple(each for screen, each in self._problems.items() if self._seen_at_s[screen] >= published_s)
