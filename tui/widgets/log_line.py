"""What may be shown of a line: no secret, nothing that a terminal would obey, never more than fits a page or two."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile

from ops.host.formatting import size_text
from tui.widgets.log_match import Term, level_of

MOST_CHARS = 16 << 10
"""How much of a line is shown; only a dump has longer ones."""
SECRET_BYTES = 4 << 10
"""How much more is read, so that a secret at either end is seen whole and hidden."""

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
"""The glyph and the tone of a level; INFO has none, it needs nobody."""


@dataclass(frozen=True)
class ShownLine:
    """A line as it is drawn: its text, what kind of line it is, and how long its time at the start is."""

    text: str
    level: str = ""
    is_notice: bool = False
    is_continued: bool = False
    stamp_chars: int = 0


def harmless(text: str) -> str:
    """The text without colours, its control and direction characters as pictures of them."""
    return _COLOUR.sub("", text).translate(_HARMLESS)


def notice_line(text: str) -> ShownLine:
    """What happened to the log, between two lines of it."""
    return ShownLine(f"── {harmless(text)} ──", is_notice=True)


def shown_line(
    data: bytes, size_bytes: int, before: bytes, redact: Callable[[str], str], *, compact: bool = False
) -> ShownLine:
    """A line of which `data` was read, `size_bytes` long in all; `before` is what stands before the rest of one.

    A compact one has the time of day in place of date, time and level.
    """
    text = _redacted(data, before, redact)
    if len(text) > MOST_CHARS or size_bytes > len(data):
        text = f"{text[:MOST_CHARS]} … {size_text(size_bytes)} in all"
    level = "" if before else level_of(data[:256])
    continued = bool(before) or data[:1] in (b" ", b"\t")
    if compact and not before and (event := _EVENT.match(text)):
        return ShownLine(f"{event[1]} {text[event.end() :]}", level, stamp_chars=len(event[1]))
    stamp = None if before else _STAMP.match(text)
    return ShownLine(text, level, is_continued=continued, stamp_chars=stamp.end() if stamp else 0)


def _redacted(data: bytes, before: bytes, redact: Callable[[str], str]) -> str:
    body = harmless(data.decode("utf-8", "replace"))
    if not before:
        return redact(body)
    head = harmless(before.decode("utf-8", "replace"))
    head, whole = redact(head), redact(head + body)
    # Where a secret begins in the head and ends in the body, the two differ: from there on it is the body.
    return whole[sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(head, whole, strict=False))) :]


def spans(text: str, terms: tuple[Term, ...]) -> list[tuple[int, int]]:
    """Where in a shown text the texts looked for are; expressions may take forever and are left to the scan."""
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
