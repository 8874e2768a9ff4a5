"""Formats statuses, times, sparklines and counts for display."""

from collections.abc import Sequence
from datetime import datetime

from ops.health.problem import Severity
from ops.host.formatting import ago_text
from ops.journal.run import Run, RunStatus

TONES = {
    RunStatus.DONE: ("●", "ok"),
    RunStatus.RUNNING: ("◌", "busy"),
    RunStatus.FAILED: ("✗", "bad"),
    RunStatus.DIED: ("✗", "bad"),
    RunStatus.INTERRUPTED: ("■", "warn"),
    Severity.FAILED: ("✗", "bad"),
    Severity.MISSING: ("✗", "bad"),
    Severity.STALE: ("▲", "warn"),
    Severity.DAMAGED: ("✗", "bad"),
}
"""The glyph and the tone of each status; the glyph alone is unambiguous without colour."""

UNKNOWN = ("?", "quiet")

_BARS = "▁▂▃▄▅▆▇"


def exact(moment: datetime | None) -> str:
    """Format a time to the second in UTC; empty for None."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else ""


def due_text(moment: datetime | None, now: datetime) -> str:
    """`in 5 min`, `in 3 h`, `due now`; `-` for None."""
    if moment is None:
        return "-"
    ahead = ago_text(now, moment)
    return "due now" if ahead == "just now" else f"in {ahead.removesuffix(' ago')}"


def sparkline(runs: Sequence[Run], now: datetime) -> str:
    """Draw a character per run: the duration of a successful run as a bar from zero to the longest, else its glyph."""
    longest = max((run.duration_s(now) or 0.0 for run in runs if run.status is RunStatus.DONE), default=0.0) or 1.0
    return "".join(
        _BARS[round((run.duration_s(now) or 0.0) / longest * (len(_BARS) - 1))]
        if run.status is RunStatus.DONE
        else TONES[run.status][0]
        for run in runs
    )


def plural(count: int, noun: str) -> str:
    """`1 run`, `2 runs`, `10,000 runs`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def shortened(text: str, length: int = 120) -> str:
    """Cut a text to `length` characters, with an ellipsis."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
