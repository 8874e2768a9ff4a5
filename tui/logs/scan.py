"""A scan of a log for the lines of a filter: newest lines first, then whatever is added, in other processes."""

import os
import socket
import subprocess
import sys
import tempfile
import threading
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tui.logs.follow import Segment
from tui.logs.lines import CHUNK_BYTES, OpenFile, line_start
from tui.logs.scan_child import FINISHED, FULL, REPORT_BYTES, Report, Request, reports_in, send_filter, send_request
from tui.widgets.log_match import LineFilter

_CHILDREN = 2
_CHILD_ENVIRON = {
    "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    # Memory for a chunk is kept for the next one: taking it from the system again costs more than the search.
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(64 << 20),
}
"""No secret of ours is any business of a process that looks through logs."""


@dataclass
class _Stretch:
    """The matching lines that begin in `start` to `stop`, which lie in one chunk; their places are in a spool."""

    start: int
    stop: int
    count: int
    spool: OpenFile
    spool_at: int

    def place(self, number: int) -> int:
        data = self.spool.read(self.spool_at + 4 * number, self.spool_at + 4 * number + 4)
        return self._base + int.from_bytes(data, sys.byteorder)

    def number_of(self, offset: int) -> int:
        """How many of its matches begin before `offset`."""
        if offset <= self.start or not self.count:
            return 0
        if offset >= self.stop:
            return self.count
        places = array("I", self.spool.read(self.spool_at, self.spool_at + 4 * self.count))
        return bisect_left(places, offset - self._base)

    @property
    def _base(self) -> int:
        return self.start - self.start % CHUNK_BYTES


class Matches:
    """The lines of one segment that match, as far as looked through: from `known_from` to `known_to`."""

    def __init__(self, known_from: int) -> None:
        self.known_from = self.known_to = known_from
        self.count = 0
        self._stretches: list[_Stretch] = []  # with matches, in order
        self._early: dict[int, _Stretch] = {}  # looked through, and what follows it not yet: by their stop
        self._lock = threading.Lock()

    def add(self, stretch: _Stretch) -> None:
        """Take in what was found; it shows once everything between it and the known part is known."""
        with self._lock:
            if stretch.start >= self.known_to:
                self.known_to = stretch.stop
                self._append(stretch)
                return
            self._early[stretch.stop] = stretch
            while known := self._early.pop(self.known_from, None):
                self.known_from = known.start
                self.count += known.count
                if known.count:
                    self._stretches.insert(0, known)

    def _append(self, stretch: _Stretch) -> None:
        self.count += stretch.count
        last = self._stretches[-1] if self._stretches else None
        if not stretch.count:
            return
        follows = last is not None and (
            last.spool is stretch.spool
            and last.spool_at + 4 * last.count == stretch.spool_at
            and last.start // CHUNK_BYTES == stretch.start // CHUNK_BYTES
        )
        if last is not None and follows:
            # A log that grows by a line at a time must not cost an entry for each.
            last.stop, last.count = stretch.stop, last.count + stretch.count
        else:
            self._stretches.append(stretch)

    def after(self, offset: int) -> int | None:
        """The first known match that begins at `offset` or after it."""
        with self._lock:
            at = bisect_right(self._stretches, offset, key=lambda stretch: stretch.stop)
            for stretch in self._stretches[at : at + 2]:
                if (number := stretch.number_of(offset)) < stretch.count:
                    return stretch.place(number)
            return None

    def before(self, offset: int) -> int | None:
        """The last known match that begins before `offset`."""
        with self._lock:
            at = bisect_left(self._stretches, offset, key=lambda stretch: stretch.start)
            for stretch in reversed(self._stretches[max(at - 2, 0) : at]):
                if number := stretch.number_of(offset):
                    return stretch.place(number - 1)
            return None

    def number_before(self, offset: int) -> int:
        """How many known matches begin before `offset`."""
        with self._lock:
            at = bisect_left(self._stretches, offset, key=lambda stretch: stretch.start)
            whole = sum(stretch.count for stretch in self._stretches[: max(at - 1, 0)])
            return whole + sum(stretch.number_of(offset) for stretch in self._stretches[max(at - 1, 0) : at])


class Scan:
    """Looks through segments for `wanted`; calls `moved` from its own threads when more is known."""

    def __init__(self, wanted: LineFilter, segments: Iterable[Segment], moved: Callable[[], None]) -> None:
        self.wanted = wanted
        self.trouble = ""
        self._moved = moved
        newest_first = sorted(segments, key=lambda segment: -segment.serial)
        stops = {segment.serial: _complete(segment, last=number == 0) for number, segment in enumerate(newest_first)}
        self._total_bytes = sum(stops.values())
        self._matches = {serial: Matches(stop) for serial, stop in stops.items()}
        self._asked_to = dict(stops)
        self._present = frozenset(stops)
        self._unfinished = min(_CHILDREN, -(-self._total_bytes // CHUNK_BYTES))
        self._children: list[_Child] = []
        self._follower: _Child | None = None
        self._following = self._closed = False
        self._lock = threading.Lock()
        # Starting processes takes longer than a console may keep a key waiting.
        threading.Thread(target=self._begin, args=(newest_first, stops), name="log-scan-begin", daemon=True).start()

    def _begin(self, segments: list[Segment], stops: dict[int, int]) -> None:
        try:
            for turn in range(count := self._unfinished):
                child = self._child(forever=False)
                for segment in segments:
                    # Every other chunk for each of two: they stay side by side, and the newest come first.
                    stop = stops[segment.serial]
                    if turn:
                        stop = ((stop - 1) // CHUNK_BYTES - turn + 1) * CHUNK_BYTES
                    if stop > 0:
                        child.ask(Request(segment.serial, 0, stop, count, True), segment)
                child.no_more()
            self._follower = self._child(forever=True)
        except OSError as error:
            self._unfinished, self.trouble = 0, f"no search is possible: {error}"
        self._moved()

    def _child(self, *, forever: bool) -> "_Child":
        child = _Child(self.wanted, self._take, lambda code: self._child_ended(code, counts=not forever))
        with self._lock:
            self._children.append(child)
            if self._closed:
                child.end()
        return child

    def of(self, segment: Segment) -> Matches | None:
        """What is known of a segment; None for one that came after the scan and was not followed yet."""
        return self._matches.get(segment.serial)

    def follow(self, segments: tuple[Segment, ...]) -> None:
        """Look through what the segments have more than when last asked; returns at once.

        Asks for one stretch at a time: call it again whenever `moved` was called.
        """
        self._present = frozenset(segment.serial for segment in segments)
        for segment in segments:
            asked = self._asked_to.get(segment.serial, 0)
            stop = _complete(segment, last=segment is segments[-1])
            if stop <= asked or self.trouble or self._following or self._follower is None:
                continue
            self._following = True
            self._matches.setdefault(segment.serial, Matches(0))
            self._follower.ask(Request(segment.serial, asked, stop, 1, False), segment)
            self._asked_to[segment.serial] = stop

    @property
    def count(self) -> int:
        """How many lines are known to match, of those that are there."""
        return sum(matches.count for serial, matches in self._matches.items() if serial in self._present)

    @property
    def finished(self) -> bool:
        """Whether all that was there when the scan began is looked through."""
        return self._unfinished == 0

    @property
    def share(self) -> float:
        """How much of what was there when it began is looked through, 0 to 1."""
        if self.finished or not self._total_bytes:
            return 1.0
        left = sum(matches.known_from for matches in self._matches.values())
        return max(0.0, 1 - left / self._total_bytes)

    def close(self) -> None:
        """End its processes; what is known stays."""
        with self._lock:
            self._closed = True
            for child in self._children:
                child.end()

    def _take(self, reports: list[Report], spool: OpenFile) -> None:
        for report in reports:
            if report.kind == FULL:
                self.trouble = "too many lines match to keep them all: narrow it down"
            elif report.kind == FINISHED:
                if not report.backward:
                    self._following = False
            else:
                stretch = _Stretch(report.start, report.stop, report.count, spool, report.spool_at)
                self._matches[report.segment].add(stretch)
        self._moved()

    def _child_ended(self, code: int, *, counts: bool) -> None:
        with self._lock:
            self._unfinished -= counts
        if code and not self._closed:
            how = f"exit code {code}" if code > 0 else f"signal {-code}"
            self.trouble = f"the search broke off with {how}"
        self._moved()


class _Child:
    """A process that scans, and the thread that reads its reports."""

    def __init__(
        self,
        wanted: LineFilter,
        take: Callable[[list[Report], OpenFile], None],
        ended: Callable[[int], None],
    ) -> None:
        self._take, self._ended = take, ended
        with tempfile.TemporaryFile(prefix="materia-scan-", buffering=0) as spool:
            self._spool = OpenFile.of(os.dup(spool.fileno()))
        self._channel, theirs = socket.socketpair()
        with theirs:
            handed = (theirs.fileno(), self._spool.fd)
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-m", "tui.logs.scan_child", *map(str, handed)],
                pass_fds=handed,
                env=_CHILD_ENVIRON,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        send_filter(self._channel, wanted)
        threading.Thread(target=self._read, name="log-scan", daemon=True).start()

    def ask(self, request: Request, segment: Segment) -> None:
        """Hand over a request; a process that has ended takes none."""
        try:
            send_request(self._channel, request, segment.file.fd)
        except (BrokenPipeError, ConnectionResetError):
            self._process.poll()  # its thread reports how it ended

    def no_more(self) -> None:
        """Let it end when it has answered."""
        self._channel.shutdown(socket.SHUT_WR)

    def end(self) -> None:
        """End it now."""
        self._process.kill()

    def _read(self) -> None:
        data = b""
        try:
            while more := self._channel.recv(64 << 10):
                data += more
                whole = len(data) - len(data) % REPORT_BYTES
                if whole:
                    self._take(list(reports_in(data[:whole])), self._spool)
                    data = data[whole:]
        except ConnectionResetError:
            data = b""  # ended with requests unread
        code = self._process.wait()
        self._channel.close()
        self._ended(code)


def _complete(segment: Segment, *, last: bool) -> int:
    """How far the lines of a segment are complete; the last line of one that grows no more counts as well."""
    size = segment.size
    if not size or not last or segment.mark.endswith(b"\n"):
        return size
    return line_start(segment.file, size - 1)
