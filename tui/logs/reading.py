"""The state of an open log: its filter, its search, and the progress of both scans."""

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
    """A document with a scan for the shown lines and a scan for the matches among them."""

    def __init__(self, document: Document, changed: Callable[[], None]) -> None:
        self.document = document
        self.line_filter = LineFilter()
        self.search_term: Term | None = None
        self._changed = changed
        self._shown: Scan | None = None
        self._found: Scan | None = None
        self._match_origin: Position | None = None
        self._pending_steps: list[int] = []

    def close(self) -> None:
        """Stop reading and scanning."""
        self.document.close()
        for scan in (self._shown, self._found):
            if scan:
                scan.close()

    def scan_new_lines(self) -> None:
        """Scan what was appended; call it after every change."""
        for scan in (self._shown, self._found):
            if scan:
                scan.follow(self.document.segments)

    # Filter

    def hide(self, line_filter: LineFilter) -> None:
        """Show only the lines of this filter; the search is restricted to them."""
        self.line_filter = line_filter
        self._shown = self._replace_scan(self._shown, line_filter)
        self._start_search()

    def places(self, segment: Segment) -> Places | None:
        """Return the shown lines of a segment; None while they are unknown."""
        return self._shown.of(segment) if self._shown else AllPlaces(segment)

    @staticmethod
    def all_places(segment: Segment) -> Places:
        return AllPlaces(segment)

    @property
    def marked(self) -> tuple[Term, ...]:
        """The terms to highlight."""
        return (*self.line_filter.terms, *([self.search_term] if self.search_term else ()))

    # Search

    def search(self, term: Term | None, cursor: Position | None) -> None:
        """Search for a term and request the match nearest to the cursor, preferring one at or before it."""
        self.search_term = term
        self._match_origin, self._pending_steps = cursor, [_NEAREST] if term else []
        self._start_search()

    def _start_search(self) -> None:
        term = self.search_term
        line_filter = (
            LineFilter((*self.line_filter.terms, term), self.line_filter.level, self.line_filter.run_id)
            if term
            else LineFilter()
        )
        self._found = self._replace_scan(self._found, line_filter)

    def match_from(self, cursor: Position | None, direction: int) -> Position | None:
        """Return the next match after the cursor or the last one before it, among the known matches."""
        if self._found is None or cursor is None:
            return None
        if direction == _NEAREST:
            return self.match_from(cursor.just_after, -1) or self.match_from(cursor, 1)
        step = self.document.next if direction > 0 else self.document.previous
        position = step(cursor, self._found.of)
        while position and position.offset == NOTICE:
            position = step(position, self._found.of)
        return position

    def is_match_known(self, cursor: Position | None, direction: int) -> bool:
        """Whether the result of `match_from` is final, so that the scan cannot find a nearer match."""
        if self._found is None or self._found.finished or cursor is None:
            return True
        if direction == _NEAREST:
            return self.is_match_known(cursor.just_after, -1) and self.is_match_known(cursor, 1)
        return self.document.knows(cursor, direction, self._found.of)

    @property
    def is_match_pending(self) -> bool:
        """Whether a requested match is not known yet."""
        return bool(self._pending_steps)

    def request_match(self, cursor: Position | None, direction: int) -> None:
        """Request a match, which `resolve_match` returns once it is known; it is relative to a pending one."""
        if not self._pending_steps:
            self._match_origin = cursor
        self._pending_steps.append(direction)

    def cancel_match(self) -> None:
        """Cancel the requested matches."""
        self._pending_steps = []

    def resolve_match(self) -> Position | None:
        """Return the requested match as far as it is known, once; None while it is unknown."""
        reached = None
        while self._pending_steps and self.is_match_known(self._match_origin, self._pending_steps[0]):
            reached = self.match_from(self._match_origin, self._pending_steps.pop(0)) or reached
            self._match_origin = reached or self._match_origin
        return reached

    def _replace_scan(self, scan: Scan | None, line_filter: LineFilter) -> Scan | None:
        if scan:
            scan.close()
        return Scan(line_filter, self.document.segments, self._changed) if line_filter else None

    # Status texts

    def facts(self, title: str, cursor: Position | None, following: bool) -> str:
        """Return one line: log, size, cursor position and time."""
        document = self.document
        size, count = document.size_bytes, document.line_count
        parts = [title]
        if document.error:
            parts.append(f"▲ {document.error}")
            if not size:
                return " · ".join(parts)
        else:
            parts.append("▼ following" if following else "▪ paused")
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
        """Return filter and search with the progress of their scans; empty without either."""
        parts = []
        if self._shown:
            parts.append(f"only {_filter_text(self.line_filter)}: {_progress_text(self._shown)}")
        if self._found and self.search_term:
            ordinal = f"{self._ordinal(cursor):,} of " if cursor and self._found.finished else ""
            parts.append(f"search {_quote_term(self.search_term)}: {ordinal}{_progress_text(self._found)}")
        return "   ".join(parts)

    def _ordinal(self, cursor: Position) -> int:
        """Return the number of matches up to and including the cursor's line."""
        assert self._found is not None
        count = 0
        for segment in self.document.segments:
            matches = self._found.of(segment)
            if matches and segment.serial < cursor.segment:
                count += matches.count
            elif matches and segment.serial == cursor.segment:
                count += matches.number_before(cursor.offset + 1)
        return count


def _progress_text(scan: Scan) -> str:
    lines = f"{scan.count:,} line{'' if scan.count == 1 else 's'}"
    if scan.error:
        return f"{lines} ▲ {scan.error}"
    return lines if scan.finished else f"{lines}, scanned {int(100 * scan.share)} %"


def _filter_text(line_filter: LineFilter) -> str:
    parts = [_quote_term(term) for term in line_filter.terms]
    if line_filter.level:
        parts.append(f"{line_filter.level} and above")
    if line_filter.run_id is not None:
        parts.append(f"run {line_filter.run_id}")
    return ", ".join(parts)


def _quote_term(term: Term) -> str:
    return f"/{term.text}/" if term.is_regex else f'"{term.text}"'
