"""What a person wants to see of a log, and which lines that is.

Imported by the process that scans: the standard library only, and nothing that takes long to import.
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

# What certainly never matches a newline, and means the same in a line of its own as amid others.
_WITHIN_A_LINE = re.compile(r"(?:[^\\\[(]|\\[dwbS.\-+*?|(){}\[\]/^$]|\[[A-Za-z0-9_. -]+\]|\((?!\?)|\(\?:)*", re.ASCII)


@dataclass(frozen=True)
class Term:
    """A text that a line holds, or a regular expression that is found in it.

    All in lower case, it is found in any case (of ASCII letters). Raises ValueError for a wrong expression.
    """

    text: str
    is_regex: bool = False

    def __post_init__(self) -> None:
        if "\n" in self.text:
            raise ValueError("a line holds no line break")
        if self.is_regex:
            self.pattern()

    @property
    def any_case(self) -> bool:
        return self.text == self.text.lower()

    def pattern(self) -> re.Pattern[bytes]:
        """The expression that finds it in one line, or at a line's place in many."""
        source = self.text if self.is_regex else re.escape(self.text)
        try:
            return re.compile(source.encode(), re.MULTILINE | (re.IGNORECASE if self.any_case else 0))
        except re.error as error:
            raise ValueError(f"{self.text!r} is not a regular expression: {error}") from error


@dataclass(frozen=True)
class LineFilter:
    """The lines of events of at least `level`, of the run `run_id`, that hold every one of `terms`.

    An event is a line and the indented ones after it (a traceback): they share its level and run.
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
    def from_json(cls, given: dict[str, Any]) -> "LineFilter":
        terms = tuple(Term(text, is_regex) for text, is_regex in given["terms"])
        return cls(terms, given["level"], given["run_id"])


def level_of(line: bytes) -> str:
    """The level of the event that a line begins, or nothing."""
    found = _LEVEL.match(line, 0, _HEAD_BYTES)
    return _SYNONYMS.get(found[1], found[1].decode()) if found else ""


class Matcher:
    """Finds the lines that a filter shows."""

    def __init__(self, wanted: LineFilter) -> None:
        self._terms = sorted(wanted.terms, key=lambda term: term.is_regex)
        self._patterns = [term.pattern() for term in self._terms]
        self._levels = frozenset(LEVELS[LEVELS.index(wanted.level) :]) if wanted.level else frozenset()
        self._run = None if wanted.run_id is None else b"run=%d" % wanted.run_id
        self._run_pattern = self._run and re.compile(rb"(?<!\S)%s(?!\S)" % self._run)
        self._level_needles = [needle for level in sorted(self._levels) for needle in _SPELLINGS[level]]

    def lines(self, data: bytes, first: int, stop: int) -> Iterator[int]:
        """Where the lines that match begin, among those that begin in `first` to `stop` of `data`.

        A line begins at `first` and `stop` is no further than the last line's end. What lies before
        `first` is only looked at to see which event the first lines belong to.
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
        """Where lines begin that hold the run or a level at all, and that begin an event; each once, in order."""
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
        # Lowering a chunk and finding in it is six times as fast as an expression that ignores case.
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
    """Where the event begins that the line at `first` belongs to, as far as `data` reaches back."""
    start = first
    while start and data[start : start + 1] in _INDENTS:
        start = data.rfind(b"\n", 0, start - 1) + 1
    return start


def _end(data: bytes, start: int) -> int:
    end = data.find(b"\n", start)
    return end if end >= 0 else len(data)
