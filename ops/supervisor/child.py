"""Runs a command in a process group of its own, which is ended at a deadline."""

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

GRACE_S = 20.0
"""Time between SIGTERM and SIGKILL."""

MAX_OUTPUT_BYTES = 20_000_000
"""Output beyond this is dropped: a run that repeats itself must not fill the disk."""

_TAIL_BYTES = 4096
_LOOK_EVERY_S = 0.5

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChildResult:
    """The result of a child process: exit code (negative: a signal), whether it hit its deadline, and its last line."""

    exit_code: int
    timed_out: bool
    last_line: str


def run_child(
    command: Sequence[str],
    *,
    cwd: Path,
    environ: Mapping[str, str],
    output_path: Path,
    deadline_s: float,
    on_alive: Callable[[], None],
    alive_every_s: float,
    held_fds: Sequence[int] = (),
    max_output_bytes: int = MAX_OUTPUT_BYTES,
) -> ChildResult:
    """Run a command in a session of its own until it ends or `deadline_s` is over; no process of it survives.

    Its output replaces `output_path`, which starts again beyond `max_output_bytes`. `on_alive` is called every
    `alive_every_s` while it runs; an exception from it or a signal ends the child, too. Raises OSError if the command
    cannot be started.
    """
    output_path.write_bytes(b"")
    with output_path.open("ab") as output:  # a child that appends goes on at the end of a file that was cut
        child = subprocess.Popen(
            command,
            cwd=cwd,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=held_fds,
            start_new_session=True,
        )
    try:
        bound = partial(_cut, output_path, max_output_bytes)
        timed_out = not _wait(child, time.monotonic() + deadline_s, on_alive, alive_every_s, bound)
    finally:
        end_group(child)
    return ChildResult(child.returncode, timed_out, _last_line(output_path))


def _wait(
    child: "subprocess.Popen[bytes]",
    deadline: float,
    on_alive: Callable[[], None],
    every_s: float,
    bound: Callable[[], None],
) -> bool:
    """Whether the child ended before its deadline."""
    alive_at = time.monotonic() + every_s
    while (left_s := deadline - time.monotonic()) > 0:
        with suppress(subprocess.TimeoutExpired):
            child.wait(min(left_s, every_s, _LOOK_EVERY_S))
            return True
        bound()
        if time.monotonic() >= alive_at:
            on_alive()
            alive_at = time.monotonic() + every_s
    return False


def _cut(path: Path, max_bytes: int) -> None:
    """Empty a file that has grown beyond `max_bytes`, but for a line that says so."""
    if path.stat().st_size > max_bytes:
        os.truncate(path, 0)
        with path.open("ab") as output:
            output.write(f"(more than {max_bytes:,} bytes of output: what stood here was dropped)\n".encode())


def end_group(child: "subprocess.Popen[bytes]") -> None:
    """End a child and its process group: SIGTERM first, then SIGKILL."""
    if child.poll() is None:
        log.warning("ending a run", extra={"pid": child.pid})
        signal_group(child.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            child.wait(GRACE_S)
        # `just` may end before the run under it has recorded that it was interrupted.
        end = time.monotonic() + GRACE_S
        while _group_exists(child.pid) and time.monotonic() < end:
            time.sleep(0.05)
    signal_group(child.pid, signal.SIGKILL)
    child.wait()


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def signal_group(group: int, number: signal.Signals) -> None:
    """Send a signal to a process group, if it still exists and is not our own."""
    if group != os.getpgrp():
        with suppress(ProcessLookupError):
            os.killpg(group, number)


def _last_line(path: Path) -> str:
    with path.open("rb") as output:
        output.seek(max(path.stat().st_size - _TAIL_BYTES, 0))
        lines = output.read().decode(errors="replace").splitlines()
    # `just` adds a line of its own about the failed command.
    texts = (line.strip() for line in reversed(lines) if not line.startswith("error: recipe `"))
    return next(filter(None, texts), "")
