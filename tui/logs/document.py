"""Presents a rotated log as one sequence of lines, with a notice where two segments meet."""

import threading
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tui.logs.follow import Follower, Segment
from tui.logs.lines import CHUNK_BYTES, is_line_start, line_start, line_stop
from tui.logs.times import first_time, time_of

NOTICE = -1
_POLL_S = 0.2
_CHUNKS_BETWEEN_POLLS = 32
_TIME_HEAD_BYTES = 64
_TIME_STEP_BYTES = 4 << 10
_TIME_SEEN_BYTES = 32 << 10


@dataclass(frozen=True, order=True)
class Position:
    """The start of a line: a segment and a byte offset, or NOTICE for the notice before the segment."""

    segment: int
    offset: int

    @property
    def just_after(self) -> "Position":
        """The position just after the start of this line, so that `previous` includes the line itself."""
        return Position(self.segment, self.offset + 1)


class Places(Protocol):
    """Selects the visible lines of a segment."""

    def after(self, offset: int) -> int | None:
        """Return the first visible line that starts at or after `offset`."""

    def before(self, offset: int) -> int | None:
        """Return the last visible line that starts before `offset`."""

    @property
    def known_from(self) -> int:
        """Lines before this offset have not been scanned yet; the scan runs from the end."""


class AllPlaces:
    """Selects every line of a segment."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment

    def after(self, offset: int) -> int | None:
        file, size = self._segment.file, self._segment.size
        if offset <= 0:
            return 0 if size else None
        if offset >= size:
            return None
        start = line_start(file, offset)
        if start < offset:
            start = line_stop(file, start, size)
        return start if start < size else None

    def before(self, offset: int) -> int | None:
        size = self._segment.size
        return line_start(self._segment.file, min(offset, size) - 1) if min(offset, size) > 0 else None

    @property
    def known_from(self) -> int:
        return 0


class Document:
    """The log at `path`, read in its own thread, which calls `changed` when there is more to show.

    `segments` is an immutable tuple that is replaced as a whole, so callers may keep using a copy.
    """

    def __init__(self, path: Path, changed: Callable[[], None]) -> None:
        self.path = path
        self._changed = changed
        self._follower = Follower(path)
        self._follower.poll()
        self._stop, self._awake = threading.Event(), threading.Event()
        self._awake.set()
        self._thread = threading.Thread(target=self._watch, name="log-reader", daemon=True)
        self._thread.start()

    @property
    def segments(self) -> tuple[Segment, ...]:
        return self._follower.segments

    @property
    def error(self) -> str:
        """Why the path cannot be read now; empty without an error."""
        return self._follower.error

    def close(self) -> None:
        """Stop reading; the files are closed when they are no longer referenced."""
        self._stop.set()
        self._awake.set()

    def pause(self, paused: bool) -> None:
        """Pause or resume polling; rotations during a pause are found on resume."""
        if paused:
            self._awake.clear()
        else:
            self._awake.set()

    # Size, lines and content

    @property
    def size_bytes(self) -> int:
        return sum(segment.size for segment in self.segments)

    @property
    def indexed_bytes(self) -> int:
        return sum(segment.index.indexed_bytes for segment in self.segments)

    @property
    def line_count(self) -> int | None:
        """The number of lines; None until all are counted."""
        segments = self.segments
        if not all(segment.indexed for segment in segments):
            return None
        return sum(map(_line_count, segments))

    def line_number(self, position: Position) -> int | None:
        """Return the number of a line (from 1), or None for a notice and for lines not counted yet."""
        before = 0
        for segment in self.segments:
            if segment.serial == position.segment and position.offset >= 0:
                number = segment.index.line_number(segment.file, position.offset)
                return None if number is None else before + number
            if not segment.indexed:
                return None
            before += _line_count(segment)
        return None

    def at_line(self, number: int) -> Position | None:
        """Return the position of a line number; None if it does not exist or is not counted yet."""
        for segment in self.segments:
            if segment.indexed and number > (count := _line_count(segment)):
                number -= count
                continue
            offset = segment.index.line_offset(segment.file, number)
            return None if offset is None or offset >= segment.size else Position(segment.serial, offset)
        return None

    def at_time(self, moment: float) -> Position | None:
        """Return the first line at or after `moment`, else the last line; None if the log is empty."""
        for segment in self.segments:
            if (offset := _offset_at_time(segment, moment)) is not None:
                return Position(segment.serial, offset)
        return self.last()

    def read(self, position: Position, most_bytes: int) -> tuple[bytes, int]:
        """Return at most `most_bytes` of a line (without its newline), and its total size in bytes."""
        segment = self._segment(position.segment)
        if segment is None or position.offset < 0:
            text = segment.notice.encode() if segment else b""
            return text, len(text)
        stop = line_stop(segment.file, position.offset, segment.size)
        data = segment.file.read(position.offset, min(stop, position.offset + most_bytes + 1))
        if len(data) == stop - position.offset:
            line = data.removesuffix(b"\n").removesuffix(b"\r")
            return line, len(line)
        return data[:most_bytes], stop - position.offset - 1

    def read_before(self, position: Position, most_bytes: int) -> bytes:
        """Return the bytes before a line that continues a longer one; empty for a line that starts after a newline."""
        segment = self._segment(position.segment)
        if segment is None or position.offset <= 0 or is_line_start(segment.file, position.offset):
            return b""
        return segment.file.read(max(position.offset - most_bytes, 0), position.offset)

    # Stepping from line to line; `places` selects the visible lines of a segment, None while they are unknown

    def next(self, position: Position, places: Callable[[Segment], Places | None]) -> Position | None:
        """Return the next visible line after `position`."""
        for segment in self.segments:
            if segment.serial < position.segment:
                continue
            after = position.offset + 1 if segment.serial == position.segment else NOTICE
            if after == NOTICE and segment.notice:
                return Position(segment.serial, NOTICE)
            seen = places(segment)
            if seen and (offset := seen.after(max(after, 0))) is not None:
                return Position(segment.serial, offset)
        return None

    def previous(self, position: Position, places: Callable[[Segment], Places | None]) -> Position | None:
        """Return the last visible line before `position`."""
        for segment in reversed(self.segments):
            if segment.serial > position.segment:
                continue
            before = position.offset if segment.serial == position.segment else segment.size
            seen = places(segment)
            if seen and before > 0 and (offset := seen.before(before)) is not None:
                return Position(segment.serial, offset)
            if segment.notice and before > NOTICE:
                return Position(segment.serial, NOTICE)
        return None

    def knows(self, position: Position, direction: int, places: Callable[[Segment], Places | None]) -> bool:
        """Whether the neighbouring visible line in that direction is known already, ignoring notices."""
        for segment in self.segments[::direction]:
            if (segment.serial - position.segment) * direction < 0:
                continue
            seen, start = places(segment), position.offset if segment.serial == position.segment else None
            if seen is None:
                return False
            # Read this first: the scan may advance meanwhile.
            known_from = seen.known_from
            if direction > 0:
                after = 0 if start is None else start + 1
                if after < known_from:
                    return False
                found = seen.after(after)
            else:
                before = segment.size if start is None else start
                found = seen.before(before)
                if found is None and before > 0 and known_from > 0:
                    return False
            if found is not None:
                return True
        return True

    def last(self, places: Callable[[Segment], Places | None] = AllPlaces) -> Position | None:
        segments = self.segments
        return self.previous(Position(segments[-1].serial + 1, 0), places) if segments else None

    def first(self, places: Callable[[Segment], Places | None] = AllPlaces) -> Position | None:
        return self.next(Position(-1, 0), places)

    def _segment(self, serial: int) -> Segment | None:
        return next((segment for segment in self.segments if segment.serial == serial), None)

    def _watch(self) -> None:
        while not self._stop.is_set():
            self._awake.wait()
            changed = self._follower.poll()
            if (unindexed := self._unindexed()) is not None:
                for _ in range(_CHUNKS_BETWEEN_POLLS):
                    if not unindexed.indexed and not self._stop.is_set():
                        unindexed.index.advance(unindexed.file, unindexed.size)
                changed = True
            if changed:
                self._changed()
            if self._unindexed() is None:
                self._stop.wait(_POLL_S)

    def _unindexed(self) -> Segment | None:
        return next((segment for segment in reversed(self.segments) if not segment.indexed), None)


def _line_count(segment: Segment) -> int:
    unfinished = segment.size > 0 and not segment.mark.endswith(b"\n")
    return segment.index.newlines + unfinished


def _offset_at_time(segment: Segment, moment: float) -> int | None:
    if not segment.size:
        return None
    base = segment.index.chunk_at_time(segment.file, segment.size, moment) * CHUNK_BYTES
    # Two chunks: the first line at the time may be in the next chunk.
    data = segment.file.read(base, min(base + 2 * CHUNK_BYTES, segment.size))
    steps = range(0, len(data), _TIME_STEP_BYTES)
    step = bisect_left(steps, moment, key=lambda at: _time_from(data, at)) - 1
    at = data.find(b"\n", steps[step]) + 1 if step > 0 else 0
    while at < len(data):
        found = time_of(data[at : at + _TIME_HEAD_BYTES])
        if found is not None and found >= moment:
            return base + at
        at = (data.find(b"\n", at) + 1) or len(data)
    return None


def _time_from(data: bytes, at: int) -> float:
    start = data.find(b"\n", at) + 1 if at else 0
    found = first_time(data[start : start + _TIME_SEEN_BYTES]) if start or not at else None
    return float("inf") if found is None else found
