"""Which process is it: a pid together with when it started, so that a recycled pid is never mistaken."""

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
        """Whether this very process still runs; a zombie, or another process under its pid, is not it."""
        if self.started:
            return _started(self.pid) == self.started
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    def interrupt(self) -> bool:
        """Send SIGINT to this very process, never to another under its pid; False when it is gone or not ours."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            # The handle holds on to whatever has the pid now: if that is us, it is us that gets the signal.
            if not self.is_alive():
                return False
            signal.pidfd_send_signal(handle, signal.SIGINT)
        except (ProcessLookupError, PermissionError):
            return False
        finally:
            os.close(handle)
        return True


def this_process() -> Process:
    """The process that asks."""
    pid = os.getpid()
    return Process(pid=pid, started=_started(pid) or "")


def _started(pid: int) -> str | None:
    """When `pid` started, or None when no such process runs (proc(5): field 3 is the state, 22 the start)."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
        boot_id = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name stands in parentheses and may itself hold any of `) `.
    state, *rest = stat.rpartition(")")[2].split()
    return None if state in "ZX" else f"{boot_id}/{rest[18]}"


def only_the_owner_writes() -> None:
    """Restrict the umask: only the owner may write to the files of this process and its children."""
    os.umask(os.umask(0o077) | 0o022)
