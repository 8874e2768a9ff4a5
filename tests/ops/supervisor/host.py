"""A host for `supervisor.sh`: a scratch MATERIA_HOME, a real git remote, and a project that installs at once.

The script, git, flock and every process are real. Of the project only what the script calls is here: `ops/install.sh`
puts the commit's own `materia` into its .venv, and that program does what files of the commit tell it.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.needs import require_tool

SCRIPT = Path(__file__).parents[3] / "ops" / "supervisor" / "supervisor.sh"

INSTALL = """#!/bin/sh
tree=$(dirname "$(dirname "$0")")
[ ! -e "$tree/install-fails" ] || { echo "no version of duckdb matches" >&2; exit 1; }
[ ! -e "$tree/install-hangs" ] || sleep 600
mkdir -p "$tree/.venv/bin" && cp "$tree/materia.sh" "$tree/.venv/bin/materia" && chmod +x "$tree/.venv/bin/materia"
"""

MATERIA = """#!/bin/sh
tree=$(dirname "$(dirname "$(dirname "$0")")")
case $* in
    doctor) [ ! -e "$tree/doctor-fails" ] || { echo "versions: duckdb is broken"; exit 1; } ;;
    'status --json')
        echo '{}'
        [ ! -e "$tree/status-fails" ] || { echo "error: no such table" >&2; exit 1; }
        exit 3 ;;
    'supervisor tick --dry-run') [ ! -e "$tree/dry-tick-fails" ] || { echo "error: TypeError" >&2; exit 1; } ;;
    'supervisor tick')
        [ ! -e "$tree/tick-hangs" ] || exec sleep 600
        for second in $(cat "$MATERIA_DATA_DIR/seconds" 2>/dev/null); do
            touch "$MATERIA_DATA_DIR/supervisor/heartbeat.json"; sleep "$second"
        done
        [ ! -e "$tree/tick-fails" ] || { echo "error: a column is missing" >&2; exit 1; }
        [ ! -e "$MATERIA_DATA_DIR/ticks-fail" ] || exit 1
        [ -z "${GITLAB_READ_TOKEN-}" ] || echo "$GITLAB_READ_TOKEN" >> "$MATERIA_DATA_DIR/leaked"
        echo "$(basename "$tree") $(cat "$tree/version")" >> "$MATERIA_DATA_DIR/ticks" ;;
esac
"""

MARKS = ("install-fails", "install-hangs", "doctor-fails", "status-fails", "dry-tick-fails", "tick-fails", "tick-hangs")
"""Files of a commit that make the step of that name fail."""

QUIET_GIT = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.org",
}


def until(is_so: Callable[[], object], what: str, timeout_s: float = 30.0) -> None:
    """Wait until it is so; fails saying `what` was waited for."""
    end = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < end, f"still not so after {timeout_s} s: {what}"
        time.sleep(0.02)


@dataclass
class Host:
    """The scratch host, its remote and the supervisor.sh that runs on it, if any."""

    root: Path
    remote_url: str = ""
    extra: dict[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[str] | None" = None

    def __post_init__(self) -> None:
        require_tool("git")
        self.home, self.data, self.remote = self.root / "home", self.root / "data", self.root / "remote"
        for folder in (self.home, self.data, self.remote / "ops"):
            folder.mkdir(parents=True)
        self.environ = os.environ | QUIET_GIT
        self.git("init", "--quiet", "--initial-branch=main")
        (self.remote / "materia.sh").write_text(MATERIA)
        (self.remote / "ops" / "install.sh").write_text(INSTALL)
        (self.remote / "ops" / "install.sh").chmod(0o755)
        self.remote_url = self.remote_url or str(self.remote)

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", self.remote, *arguments], env=self.environ, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def commit(self, version: str, *marks: str, amend: bool = False) -> str:
        """Commit a version of the project that has those mark files; with `amend`, rewriting history."""
        for mark in MARKS:
            (self.remote / mark).unlink(missing_ok=True)
        for mark in marks:
            (self.remote / mark).touch()
        (self.remote / "version").write_text(version)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", version, *(["--amend"] if amend else []))
        self.git("update-server-info")
        return self.git("rev-parse", "HEAD")

    def start(self, **environ: str) -> "subprocess.Popen[str]":
        """Start supervisor.sh in a session of its own, ticking all the time."""
        self.process = subprocess.Popen(
            [SCRIPT],
            env=self.environ
            | {
                "MATERIA_HOME": str(self.home),
                "MATERIA_DATA_DIR": str(self.data),
                "MATERIA_REMOTE": self.remote_url,
                "MATERIA_TICK_S": "0.1",
            }
            | self.extra
            | environ,
            stdout=subprocess.DEVNULL,
            stderr=(self.root / "output").open("a"),
            text=True,
            start_new_session=True,
        )
        return self.process

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it, and with SIGKILL all that it started; returns its exit code."""
        assert self.process is not None
        if number is signal.SIGKILL:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)
        code = self.process.wait(60)
        self.process = None
        return code

    def clear(self) -> None:
        if self.process is not None:
            self.stop(signal.SIGKILL)
        shutil.rmtree(self.root, ignore_errors=True)

    @property
    def current(self) -> str:
        """The commit that is in use; empty before the first."""
        link = self.home / "current"
        return link.readlink().name if link.is_symlink() else ""

    @property
    def refused(self) -> str:
        path = self.data / "supervisor" / "refused"
        return path.read_text() if path.exists() else ""

    @property
    def output(self) -> str:
        return (self.root / "output").read_text()

    @property
    def ticks(self) -> list[str]:
        """Commit and version of every tick so far."""
        path = self.data / "ticks"
        return path.read_text().splitlines() if path.exists() else []

    def reaches(self, commit: str) -> None:
        """Wait until that commit ticks."""
        until(lambda: self.ticks and self.ticks[-1].startswith(commit), f"commit {commit} ticks")

    def ticks_on(self, times: int = 3) -> None:
        """Wait for that many more ticks."""
        seen = len(self.ticks)
        until(lambda: len(self.ticks) >= seen + times, f"{times} more ticks")
