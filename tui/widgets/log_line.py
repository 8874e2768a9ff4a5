"""Prepares a log line for display: secrets redacted, control characters replaced, length limited."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile

from ops.host.formatting import size_text
from tui.widgets.log_match import Term, level_of

MAX_CHARS = 16 << 10
"""Maximum number of characters shown of a line."""
SECRET_BYTES = 4 << 10
"""Extra bytes read at either end, so that a secret cut by the limit is still redacted."""

_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
_DIRECTIONS = (*range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x2060, 0x2070), 0x061C, 0xFEFF)
_HARMLESS = (
    {code: chr(0x2400 + code) for code in range(0x20)}
    | {0x09: "    ", 0x7F: "␡"}
    | dict.fromkeys(range(0x80, 0xA0), "�")
    | dict.fromkeys(_DIRECTIONS, "·")
)
_EVENT = re.compile(r"\d{4}-\d\d-\d\d[T ](\d\d:\d\d:\d\d)\S* +(?:DEBUG|INFO|WARN(?:ING)?|ERROR|CRITICAL|FATAL) ")
_STAMP = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S*")

GLYPHS = {"ERROR": ("✗", "bad"), "CRITICAL": ("✗", "bad"), "WARNING": ("▲", "warn"), "DEBUG": ("·", "quiet")}
"""The glyph and the tone of each level; INFO has none."""


@dataclass(frozen=True)
class ShownLine:
    """A line as drawn: its text, its kind, and the length of the timestamp at its start."""

    text: str
    level: str = ""
    is_notice: bool = False
    is_continued: bool = False
    stamp_chars: int = 0


def harmless(text: str) -> str:
    """Remove colour codes and replace control and direction characters with visible symbols."""
    return _COLOUR.sub("", text).translate(_HARMLESS)


def notice_line(text: str) -> ShownLine:
    """Return a notice, such as a rotation, as a line between two log lines."""
    return ShownLine(f"── {harmless(text)} ──", is_notice=True)


def shown_line(
    data: bytes, size_bytes: int, before: bytes, redact: Callable[[str], str], *, compact: bool = False
) -> ShownLine:
    """Prepare a line for display.

    `data` is what was read of its `size_bytes`; `before` are the bytes before it when it is the rest of a longer line.
    A compact line shows the time of day instead of date, time and level.
    """
    text = _redact_line(data, before, redact)
    if len(text) > MAX_CHARS or size_bytes > len(data):
        text = f"{text[:MAX_CHARS]} … {size_text(size_bytes)} in total"
    level = "" if before else level_of(data[:256])
    continued = bool(before) or data[:1] in (b" ", b"\t")
    if compact and not before and (event := _EVENT.match(text)):
        return ShownLine(f"{event[1]} {text[event.end() :]}", level, stamp_chars=len(event[1]))
    stamp = None if before else _STAMP.match(text)
    return ShownLine(text, level, is_continued=continued, stamp_chars=stamp.end() if stamp else 0)


def _redact_line(data: bytes, before: bytes, redact: Callable[[str], str]) -> str:
    body = harmless(data.decode("utf-8", "replace"))
    if not before:
        return redact(body)
    head = harmless(before.decode("utf-8", "replace"))
    head, whole = redact(head), redact(head + body)
    # A secret that spans head and body makes the two differ; the body starts at the first difference.
    return whole[sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(head, whole, strict=False))) :]


def spans(text: str, terms: tuple[Term, ...]) -> list[tuple[int, int]]:
    """Return the spans of the search texts in a shown text. Regular expressions are not marked: they may be slow."""
    found = []
    for term in terms:
        if term.is_regex or not term.text:
            continue
        haystack, needle = (text.lower(), term.text.lower()) if term.any_case else (text, term.text)
        at = haystack.find(needle) if len(haystack) == len(text) else -1
        while at >= 0:
            found.append((at, at + len(needle)))
            at = haystack.find(needle, at + len(needle))
    return found
