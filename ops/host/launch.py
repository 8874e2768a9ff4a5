"""Starts `materia` as a separate process that outlives its parent."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dataflows.errors import MateriaError
from ops.config.settings import Settings

_OUTPUT_SHOWN_BYTES = 4_096
_LOW_PRIORITY = 10
_COMMAND = "from ops.cli import main; raise SystemExit(main())"


@dataclass(frozen=True)
class LaunchedCommand:
    """A started command: its process and its output file."""

    arguments: tuple[str, ...]
    process: "subprocess.Popen[bytes]"
    output_path: Path
    output_from_bytes: int

    def wait(self) -> int:
        """Wait until it ends; returns its exit code."""
        return self.process.wait()

    def last_line(self) -> str:
        """The last line of its output; empty if there is none or the output file was moved."""
        try:
            with self.output_path.open("rb") as output:
                end = output.seek(0, os.SEEK_END)
                output.seek(max(self.output_from_bytes, end - _OUTPUT_SHOWN_BYTES))
                lines = output.read().decode(errors="replace").strip().splitlines()
        except FileNotFoundError:
            return ""
        return lines[-1] if lines else ""


def last_line_of(arguments: Sequence[str], settings: Settings, timeout_s: float) -> str:
    """Run `materia ARGUMENTS` at low priority and return the last line it prints.

    For what must not stay in this process, such as DuckDB's memory. Raises MateriaError with its last error line.
    """
    places = {"MATERIA_DATA_DIR": settings.data_dir, "SERVING_DUCKDB_PATH": settings.serving_path}
    with subprocess.Popen(
        [sys.executable, "-c", _COMMAND, *arguments],
        env=os.environ | {name: str(path) for name, path in places.items()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.setpriority(os.PRIO_PROCESS, process.pid, _LOW_PRIORITY)
        try:
            output, errors = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise MateriaError(f"{command_text(arguments)} did not end within {timeout_s:.0f} s") from None
    lines = (output if process.returncode == 0 else errors).strip().splitlines() or [f"exit {process.returncode}"]
    if process.returncode != 0:
        raise MateriaError(f"{command_text(arguments)} failed: {lines[-1]}")
    return lines[-1]


def command_text(arguments: Sequence[str]) -> str:
    """The command line as text."""
    import shlex

    return shlex.join(["materia", *arguments])


def launch(arguments: Sequence[str], settings: Settings) -> LaunchedCommand:
    """Start `materia ARGUMENTS` in a session of its own, so that signals and the end of this terminal do not reach it.

    Its output is appended to `console.log` in the log directory.
    """
    settings.log_dir.mkdir(parents=True, exist_ok=True)
    output_path = settings.log_dir / "console.log"
    with output_path.open("ab") as output:
        started_at = output.tell()
        process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return LaunchedCommand(tuple(arguments), process, output_path, started_at)
