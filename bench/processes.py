"""Running whole commands and weighing them as the operating system does."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median


@dataclass(frozen=True)
class Weighed:
    """One finished command with all its children: wall and processor seconds, and the largest one's peak memory."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def weigh(command: Sequence[str], environ: Mapping[str, str] | None = None) -> Weighed:
    """Run a command to its end; raises CalledProcessError with what it said when it fails."""
    with tempfile.TemporaryFile() as said:
        started = time.perf_counter()
        child = subprocess.Popen(command, env={**os.environ, **(environ or {})}, stdout=said, stderr=said)
        _, status, usage = os.wait4(child.pid, 0)
        wall_s = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            said.seek(0)
            raise subprocess.CalledProcessError(child.returncode, command, said.read().decode()[-2000:])
    return Weighed(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


def materia(*arguments: str) -> list[str]:
    """The command `materia` of this environment."""
    return [str(Path(sys.executable).with_name("materia")), *arguments]


def median_wall_s(command: Sequence[str], environ: Mapping[str, str] | None = None, times: int = 5) -> float:
    """The median wall seconds of several runs."""
    return median(weigh(command, environ).wall_s for _ in range(times))
