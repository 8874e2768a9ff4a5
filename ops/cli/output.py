"""How commands speak: aligned text for people, JSON for programs."""

import json
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from datetime import date, datetime
from typing import Any

import click

from dataflows.serving.generation import Generation

_LEAST_CUT = 20
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60))
_COLOURS = {"done": "green", "running": "cyan", "interrupted": "yellow", "failed": "red", "died": "red"}


def print_json(value: Any) -> None:
    """Print dataclasses, times and paths as JSON; times as ISO 8601."""
    click.echo(record_text(value, indent=2))


def record_text(value: Any, indent: int | None = None) -> str:
    """Dataclasses, times and paths as JSON."""
    return json.dumps(value, default=_plain, indent=indent)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return value.isoformat() if isinstance(value, date | datetime) else str(value)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> str:
    """Columns under their heads, those named in `right` aligned to the right; empty without rows.

    On a terminal the last column is cut where the line would wrap.
    """
    if not rows:
        return ""
    lines = [[*head], *([*row] for row in rows)]
    widths = [max(_width(line[column]) for line in lines) for column in range(len(head))]
    if sys.stdout.isatty():
        room = max(shutil.get_terminal_size().columns - sum(widths[:-1]) - 2 * (len(head) - 1), _LEAST_CUT)
        for line in lines:
            line[-1] = line[-1] if len(line[-1]) <= room else line[-1][: room - 1] + "…"
        widths[-1] = min(widths[-1], room)
    return "\n".join(
        "  ".join(
            _padded(cell, width, name in right) for name, cell, width in zip(head, line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def generation_text(generation: Generation, now: datetime) -> str:
    """Which generation, how old it is and how new what it holds; every answer names it."""
    return (
        f"generation {generation.number}, made {ago_text(generation.created_at, now)}, "
        f"newest release {generation.newest_released_on or 'unknown'}"
    )


def status_text(status: str) -> str:
    """A status in its colour, which `click.echo` leaves out where there is no terminal."""
    return click.style(status, fg=_COLOURS.get(status))


def duration_text(seconds: float | None) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`; `-` for None."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3_600} h {whole % 3_600 // 60} min"


def ago_text(moment: datetime | None, now: datetime) -> str:
    """`just now`, `5 min ago`, `3 h ago`, `12 d ago`; `-` for None."""
    if moment is None:
        return "-"
    seconds = (now - moment).total_seconds()
    unit = next(((name, size) for name, size in _UNITS if seconds >= size), None)
    return f"{int(seconds // unit[1])} {unit[0]} ago" if unit else "just now"


def size_text(size_bytes: int) -> str:
    """`512 B`, `5.1 MB`; decimal units."""
    if size_bytes < 1_000:
        return f"{size_bytes} B"
    size = float(size_bytes)
    for unit in ("kB", "MB", "GB"):
        size /= 1_000
        if size < 1_000:
            return f"{size:.1f} {unit}"
    return f"{size / 1_000:.1f} TB"


def _padded(cell: str, width: int, right: bool) -> str:
    padding = " " * (width - _width(cell))
    return padding + cell if right else cell + padding


def _width(text: str) -> int:
    """Columns that a text takes on a terminal: colours none, wide characters two."""
    return sum(1 + (unicodedata.east_asian_width(char) in "WF") for char in click.unstyle(text))
