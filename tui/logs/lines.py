"""Files as lines, read by position only: what a line is, also in a file that hardly has any.

A line ends after a newline. Where a whole chunk holds none (a dump, a file of zeros), its end is an end as
well: so no question about a line reads more than two chunks, however long the "line" is.
"""

import errno
import os
import stat
import weakref
from pathlib import Path

CHUNK_BYTES = 1 << 20
_FIRST_STEP_BYTES = 4 << 10
_STEP_BYTES = 256 << 10


class OpenFile:
    """A regular file that stays open, and so readable after it was renamed or deleted, while it is referred to.

    Opening raises OSError, also for what is not a regular file.
    """

    def __init__(self, path: Path) -> None:
        # Without O_NONBLOCK, opening a pipe would wait for somebody to write to it.
        self._hold(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
        if not stat.S_ISREG(self.status().st_mode):
            self.close()
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))

    @classmethod
    def of(cls, fd: int) -> "OpenFile":
        """A file that is open already; it is closed with this."""
        file = cls.__new__(cls)
        file._hold(fd)
        return file

    def _hold(self, fd: int) -> None:
        self.fd = fd
        self.close = weakref.finalize(self, os.close, fd)

    def status(self) -> os.stat_result:
        return os.fstat(self.fd)

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` up to `stop`, fewer where the file ends before."""
        return os.pread(self.fd, max(stop - start, 0), start)


def line_start(file: OpenFile, at: int) -> int:
    """Where the line begins that holds the byte `at`."""
    chunk = at - at % CHUNK_BYTES
    newline = _last_newline(file, chunk, at)
    if newline is None and chunk:
        newline = _last_newline(file, chunk - CHUNK_BYTES, chunk)
    return chunk if newline is None else newline + 1


def line_stop(file: OpenFile, start: int, size: int) -> int:
    """Where the line that begins at `start` ends, its newline included, in a file of `size` bytes."""
    chunk = start - start % CHUNK_BYTES
    limit = min(size, chunk + (CHUNK_BYTES if start == chunk else 2 * CHUNK_BYTES))
    step, at = _FIRST_STEP_BYTES, start
    while at < limit:
        block = file.read(at, min(at + step, limit))
        if not block:
            return at
        if (found := block.find(b"\n")) >= 0:
            return at + found + 1
        at, step = at + len(block), _STEP_BYTES
    return limit


def is_whole(file: OpenFile, start: int) -> bool:
    """Whether a line really begins at `start`, and not the rest of one that is longer than a chunk."""
    return start == 0 or file.read(start - 1, start) == b"\n"


def _last_newline(file: OpenFile, start: int, stop: int) -> int | None:
    step, at = _FIRST_STEP_BYTES, stop
    while at > start:
        block_start = max(at - step, start)
        if (found := file.read(block_start, at).rfind(b"\n")) >= 0:
            return block_start + found
        at, step = block_start, _STEP_BYTES
    return None
