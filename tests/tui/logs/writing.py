"""Logs to read, and processes that write and rotate them."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tui.logs.follow import Follower

START = 1_795_294_800  # 2026-11-21T21:00:00Z


def event(number: int, level: str = "INFO", run: int = 1, text: str = "landed") -> str:
    """A line as ops.host.logs writes it, `number` seconds after START."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(START + number))
    return f"{stamp}.000Z {level} run={run} step=land {text} number={number}\n"


def wait_until(done: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def numbers_of(follower: Follower) -> list[int]:
    """The number on every line of every segment, oldest first."""
    found = []
    for segment in follower.segments:
        data = segment.file.read(0, segment.size)
        found.extend(int(line) for line in data.split())
    return found


def rotating_writer(path: Path, lines: int, every: int, way: str) -> "subprocess.Popen[bytes]":
    """A process that writes numbers a line each, and rotates the log every so many of them."""
    return subprocess.Popen([sys.executable, "-c", _WRITER, str(path), str(lines), str(every), way])


_WRITER = """
import os, shutil, sys, time
path, lines, every, way = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
log, turn = open(path, "a"), 0
for number in range(lines):
    log.write(f"{number}\\n")
    if number % 500 == 499:
        log.flush()
    if number % every == every - 1 and number < lines - 1:
        log.flush()
        turn += 1
        if way == "copytruncate":
            time.sleep(0.02)
            shutil.copyfile(path, f"{path}.{turn}")
            os.truncate(path, 0)
        else:
            for old in range(turn - 1, 0, -1):
                os.rename(f"{path}.{old}", f"{path}.{old + 1}")
            os.rename(path, f"{path}.1")
            log.close()
            log = open(path, "a")
log.close()
"""
