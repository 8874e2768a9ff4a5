"""Formats statuses, times, sparklines and counts for display."""

from collections.abc import Sequence
from datetime import datetime

from ops.health.status import Severity
from ops.host.formatting import ago_text
from ops.journal.run import RunStatus

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


def sparkline(values: Sequence[float], width: int = 30) -> str:
    """Draw the last `width` values as bars, scaled from zero to the largest."""
    kept = values[-width:]
    highest = max(kept, default=0.0)
    if highest <= 0:
        return _BARS[0] * len(kept)
    return "".join(_BARS[round(value / highest * (len(_BARS) - 1))] for value in kept)


def plural(count: int, noun: str) -> str:
    """`1 run`, `2 runs`, `10,000 runs`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def shortened(text: str, length: int = 120) -> str:
    """Cut a text to `length` characters, with an ellipsis."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
