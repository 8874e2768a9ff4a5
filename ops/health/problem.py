"""A problem: what is wrong, since when, and what to do next. One model for status, console and alerts."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Severity(StrEnum):
    """What kind of problem it is."""

    MISSING = "missing"
    FAILED = "failed"
    STALE = "stale"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class Problem:
    """Something an operator must look at, since when (UTC, where known), and what to do next.

    The next step begins with a command that solves the problem, wherever a command can.
    """

    severity: Severity
    what: str
    since: datetime | None
    next_step: str
    run_id: int | None = None
    """The run that tells more, where there is one."""
    key: str = ""
    """Which problem it is, whatever its details: the same for as long as it lasts."""
