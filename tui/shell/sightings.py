"""Errors that screens met when they read: alerts on Overview until the same screen reads without an error."""

from dataclasses import dataclass, field
from datetime import datetime

from ops.health.problem import Problem, Severity
from tui.widgets.panel import Failure

_CHECK = "materia scrub, which reads every stored file and finds the damaged ones"


@dataclass
class Sightings:
    """The last error of each screen, shared by all of them."""

    _problems: dict[str, Problem] = field(default_factory=dict)

    def note(self, screen: str, failure: Failure | None, now: datetime) -> None:
        """Remember why a screen could not read, or with None that it could."""
        if failure is None:
            self._problems.pop(screen, None)
        else:
            known = self._problems.get(screen)
            since = known.since if known else now
            what = f"{screen.title()} cannot read: {failure.what}"
            self._problems[screen] = Problem(Severity.FAILED, what, since, _CHECK, key=f"seen-{screen}")

    @property
    def problems(self) -> tuple[Problem, ...]:
        return tuple(self._problems.values())
