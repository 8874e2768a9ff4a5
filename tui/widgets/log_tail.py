"""The end of a log as text for a panel."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from ops.host.redact import Redactor
from tui.widgets.log_line import GLYPHS, shown_line
from tui.widgets.tones import toned

TAIL_BYTES = 16_384
TAIL_LINES = 100
_RUN = re.compile(r"(?<= )run=\d+ (?:step=\S+ )?")
_PADDING = re.compile(r"(?<=\S) {2,}")
"""SQLMesh pads its lines to the width of a terminal."""


def read_tail(path: Path) -> tuple[str, ...]:
    """Return the last lines of a log, redacted. Raises OSError."""
    with path.open("rb") as log:
        end = log.seek(0, os.SEEK_END)
        log.seek(max(end - TAIL_BYTES, 0))
        text = log.read().decode(errors="replace")
    redact = Redactor.from_environ()
    lines = text.splitlines()[1 if end > TAIL_BYTES else 0 :]
    return tuple(redact(line) for line in lines[-TAIL_LINES:])


def tail_text(lines: Sequence[str], count: int, *, names_run: bool = False) -> str:
    """Format the last lines as markup, with the time of day instead of date, time and level."""
    return "\n".join(_line(line if names_run else _RUN.sub("", line, count=1)) for line in lines[-count:])


def _line(line: str) -> str:
    data = _PADDING.sub("  ", line).rstrip().encode()
    shown = shown_line(data, len(data), b"", lambda text: text, compact=True)
    glyph, tone = GLYPHS.get(shown.level, (" ", "quiet"))
    return toned(f"{glyph} {shown.text}", tone)
