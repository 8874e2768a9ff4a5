"""Reads lines of a file by position, with a bounded cost for extremely long lines.

A line ends after a newline. A chunk without a newline (a dump, a file of zeros) also ends a line, so finding a line's
start or end never reads more than two chunks.
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
    """A regular file that stays open while it is referenced, so it is readable after it was renamed or deleted.

    Opening raises OSError, also if the path is not a regular file.
    """

    def __init__(self, path: Path) -> None:
        # Without O_NONBLOCK, opening a pipe would block until it has a writer.
        self._own_fd(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
        if not stat.S_ISREG(self.status().st_mode):
            self.close()
            raise OSError(errno.EINVAL, "not a regular file", str(path))

    @classmethod
    def of(cls, fd: int) -> "OpenFile":
        """Wrap an open file descriptor, which this object then closes."""
        file = cls.__new__(cls)
        file._own_fd(fd)
        return file

    def _own_fd(self, fd: int) -> None:
        self.fd = fd
        self.close = weakref.finalize(self, os.close, fd)

    def status(self) -> os.stat_result:
        return os.fstat(self.fd)

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from `start` to `stop`, fewer at the end of the file."""
        return os.pread(self.fd, max(stop - start, 0), start)


def line_start(file: OpenFile, at: int) -> int:
    """Return the start of the line that contains the byte `at`."""
    chunk = at - at % CHUNK_BYTES
    newline = _last_newline(file, chunk, at)
    if newline is None and chunk:
        newline = _last_newline(file, chunk - CHUNK_BYTES, chunk)
    return chunk if newline is None else newline + 1


def line_stop(file: OpenFile, start: int, size: int) -> int:
    """Return the end (including the newline) of the line that starts at `start`, in a file of `size` bytes."""
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


def is_line_start(file: OpenFile, start: int) -> bool:
    """Whether a line starts at `start`, as opposed to the rest of a line longer than a chunk."""
    return start == 0 or file.read(start - 1, start) == b"\n"


def _last_newline(file: OpenFile, start: int, stop: int) -> int | None:
    step, at = _FIRST_STEP_BYTES, stop
    while at > start:
        block_start = max(at - step, start)
        if (found := file.read(block_start, at).rfind(b"\n")) >= 0:
            return block_start + found
        at, step = block_start, _STEP_BYTES
    return None
