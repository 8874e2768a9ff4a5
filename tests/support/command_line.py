"""Runs the command line in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent
MATERIA = BIN / "materia"
HEAVY = (
    "hamilton",
    "sqlmesh",
    "pandas",
    "duckdb",
    "textual",
    "pyarrow",
    "pyiceberg",
    "boto3",
    "httpx",
    "rich",
    "numpy",
)


def materia(
    data_dir: Path, *arguments: str, stdin: str = "", timeout_s: float = 60, **environ: str
) -> "subprocess.CompletedProcess[str]":
    """Run `materia` on a data directory and wait for it."""
    return subprocess.run(
        [MATERIA, *arguments],
        env={**os.environ, "MATERIA_DATA_DIR": str(data_dir), **environ},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


def modules_of(data_dir: Path, *arguments: str) -> set[str]:
    """The top-level modules that are imported when `materia` has done what was asked."""
    code = (
        "import sys; from ops.cli import main; main(sys.argv[1:]); "
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "MATERIA_DATA_DIR": str(data_dir)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stderr.split())
