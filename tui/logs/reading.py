"""A log that is being read: what of it is hidden, what is searched for in it, and how far that has come."""

from collections.abc import Callable
from datetime import UTC, datetime

from ops.host.formatting import size_text
from tui.logs.document import NOTICE, AllPlaces, Document, Places, Position
from tui.logs.follow import Segment
from tui.logs.scan import Scan
from tui.logs.times import time_of
from tui.widgets.log_match import LineFilter, Term

_NEAREST = 0


class Reading:
    """A document, the lines of it that are shown, and the lines that are searched for among those."""

    def __init__(self, document: Document, stirred: Callable[[], None]) -> None:
        self.document = document
        self.wanted = LineFilter()
        self.search_term: Term | None = None
        self._stirred = stirred
        self._shown: Scan | None = None
        self._found: Scan | None = None
        self._wanted_from: Position | None = None
        self._steps: list[int] = []

    def close(self) -> None:
        """Stop reading and looking."""
        self.document.close()
        for scan in (self._shown, self._found):
            if scan:
                scan.close()

    def keep_up(self) -> None:
        """Look through what has been added; call it whenever something stirred."""
        for scan in (self._shown, self._found):
            if scan:
                scan.follow(self.document.segments)

    # Hiding

    def hide(self, wanted: LineFilter) -> None:
        """Show only these lines; what is searched for is searched among them."""
        self.wanted = wanted
        self._shown = self._instead_of(self._shown, wanted)
        self._look_for_term()

    def places(self, segment: Segment) -> Places | None:
        """Which lines of a segment are shown."""
        return self._shown.of(segment) if self._shown else AllPlaces(segment)

    @staticmethod
    def all_places(segment: Segment) -> Places:
        return AllPlaces(segment)

    @property
    def marked(self) -> tuple[Term, ...]:
        """The texts to mark where they stand."""
        return (*self.wanted.terms, *([self.search_term] if self.search_term else ()))

    # Searching

    def search(self, term: Term | None, cursor: Position | None) -> None:
        """Look for a term; the match nearest to the cursor is wanted, first at it or before it."""
        self.search_term = term
        self._wanted_from, self._steps = cursor, [_NEAREST] if term else []
        self._look_for_term()

    def _look_for_term(self) -> None:
        term = self.search_term
        wanted = LineFilter((*self.wanted.terms, term), self.wanted.level, self.wanted.run_id) if term else LineFilter()
        self._found = self._instead_of(self._found, wanted)

    def match_from(self, cursor: Position | None, direction: int) -> Position | None:
        """The next match after the cursor, or the last one before it, among those known."""
        if self._found is None or cursor is None:
            return None
        if direction == _NEAREST:
            return self.match_from(cursor.just_after, -1) or self.match_from(cursor, 1)
        step = self.document.next if direction > 0 else self.document.previous
        position = step(cursor, self._found.of)
        while position and position.offset == NOTICE:
            position = step(position, self._found.of)
        return position

    def knows_match_from(self, cursor: Position | None, direction: int) -> bool:
        """Whether `match_from` says that for certain; there may be nearer ones, that are looked for still."""
        if self._found is None or self._found.finished or cursor is None:
            return True
        if direction == _NEAREST:
            return self.knows_match_from(cursor.just_after, -1) and self.knows_match_from(cursor, 1)
        return self.document.knows(cursor, direction, self._found.of)

    @property
    def is_wanting(self) -> bool:
        """Whether a match is wanted that is not known yet."""
        return bool(self._steps)

    def want_match(self, cursor: Position | None, direction: int) -> None:
        """Have that match told by `wanted_match` once it is known; it is seen from the one that is wanted already."""
        if not self._steps:
            self._wanted_from = cursor
        self._steps.append(direction)

    def want_nothing(self) -> None:
        """Have no match told any more."""
        self._steps = []

    def wanted_match(self) -> Position | None:
        """The match that was wanted, as far as the way to it is known, once; None while none is known."""
        reached = None
        while self._steps and self.knows_match_from(self._wanted_from, self._steps[0]):
            reached = self.match_from(self._wanted_from, self._steps.pop(0)) or reached
            self._wanted_from = reached or self._wanted_from
        return reached

    def _instead_of(self, scan: Scan | None, wanted: LineFilter) -> Scan | None:
        if scan:
            scan.close()
        return Scan(wanted, self.document.segments, self._stirred) if wanted else None

    # Saying how far it has come

    def facts(self, title: str, cursor: Position | None, following: bool) -> str:
        """The log, its size, where in it the cursor is: a line."""
        document = self.document
        size, count = document.size_bytes, document.line_count
        parts = [title]
        if document.trouble:
            parts.append(f"▲ {document.trouble}")
            if not size:
                return " · ".join(parts)
        else:
            parts.append("▼ following" if following else "▪ standing")
        number = document.line_number(cursor) if cursor else None
        if count is None:
            parts.extend([f"line {number:,}"] if number else [])
            parts.append(f"indexed {100 * document.indexed_bytes // max(size, 1)} % of {size_text(size)}")
        else:
            parts.append(f"line {number:,} of {count:,}" if number else f"{count:,} lines")
            parts.append(size_text(size))
        moment = time_of(document.read(cursor, 64)[0]) if cursor else None
        if moment is not None:
            parts.append(f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S} UTC")
        return " · ".join(parts)

    def filter_facts(self, cursor: Position | None) -> str:
        """What is hidden and searched for, and how far each has been looked through; empty when nothing is."""
        parts = []
        if self._shown:
            parts.append(f"only {_words(self.wanted)}: {_progress(self._shown)}")
        if self._found and self.search_term:
            ordinal = f"{self._ordinal(cursor):,} of " if cursor and self._found.finished else ""
            parts.append(f"search {_quoted(self.search_term)}: {ordinal}{_progress(self._found)}")
        return "   ".join(parts)

    def _ordinal(self, cursor: Position) -> int:
        """How many matches there are up to the cursor, its line included."""
        assert self._found is not None
        count = 0
        for segment in self.document.segments:
            matches = self._found.of(segment)
            if matches and segment.serial < cursor.segment:
                count += matches.count
            elif matches and segment.serial == cursor.segment:
                count += matches.number_before(cursor.offset + 1)
        return count


def _progress(scan: Scan) -> str:
    lines = f"{scan.count:,} line{'' if scan.count == 1 else 's'}"
    if scan.trouble:
        return f"{lines} ▲ {scan.trouble}"
    return lines if scan.finished else f"{lines}, looked through {int(100 * scan.share)} %"


def _words(wanted: LineFilter) -> str:
    parts = [_quoted(term) for term in wanted.terms]
    if wanted.level:
        parts.append(f"{wanted.level} and worse")
    if wanted.run_id is not None:
        parts.append(f"run {wanted.run_id}")
    return ", ".join(parts)


def _quoted(term: Term) -> str:
    return f"/{term.text}/" if term.is_regex else f'"{term.text}"'
