"""Scans a log for the lines of a filter in child processes: the newest lines first, then appended ones."""

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
    # Keep the memory of a chunk for the next one: allocating it again costs more than the search.
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(64 << 20),
}
"""The whole environment of a scan process; it contains no secrets."""


@dataclass
class _Stretch:
    """The matching lines that start between `start` and `stop` in one chunk; their offsets are in a spool file."""

    start: int
    stop: int
    count: int
    spool: OpenFile
    spool_at: int

    def place(self, number: int) -> int:
        data = self.spool.read(self.spool_at + 4 * number, self.spool_at + 4 * number + 4)
        return self._base + int.from_bytes(data, sys.byteorder)

    def number_of(self, offset: int) -> int:
        """Return how many of its matches start before `offset`."""
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
    """The matching lines of one segment within the scanned range `known_from` to `known_to`."""

    def __init__(self, known_from: int) -> None:
        self.known_from = self.known_to = known_from
        self.count = 0
        self._stretches: list[_Stretch] = []  # with matches, in order
        self._pending: dict[int, _Stretch] = {}  # scanned before the range that follows it, by stop
        self._lock = threading.Lock()

    def add(self, stretch: _Stretch) -> None:
        """Add a scanned stretch; it becomes visible once everything between it and the known range is scanned."""
        with self._lock:
            if stretch.start >= self.known_to:
                self.known_to = stretch.stop
                self._append(stretch)
                return
            self._pending[stretch.stop] = stretch
            while known := self._pending.pop(self.known_from, None):
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
            # Merge, so that a log that grows line by line does not need an entry per line.
            last.stop, last.count = stretch.stop, last.count + stretch.count
        else:
            self._stretches.append(stretch)

    def after(self, offset: int) -> int | None:
        """Return the first known match that starts at or after `offset`."""
        with self._lock:
            at = bisect_right(self._stretches, offset, key=lambda stretch: stretch.stop)
            for stretch in self._stretches[at : at + 2]:
                if (number := stretch.number_of(offset)) < stretch.count:
                    return stretch.place(number)
            return None

    def before(self, offset: int) -> int | None:
        """Return the last known match that starts before `offset`."""
        with self._lock:
            at = bisect_left(self._stretches, offset, key=lambda stretch: stretch.start)
            for stretch in reversed(self._stretches[max(at - 2, 0) : at]):
                if number := stretch.number_of(offset):
                    return stretch.place(number - 1)
            return None

    def number_before(self, offset: int) -> int:
        """Return how many known matches start before `offset`."""
        with self._lock:
            at = bisect_left(self._stretches, offset, key=lambda stretch: stretch.start)
            whole = sum(stretch.count for stretch in self._stretches[: max(at - 1, 0)])
            return whole + sum(stretch.number_of(offset) for stretch in self._stretches[max(at - 1, 0) : at])


class Scan:
    """Scans segments for `line_filter`; calls `changed` from its own threads when more is known."""

    def __init__(self, line_filter: LineFilter, segments: Iterable[Segment], changed: Callable[[], None]) -> None:
        self.line_filter = line_filter
        self.error = ""
        self._changed = changed
        newest_first = sorted(segments, key=lambda segment: -segment.serial)
        stops = {
            segment.serial: _complete_bytes(segment, last=number == 0) for number, segment in enumerate(newest_first)
        }
        self._total_bytes = sum(stops.values())
        self._matches = {serial: Matches(stop) for serial, stop in stops.items()}
        self._requested_to = dict(stops)
        self._present = frozenset(stops)
        self._unfinished = min(_CHILDREN, -(-self._total_bytes // CHUNK_BYTES))
        self._children: list[_ScanProcess] = []
        self._follower: _ScanProcess | None = None
        self._following = self._closed = False
        self._lock = threading.Lock()
        # In a thread: starting processes would delay key input.
        threading.Thread(
            target=self._start_processes, args=(newest_first, stops), name="log-scan-begin", daemon=True
        ).start()

    def _start_processes(self, segments: list[Segment], stops: dict[int, int]) -> None:
        try:
            for turn in range(count := self._unfinished):
                child = self._start_process(forever=False)
                for segment in segments:
                    # Each of the two processes scans every other chunk, so that both start at the newest lines.
                    stop = stops[segment.serial]
                    if turn:
                        stop = ((stop - 1) // CHUNK_BYTES - turn + 1) * CHUNK_BYTES
                    if stop > 0:
                        child.ask(Request(segment.serial, 0, stop, count, True), segment)
                child.finish()
            self._follower = self._start_process(forever=True)
        except OSError as error:
            self._unfinished, self.error = 0, f"cannot start the search: {error}"
        self._changed()

    def _start_process(self, *, forever: bool) -> "_ScanProcess":
        child = _ScanProcess(
            self.line_filter, self._add_reports, lambda code: self._on_process_end(code, counts=not forever)
        )
        with self._lock:
            self._children.append(child)
            if self._closed:
                child.end()
        return child

    def of(self, segment: Segment) -> Matches | None:
        """Return the matches of a segment; None for a new segment that is not scanned yet."""
        return self._matches.get(segment.serial)

    def follow(self, segments: tuple[Segment, ...]) -> None:
        """Scan what was appended to the segments; returns at once.

        Requests one stretch at a time: call it again after every call of `changed`.
        """
        self._present = frozenset(segment.serial for segment in segments)
        for segment in segments:
            asked = self._requested_to.get(segment.serial, 0)
            stop = _complete_bytes(segment, last=segment is segments[-1])
            if stop <= asked or self.error or self._following or self._follower is None:
                continue
            self._following = True
            self._matches.setdefault(segment.serial, Matches(0))
            self._follower.ask(Request(segment.serial, asked, stop, 1, False), segment)
            self._requested_to[segment.serial] = stop

    @property
    def count(self) -> int:
        """The number of known matches in the present segments."""
        return sum(matches.count for serial, matches in self._matches.items() if serial in self._present)

    @property
    def finished(self) -> bool:
        """Whether everything that existed when the scan started is scanned."""
        return self._unfinished == 0

    @property
    def share(self) -> float:
        """The scanned share (0 to 1) of what existed when the scan started."""
        if self.finished or not self._total_bytes:
            return 1.0
        left = sum(matches.known_from for matches in self._matches.values())
        return max(0.0, 1 - left / self._total_bytes)

    def close(self) -> None:
        """Kill the processes; known matches stay available."""
        with self._lock:
            self._closed = True
            for child in self._children:
                child.end()

    def _add_reports(self, reports: list[Report], spool: OpenFile) -> None:
        for report in reports:
            if report.kind == FULL:
                self.error = "too many matches: narrow the search"
            elif report.kind == FINISHED:
                if not report.backward:
                    self._following = False
            else:
                stretch = _Stretch(report.start, report.stop, report.count, spool, report.spool_at)
                self._matches[report.segment].add(stretch)
        self._changed()

    def _on_process_end(self, code: int, *, counts: bool) -> None:
        with self._lock:
            self._unfinished -= counts
        if code and not self._closed:
            how = f"exit code {code}" if code > 0 else f"signal {-code}"
            self.error = f"the search process failed with {how}"
        self._changed()


class _ScanProcess:
    """A scan process, and the thread that reads its reports."""

    def __init__(
        self,
        line_filter: LineFilter,
        take: Callable[[list[Report], OpenFile], None],
        ended: Callable[[int], None],
    ) -> None:
        self._add_reports, self._ended = take, ended
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
        send_filter(self._channel, line_filter)
        threading.Thread(target=self._read, name="log-scan", daemon=True).start()

    def ask(self, request: Request, segment: Segment) -> None:
        """Send a request; ignored if the process has exited."""
        try:
            send_request(self._channel, request, segment.file.fd)
        except (BrokenPipeError, ConnectionResetError):
            self._process.poll()  # the reader thread reports the exit code

    def finish(self) -> None:
        """Let the process exit after it has answered all requests."""
        self._channel.shutdown(socket.SHUT_WR)

    def end(self) -> None:
        """Kill the process."""
        self._process.kill()

    def _read(self) -> None:
        data = b""
        try:
            while more := self._channel.recv(64 << 10):
                data += more
                whole = len(data) - len(data) % REPORT_BYTES
                if whole:
                    self._add_reports(list(reports_in(data[:whole])), self._spool)
                    data = data[whole:]
        except ConnectionResetError:
            data = b""  # the process exited with unread requests
        code = self._process.wait()
        self._channel.close()
        self._ended(code)


def _complete_bytes(segment: Segment, *, last: bool) -> int:
    """Return the size of the complete lines of a segment, including the last line if the segment no longer grows."""
    size = segment.size
    if not size or not last or segment.mark.endswith(b"\n"):
        return size
    return line_start(segment.file, size - 1)
