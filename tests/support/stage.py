"""A stage on which an act is played, watched call by call, and struck: killed, or told that the disk is full.

The stage is one process that has everything imported; every act is a fork of it, so that a kill costs what the act
costs and no more. What the act starts, it really starts: SQLMesh's process, the verification's.
"""

import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from ops.config.settings import PROJECT_DIR
from tests.support.watched_calls import GROWING, Call, allow, hold_changing_calls, next_call, process_of, refuse

_ACT_TIMEOUT_S = 300.0
_DELIVERY_S = 0.05
"""How long what was sent takes to be dealt with on loopback; no invariant depends on it."""


@dataclass(frozen=True)
class Act:
    """What is played: `materia` with arguments, or a function of tests/torture/crash/acts.py with its own."""

    arguments: tuple[str, ...]
    environ: Mapping[str, str] = field(repr=False)
    name: str = "materia"


@dataclass(frozen=True)
class Strike:
    """What happens to an act at its step number `at`, or `after_s` seconds after it began."""

    how: str
    """`all`: everything is killed; `main`, `child`: only the act's own process, only the one it started that makes
    the step; `sent`: everything, just after the step happened; `full`, `read-only`: the disk is, from then on."""
    at: int | None = None
    after_s: float | None = None


@dataclass(frozen=True)
class Step:
    """A change to a file of the data directory, or something sent over a socket."""

    name: str
    target: str
    by_child: bool

    def __str__(self) -> str:
        return f"{self.name} {self.target}{' (a child)' if self.by_child else ''}"


@dataclass(frozen=True)
class Played:
    """How an act went."""

    exit_code: int
    """Negative: the signal that ended it."""
    steps: tuple[Step, ...]
    struck: Step | None
    output: str
    took_s: float

    @property
    def last_steps(self) -> str:
        """For messages."""
        return " · ".join(str(step) for step in deque(self.steps, 4))


class Stage:
    """Plays acts, one at a time. `folder` is for what they print."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._here, there = socket.socketpair()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.stage", str(there.fileno())],
            cwd=PROJECT_DIR,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            pass_fds=(there.fileno(),),
        )
        there.close()
        self._here.settimeout(_ACT_TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._here.close()
        self._process.wait(30)

    def play(self, act: Act, root: Path, strike: Strike | None = None) -> Played:
        """Play an act to its end, and to that of everything it started. Changes below `root` are its steps."""
        output = self._folder / "output"
        order = {"name": act.name, "arguments": act.arguments, "environ": dict(act.environ), "output": str(output)}
        self._here.sendall(json.dumps(order).encode() + b"\n")
        message, handles, _, _ = socket.recv_fds(self._here, 64, 1)
        watch = _Watch(handles[0], int(message), root, strike)
        try:
            watch.follow()
        finally:
            os.close(handles[0])
        watch.await_the_end()
        exit_code = int(self._here.recv(64))
        took_s = time.monotonic() - watch.started_at
        return Played(exit_code, tuple(watch.steps), watch.struck, output.read_text(errors="replace"), took_s)


class _Watch:
    """Follows one act through the calls that wait for it."""

    def __init__(self, listener: int, main: int, root: Path, strike: Strike | None) -> None:
        self.steps: list[Step] = []
        self.struck: Step | None = None
        self.started_at = time.monotonic()
        self._listener, self._main = listener, main
        self._root = os.path.realpath(root)
        self._strike = strike
        self._processes: set[int] = {main}

    def follow(self) -> None:
        """Decide about every call until no process is left that could make one."""
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        while True:
            events = poll.poll(self._patience_ms())
            if events and events[0][1] & select.POLLIN:
                call = next_call(self._listener)
                if call is not None:
                    self._decide(call)
            elif events:
                return
            elif time.monotonic() - self.started_at > _ACT_TIMEOUT_S:
                self._kill(*self._everybody())
            else:
                self._strike_in_time()

    def await_the_end(self) -> None:
        """The kernel says that nobody can call any more a moment before it closes their files, and frees the lock."""
        while any(_is_running(process) for process in self._processes):
            time.sleep(0.002)

    def _decide(self, call: Call) -> None:
        process = process_of(call.thread)
        step = self._step(call, process)
        if step is None:
            allow(self._listener, call)
            return
        self.steps.append(step)
        strike = self._strike
        due = strike is not None and strike.at is not None and len(self.steps) >= strike.at
        if due and strike.how in ("full", "read-only"):
            self._starve(call, step, strike.how)
        elif due and self.struck is None and not (strike.how == "child" and not step.by_child):
            self.struck = step
            if strike.how == "sent":
                allow(self._listener, call)
                time.sleep(_DELIVERY_S)
            if strike.how == "main":
                self._kill(self._main)
            elif strike.how == "child":
                self._kill(process)
            else:
                self._kill(*self._everybody())
        else:
            allow(self._listener, call)

    def _starve(self, call: Call, step: Step, how: str) -> None:
        refused = call.name in GROWING if how == "full" else call.name != "sendto"
        if not refused:
            allow(self._listener, call)
            return
        self.struck = self.struck or step
        refuse(self._listener, call, errno.ENOSPC if how == "full" else errno.EROFS)

    def _step(self, call: Call, process: int | None) -> Step | None:
        if process is not None:
            self._processes.add(process)
        by_child = process != self._main
        if call.target.startswith("socket:"):
            return Step(call.name, "a socket", by_child) if call.name == "sendto" else None
        target = os.path.normpath(call.target)
        if target != self._root and not target.startswith(self._root + os.sep):
            return None
        return Step(call.name, os.path.relpath(target, self._root), by_child)

    def _strike_in_time(self) -> None:
        waits = self._strike is not None and self._strike.after_s is not None and self.struck is None
        if waits and time.monotonic() - self.started_at >= self._strike.after_s:
            self.struck = Step("at", f"{self._strike.after_s:.2f} s", False)
            self._kill(*self._everybody())

    def _patience_ms(self) -> float:
        if self._strike and self._strike.after_s is not None and self.struck is None:
            return max((self.started_at + self._strike.after_s - time.monotonic()) * 1000, 0) + 1
        return 500

    def _everybody(self) -> list[int]:
        """The act's process first: what it would say of a child's death is not to be said."""
        # One that has called nothing yet may hold the lock as well: its end is awaited, too.
        self._processes |= _descendants(self._main)
        return [self._main, *sorted(self._processes - {self._main})]

    def _kill(self, *processes: int | None) -> None:
        for process in processes:
            if process is not None:
                _kill(process)


def _descendants(process: int) -> set[int]:
    found: set[int] = set()
    try:
        text = "".join(path.read_text() for path in Path(f"/proc/{process}/task").glob("*/children"))
    except (FileNotFoundError, ProcessLookupError):
        return found
    for child in map(int, text.split()):
        found |= {child} | _descendants(child)
    return found


def _is_running(process: int) -> bool:
    """Whether any thread of it is left: its files are open for as long."""
    try:
        stats = [path.read_text() for path in Path(f"/proc/{process}/task").glob("*/stat")]
    except (FileNotFoundError, ProcessLookupError):
        return True  # just going
    return any(stat.rpartition(")")[2].split()[0] not in "ZX" for stat in stats)


def _kill(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return


def main(handle: int) -> None:
    """The stage's own process: reads orders, forks for each, and tells how the fork ended."""
    _import_everything()
    conversation = socket.socket(fileno=handle)
    orders = conversation.makefile("r")
    for line in orders:
        order = json.loads(line)
        act = os.fork()
        if act == 0:
            _perform(conversation, order)
        conversation.sendall(f"{os.waitstatus_to_exitcode(os.waitpid(act, 0)[1])}".encode())


def _import_everything() -> None:
    from dataflows import driver, export, extract
    from ops.cli import COMMANDS, materia
    from ops.host.version import code_version
    from tests.torture.crash import acts  # noqa: F401

    code_version()
    driver.build(extract)
    driver.build(export)
    for name in COMMANDS:
        materia.get_command(None, name)


def _perform(conversation: socket.socket, order: Mapping[str, object]) -> None:
    """In the fork: play the act where calls wait, and end as a program ends."""
    code = 70
    try:
        output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.update(order["environ"])
        listener = hold_changing_calls()
        socket.send_fds(conversation, [str(os.getpid()).encode()], [listener])
        os.close(listener)
        from tests.torture.crash import acts

        code = getattr(acts, order["name"])(*order["arguments"])
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    main(int(sys.argv[1]))
