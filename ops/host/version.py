"""The version of the code, recorded with every run and every generation."""

import os
import subprocess
from functools import cache

from ops.config.settings import PROJECT_DIR
from ops.host.redact import is_secret

_GIT_TIMEOUT_S = 5.0


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
    command = ["git", "-C", str(PROJECT_DIR), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") and not is_secret(name)}
    try:
        described = subprocess.run(
            command,
            env={**environ, "GIT_OPTIONAL_LOCKS": "0"},
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT_S,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return described.stdout.strip() or None
