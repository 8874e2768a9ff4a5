"""The version of the code, recorded with every run and every generation."""

import os
import subprocess
from functools import cache
from pathlib import Path

from ops.config.settings import PROJECT_DIR
from ops.host.redact import is_secret


@cache
def code_version() -> str:
    """The commit (`-dirty` when tracked files differ from it); without git, the distribution's version."""
    return _commit() or distribution_version()


def distribution_version() -> str:
    """The installed distribution's version."""
    from importlib.metadata import version

    return version("materia")


def _commit() -> str | None:
    # If Materia is installed into another project's environment, that project's commit is not ours.
    if not (PROJECT_DIR / ".git").exists():
        return None
    try:
        described = run_git(PROJECT_DIR, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*", within_s=5.0)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return described.stdout.decode().strip() or None


def run_git(project_dir: Path, *arguments: str, within_s: float) -> "subprocess.CompletedProcess[bytes]":
    """Run git without secrets in its environment, and without locks that another git would wait for."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") and not is_secret(name)}
    return subprocess.run(
        ["git", "-C", str(project_dir), *arguments],
        env={**environ, "GIT_OPTIONAL_LOCKS": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=within_s,
    )
