"""Output of the commands: aligned text for people, JSON for programs."""

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
from ops.host.formatting import ago_text, duration_text, size_text

__all__ = ["ago_text", "duration_text", "generation_text", "print_json", "size_text", "status_text", "table"]

_MIN_LAST_COLUMN = 20
_COLOURS = {"done": "green", "running": "cyan", "interrupted": "yellow", "failed": "red", "died": "red"}


def print_json(value: Any) -> None:
    """Print dataclasses, times and paths as JSON; times as ISO 8601."""
    click.echo(record_text(value, indent=2))


def record_text(value: Any, indent: int | None = None) -> str:
    """Return dataclasses, times and paths as JSON."""
    return json.dumps(value, default=_plain, indent=indent)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return value.isoformat() if isinstance(value, date | datetime) else str(value)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> str:
    """Format rows as aligned columns; the columns named in `right` are right-aligned. Without rows: an empty string.

    On a terminal the last column is truncated so that lines do not wrap.
    """
    if not rows:
        return ""
    lines = [[*head], *([*row] for row in rows)]
    widths = [max(_width(line[column]) for line in lines) for column in range(len(head))]
    if sys.stdout.isatty():
        room = max(shutil.get_terminal_size().columns - sum(widths[:-1]) - 2 * (len(head) - 1), _MIN_LAST_COLUMN)
        for line in lines:
            line[-1] = line[-1] if len(line[-1]) <= room else line[-1][: room - 1] + "…"
        widths[-1] = min(widths[-1], room)
    return "\n".join(
        "  ".join(
            _pad(cell, width, name in right) for name, cell, width in zip(head, line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def generation_text(generation: Generation, now: datetime) -> str:
    """Describe a generation: number, age and newest release."""
    return (
        f"generation {generation.number}, built {ago_text(generation.created_at, now)}, "
        f"newest release {generation.newest_released_on or 'unknown'}"
    )


def generation_record(generation: Generation, now: datetime) -> dict[str, Any]:
    """Describe a generation for programs."""
    return {
        "number": generation.number,
        "created_at": generation.created_at,
        "age_s": round((now - generation.created_at).total_seconds(), 1),
        "newest_released_on": generation.newest_released_on,
    }


def status_text(status: str) -> str:
    """Colour a status; `click.echo` strips the colour if the output is no terminal."""
    return click.style(status, fg=_COLOURS.get(status))


def _pad(cell: str, width: int, right: bool) -> str:
    padding = " " * (width - _width(cell))
    return padding + cell if right else cell + padding


def _width(text: str) -> int:
    """The width of a text in terminal columns: colour codes count 0, wide characters 2."""
    return sum(1 + (unicodedata.east_asian_width(char) in "WF") for char in click.unstyle(text))
