"""Running whole commands and weighing them as the operating system does."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil


@dataclass(frozen=True)
class Weighed:
    """One finished command with all its children: wall and processor seconds, and the largest one's peak memory."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def weigh(command: Sequence[str], environ: Mapping[str, str] | None = None) -> Weighed:
    """Run a command to its end; raises CalledProcessError with what it output when it fails."""
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        child = subprocess.Popen(command, env={**os.environ, **(environ or {})}, stdout=output, stderr=output)
        _, status, usage = os.wait4(child.pid, 0)
        wall_s = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            output.seek(0)
            raise subprocess.CalledProcessError(child.returncode, command, output.read().decode()[-2000:])
    return Weighed(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


@dataclass(frozen=True)
class Share:
    """What one process of several used: seconds of processor, and its own peak memory."""

    cpu_s: float = 0.0
    peak_mb: float = 0.0


class Tree:
    """The processes that this one started, and their children, each measured separately while they run.

    Linux keeps each one's peak, so only what happens in the last tenth of a second of a process may be missed.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[str, Share]] = {}
        self._done = threading.Event()
        self.peak_mb = 0.0
        """The largest sum of the memory of all of them at one moment, without what only mirrors files (RssAnon)."""

    def share(self, mark: str) -> Share:
        """What the processes used whose command line has `mark` in it: their sum, and the largest peak."""
        shares = [share for command, share in self._seen.values() if mark in command]
        return Share(sum(share.cpu_s for share in shares), max((share.peak_mb for share in shares), default=0.0))

    def watch(self) -> None:
        """Weigh, again and again, until `stop`."""
        while not self._done.wait(_EVERY_S):
            now_mb = 0.0
            for process in psutil.Process().children(recursive=True):
                pid = process.pid
                try:
                    self._seen[pid] = _command(pid), _share(pid)
                    now_mb += _status_mb(pid, "RssAnon")
                except (FileNotFoundError, ProcessLookupError, KeyError):
                    continue  # it has ended since
            self.peak_mb = max(self.peak_mb, now_mb)

    def stop(self) -> None:
        self._done.set()


_EVERY_S = 0.1


@contextmanager
def watched() -> Iterator[Tree]:
    """Weigh, one by one, every process that is started inside."""
    tree = Tree()
    with ThreadPoolExecutor(1) as executor:
        watching = executor.submit(tree.watch)
        try:
            yield tree
        finally:
            tree.stop()
        # Figures of a watch that failed midway would say that nothing was used.
        watching.result()


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


def _share(pid: int) -> Share:
    """Linux's own account (proc_pid_stat(5), proc_pid_status(5)); KeyError for a process that is a zombie."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    return Share(ticks / os.sysconf("SC_CLK_TCK"), _status_mb(pid, "VmHWM"))


def _status_mb(pid: int, name: str) -> float:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status[name].split()[0]) * 1024 / 1e6


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


def materia(*arguments: str) -> list[str]:
    """The command `materia` of this environment."""
    return [str(Path(sys.executable).with_name("materia")), *arguments]


def median_wall_s(command: Sequence[str], environ: Mapping[str, str] | None = None, times: int = 5) -> float:
    """The median wall seconds of several runs."""
    return median(weigh(command, environ).wall_s for _ in range(times))
