"""Log filters, and the matcher that finds the lines of a filter.

The scan process imports this module, so it uses only parts of the standard library that import fast.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_SPELLINGS = {
    "DEBUG": (b"DEBUG",),
    "INFO": (b"INFO",),
    "WARNING": (b"WARN",),
    "ERROR": (b"ERROR",),
    "CRITICAL": (b"CRITICAL", b"FATAL"),
}
_SYNONYMS = {b"WARN": "WARNING", b"FATAL": "CRITICAL"}

_LEVEL = re.compile(
    rb"(?:[\[<(]?\d\S*[ \t]+){0,2}[\[<(]?(DEBUG|INFO|WARN(?:ING)?|ERROR|CRITICAL|FATAL)[\])>:]?(?=\s|$)"
)
_INDENTS = (b" ", b"\t")
_HEAD_BYTES = 256

# Expressions that never match a newline and match a line the same way alone and among others.
_WITHIN_A_LINE = re.compile(r"(?:[^\\\[(]|\\[dwbS.\-+*?|(){}\[\]/^$]|\[[A-Za-z0-9_. -]+\]|\((?!\?)|\(\?:)*", re.ASCII)


@dataclass(frozen=True)
class Term:
    """A text or a regular expression to find in a line.

    A term in lower case ignores the case of ASCII letters. Raises ValueError for an invalid expression.
    """

    text: str
    is_regex: bool = False

    def __post_init__(self) -> None:
        if "\n" in self.text:
            raise ValueError("a search term cannot contain a line break")
        if self.is_regex:
            self.pattern()

    @property
    def any_case(self) -> bool:
        return self.text == self.text.lower()

    def pattern(self) -> re.Pattern[bytes]:
        """Return the compiled expression, for one line or for a block of lines."""
        source = self.text if self.is_regex else re.escape(self.text)
        try:
            return re.compile(source.encode(), re.MULTILINE | (re.IGNORECASE if self.any_case else 0))
        except re.error as error:
            raise ValueError(f"{self.text!r} is not a valid regular expression: {error}") from error


@dataclass(frozen=True)
class LineFilter:
    """Selects lines that contain all `terms`, in events of at least `level` and of the run `run_id`.

    An event is a line and the indented lines after it (a traceback), which share its level and run.
    """

    terms: tuple[Term, ...] = ()
    level: str = ""
    run_id: int | None = None

    def __bool__(self) -> bool:
        return bool(self.terms or self.level or self.run_id is not None)

    def to_json(self) -> dict[str, Any]:
        terms = [[term.text, term.is_regex] for term in self.terms]
        return {"terms": terms, "level": self.level, "run_id": self.run_id}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "LineFilter":
        terms = tuple(Term(text, is_regex) for text, is_regex in record["terms"])
        return cls(terms, record["level"], record["run_id"])


def level_of(line: bytes) -> str:
    """Return the level of the event that starts at a line, empty if there is none."""
    found = _LEVEL.match(line, 0, _HEAD_BYTES)
    return _SYNONYMS.get(found[1], found[1].decode()) if found else ""


class Matcher:
    """Finds the lines that match a filter."""

    def __init__(self, line_filter: LineFilter) -> None:
        self._terms = sorted(line_filter.terms, key=lambda term: term.is_regex)
        self._patterns = [term.pattern() for term in self._terms]
        self._levels = frozenset(LEVELS[LEVELS.index(line_filter.level) :]) if line_filter.level else frozenset()
        self._run = None if line_filter.run_id is None else b"run=%d" % line_filter.run_id
        self._run_pattern = self._run and re.compile(rb"(?<!\S)%s(?!\S)" % self._run)
        self._level_needles = [needle for level in sorted(self._levels) for needle in _SPELLINGS[level]]

    def lines(self, data: bytes, first: int, stop: int) -> Iterator[int]:
        """Return the offsets of matching lines among those that start between `first` and `stop` in `data`.

        A line must start at `first`, and `stop` must not be past the end of the last line. The bytes before `first`
        only serve to find the event that the first lines belong to.
        """
        if not (self._levels or self._run):
            return self._by_term(data, first, stop) if self._terms else _all(data, first, stop)
        return self._by_event(data, first, stop)

    def _by_event(self, data: bytes, first: int, stop: int) -> Iterator[int]:
        shown_to = first
        for head in self._candidates(data, _event_start(data, first), stop):
            end = _end(data, head)
            line = data[head:end]
            if self._levels and level_of(line) not in self._levels:
                continue
            if self._run_pattern and not self._run_pattern.search(line):
                continue
            while data[end + 1 : end + 2] in _INDENTS:
                end = _end(data, end + 1)
            block = max(head, shown_to), min(end + 1, stop)
            yield from self._by_term(data, *block) if self._terms else _all(data, *block)
            shown_to = block[1]

    def _candidates(self, data: bytes, begin: int, stop: int) -> Iterator[int]:
        """Return the offsets of event heads that contain the run or a level, each once, in order."""
        if self._run:
            yield from _heads(data, self._run, begin, stop)
            return
        present = [needle for needle in self._level_needles if data.find(needle, begin, stop) >= 0]
        if len(present) == 1:
            yield from _heads(data, present[0], begin, stop)
        elif present:
            yield from sorted({head for needle in present for head in _heads(data, needle, begin, stop)})

    def _by_term(self, data: bytes, first: int, stop: int) -> Iterator[int]:
        first_pattern, *rest = self._patterns
        starts = _lines_with(self._terms[0], first_pattern, data, first, stop)
        if not rest:
            return starts
        return (start for start in starts if all(pattern.search(data[start : _end(data, start)]) for pattern in rest))


def _lines_with(term: Term, pattern: re.Pattern[bytes], data: bytes, first: int, stop: int) -> Iterator[int]:
    if not term.is_regex:
        # `lower` and `find` on a chunk are six times as fast as an expression that ignores case.
        if term.any_case:
            return _lines_with_text(data.lower(), term.text.lower().encode(), first, stop)
        return _lines_with_text(data, term.text.encode(), first, stop)
    if _WITHIN_A_LINE.fullmatch(term.text):
        return _lines_with_match(data, pattern, first, stop)
    return (start for start in _all(data, first, stop) if pattern.search(data[start : _end(data, start)]))


def _lines_with_text(data: bytes, needle: bytes, first: int, stop: int) -> Iterator[int]:
    find, rfind = data.find, data.rfind
    found = find(needle, first)
    while found >= 0:
        start = rfind(b"\n", first, found) + 1 or first
        if start >= stop:
            return
        yield start
        end = find(b"\n", found)
        if end < 0:
            return
        found = find(needle, end)


def _lines_with_match(data: bytes, pattern: re.Pattern[bytes], first: int, stop: int) -> Iterator[int]:
    at = first
    while at < stop and (found := pattern.search(data, at)):
        start = data.rfind(b"\n", first, found.start()) + 1 or first
        if start >= stop:
            return
        yield start
        at = _end(data, start) + 1


def _all(data: bytes, first: int, stop: int) -> Iterator[int]:
    while first < stop:
        yield first
        first = _end(data, first) + 1


def _heads(data: bytes, needle: bytes, begin: int, stop: int) -> Iterator[int]:
    return (start for start in _lines_with_text(data, needle, begin, stop) if data[start] not in b" \t")


def _event_start(data: bytes, first: int) -> int:
    """Return the offset of the event that contains the line at `first`, as far as `data` reaches back."""
    start = first
    while start and data[start : start + 1] in _INDENTS:
        start = data.rfind(b"\n", 0, start - 1) + 1
    return start


def _end(data: bytes, start: int) -> int:
    end = data.find(b"\n", start)
    return end if end >= 0 else len(data)
