"""A sparse index of a growing file: one entry of 16 bytes per chunk of 1 MiB."""

import os
from array import array
from bisect import bisect_left
from math import isnan, nan

from tui.logs.lines import CHUNK_BYTES, OpenFile
from tui.logs.times import first_time

_TIME_BYTES = 64 << 10
_CHUNKS_WITHOUT_TIME = 64


class SparseIndex:
    """The number of newlines before each chunk, and its first timestamp; one thread advances it, others read."""

    def __init__(self) -> None:
        self.indexed_bytes = 0
        self.newlines = 0
        self._newlines_before = array("Q")
        self._times = array("d")
        self._buffer = bytearray(0)

    def advance(self, file: OpenFile, size: int) -> None:
        """Index one more chunk, at most up to `size`."""
        chunk = self.indexed_bytes // CHUNK_BYTES
        start, stop = self.indexed_bytes, min((chunk + 1) * CHUNK_BYTES, size)
        if not self._buffer:
            # One buffer for all chunks: allocating per chunk costs more than counting.
            self._buffer = bytearray(CHUNK_BYTES)
        with memoryview(self._buffer) as view:
            length = os.preadv(file.fd, [view[: stop - start]], start)
        if chunk == len(self._newlines_before):
            self._times.append(nan)
            self._newlines_before.append(self.newlines)
        if isnan(self._times[chunk]):
            self._times[chunk] = _first_time_in(file, chunk, start + length)
        self.newlines += self._buffer.count(b"\n", 0, length)
        # A read of 0 bytes means that the file was truncated meanwhile.
        self.indexed_bytes = start + length if length else size
        if self.indexed_bytes >= size:
            self._buffer = bytearray(0)

    def line_number(self, file: OpenFile, offset: int) -> int | None:
        """Return the number (from 1) of the line that starts at `offset`; None if that is not indexed yet."""
        chunk = offset // CHUNK_BYTES
        if offset > self.indexed_bytes or chunk >= len(self._newlines_before):
            return 1 if offset == 0 else None
        return self._newlines_before[chunk] + file.read(chunk * CHUNK_BYTES, offset).count(b"\n") + 1

    def line_offset(self, file: OpenFile, number: int) -> int | None:
        """Return the offset of a line number; None if it is not indexed yet or does not exist."""
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
        """Return the last chunk that starts before `moment`; the first line at or after it is there or in the next one.

        Bisects. Chunks that are not indexed yet are read from the file, so this does not wait for the index.
        """
        chunks = range(-(-size // CHUNK_BYTES))
        found = bisect_left(chunks, moment, key=lambda chunk: self._time_from(file, chunk, chunks.stop))
        return max(found - 1, 0)

    def _time_from(self, file: OpenFile, chunk: int, end: int) -> float:
        """Return the first timestamp in a chunk, or in a later one if it has none (a very long traceback)."""
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
