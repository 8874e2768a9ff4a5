"""A terminal application in our own pty: what it writes, when, and how soon it answers a key."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_ESCAPE = re.compile(rb"\x1b(?:\[[0-9;?<>=!]*[a-zA-Z]|[()].|[=>78]|\][^\x07]*\x07|P[^\x1b]*\x1b\\)")
_END_S = 5.0


class PtyApp:
    """A process in a pseudo-terminal that we control."""

    def __init__(self, pid: int, terminal: int, began: float) -> None:
        self.pid = pid
        self._terminal = terminal
        self._began = began

    def wait_for(self, text: str, timeout_s: float) -> float:
        """Seconds from exec until the terminal has been sent `text`; raises TimeoutError."""
        seen = b""
        while time.monotonic() - self._began < timeout_s:
            seen += self._read(0.05)
            if text.encode() in _ESCAPE.sub(b"", seen):
                return time.monotonic() - self._began
        raise TimeoutError(f"{text!r} did not appear within {timeout_s} s")

    def drain(self, seconds: float) -> int:
        """Read for so long; returns how many bytes were written."""
        until, count = time.monotonic() + seconds, 0
        while (left := until - time.monotonic()) > 0:
            count += len(self._read(min(left, 0.5)))
        return count

    def answer_to(self, key: bytes, timeout_s: float) -> float:
        """Seconds from a key to the first byte written after it; raises TimeoutError."""
        began = time.monotonic()
        os.write(self._terminal, key)
        if not self._read(timeout_s):
            raise TimeoutError(f"no answer to {key!r} within {timeout_s} s")
        return time.monotonic() - began

    def send(self, keys: bytes) -> None:
        os.write(self._terminal, keys)

    def _read(self, timeout_s: float) -> bytes:
        ready, _, _ = select.select([self._terminal], [], [], timeout_s)
        try:
            return os.read(self._terminal, 1 << 16) if ready else b""
        except OSError:
            return b""


@contextmanager
def started(
    command: Sequence[str], environ: dict[str, str], *, columns: int = 100, lines: int = 30
) -> Iterator[PtyApp]:
    """Start an application in a terminal of that size; it is ended afterwards."""
    began = time.monotonic()
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(command[0], list(command), environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor"})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    try:
        yield PtyApp(pid, terminal, began)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.close(terminal)
        os.waitpid(pid, 0)
