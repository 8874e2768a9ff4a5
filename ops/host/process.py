"""Identifies a process by its pid and start time, so that a recycled pid is never mistaken for it."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """A process on this machine; `started` is `<boot id>/<start, clock ticks>`, empty without /proc."""

    pid: int
    started: str

    def is_alive(self) -> bool:
        """Whether this process is still running; a zombie, or another process with its pid, does not count."""
        if self.started:
            return _start_of(self.pid) == self.started
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    def interrupt(self) -> bool:
        """Send SIGINT to this process, never to another with its pid; False if it is gone or not ours."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            # The handle refers to the process that has the pid now; check that it is still the same process.
            if not self.is_alive():
                return False
            signal.pidfd_send_signal(handle, signal.SIGINT)
        except (ProcessLookupError, PermissionError):
            return False
        finally:
            os.close(handle)
        return True


def this_process() -> Process:
    """The current process."""
    pid = os.getpid()
    return Process(pid=pid, started=_start_of(pid) or "")


def _start_of(pid: int) -> str | None:
    """The start of process `pid`, None if it does not run (proc(5): field 3 is the state, 22 the start time)."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
        boot_id = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command name is in parentheses and may itself contain `) `.
    state, *rest = stat.rpartition(")")[2].split()
    return None if state in "ZX" else f"{boot_id}/{rest[18]}"


def restrict_umask() -> None:
    """Restrict the umask: only the owner may write to the files of this process and its children."""
    os.umask(os.umask(0o077) | 0o022)
