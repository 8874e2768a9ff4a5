"""A sparse index of a file that grows: an entry per chunk, 16 bytes for each MiB."""

import os
from array import array
from bisect import bisect_left
from math import isnan, nan

from tui.logs.lines import CHUNK_BYTES, OpenFile
from tui.logs.times import first_time

_TIME_BYTES = 64 << 10
_CHUNKS_WITHOUT_TIME = 64


class SparseIndex:
    """How many newlines precede each chunk, and the first time in it; one thread advances it, others read."""

    def __init__(self) -> None:
        self.indexed_bytes = 0
        self.newlines = 0
        self._newlines_before = array("Q")
        self._times = array("d")
        self._buffer = bytearray(0)

    def advance(self, file: OpenFile, size: int) -> None:
        """Index up to the end of one more chunk, at most up to `size`."""
        chunk = self.indexed_bytes // CHUNK_BYTES
        start, stop = self.indexed_bytes, min((chunk + 1) * CHUNK_BYTES, size)
        if not self._buffer:
            # One buffer for all chunks: new memory for each would cost more than counting does.
            self._buffer = bytearray(CHUNK_BYTES)
        with memoryview(self._buffer) as view:
            length = os.preadv(file.fd, [view[: stop - start]], start)
        if chunk == len(self._newlines_before):
            self._times.append(nan)
            self._newlines_before.append(self.newlines)
        if isnan(self._times[chunk]):
            self._times[chunk] = _first_time_in(file, chunk, start + length)
        self.newlines += self._buffer.count(b"\n", 0, length)
        # A file that was cut short meanwhile has nothing more to give.
        self.indexed_bytes = start + length if length else size
        if self.indexed_bytes >= size:
            self._buffer = bytearray(0)

    def line_number(self, file: OpenFile, offset: int) -> int | None:
        """The number of the line that begins at `offset`, from 1; None while that is not indexed."""
        chunk = offset // CHUNK_BYTES
        if offset > self.indexed_bytes or chunk >= len(self._newlines_before):
            return 1 if offset == 0 else None
        return self._newlines_before[chunk] + file.read(chunk * CHUNK_BYTES, offset).count(b"\n") + 1

    def line_offset(self, file: OpenFile, number: int) -> int | None:
        """Where the line of that number begins; None while that is not indexed, or when there is none."""
        before = number - 1
        if before <= 0:
            return 0
        if before > self.newlines:
            return None
        chunk = bisect_left(self._newlines_before, before) - 1
        data = file.read(chunk * CHUNK_BYTES, (chunk + 1) * CHUNK_BYTES)
        at = -1
        for _ in range(before - self._newlines_before[chunk]):
            at = data.find(b"\n", at + 1)
        return chunk * CHUNK_BYTES + at + 1

    def chunk_at_time(self, file: OpenFile, size: int, moment: float) -> int:
        """The last chunk that begins before `moment`: the first line at that time or later begins in it or after it.

        Bisects; a chunk that is not indexed yet is looked at in the file, so nobody waits for the index.
        """
        chunks = range(-(-size // CHUNK_BYTES))
        found = bisect_left(chunks, moment, key=lambda chunk: self._time_from(file, chunk, chunks.stop))
        return max(found - 1, 0)

    def _time_from(self, file: OpenFile, chunk: int, end: int) -> float:
        """The first time in a chunk, or in one of those after it when it has none (a very long traceback)."""
        for later in range(chunk, min(chunk + _CHUNKS_WITHOUT_TIME, end)):
            known = later < len(self._times) and not isnan(self._times[later])
            moment = self._times[later] if known else _first_time_in(file, later, (later + 1) * CHUNK_BYTES)
            if not isnan(moment):
                return moment
        return float("inf")


def _first_time_in(file: OpenFile, chunk: int, stop: int) -> float:
    start = chunk * CHUNK_BYTES
    data = file.read(start, min(stop, start + _TIME_BYTES))
    if chunk:
        data = data.partition(b"\n")[2]
    moment = first_time(data)
    return nan if moment is None else moment
