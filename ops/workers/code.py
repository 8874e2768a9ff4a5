"""The code that a worker runs: the current commit as a git bundle."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from ops.host.version import run_git
from ops.workers.errors import WorkerError

_GIT_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Code:
    """A commit with its history; `shallow` is git's list of commits where the history is truncated."""

    commit: str
    bundle: bytes
    shallow: str
    is_dirty: bool
    """Whether tracked files differ from the commit; the differences are not sent."""


def committed_code(project_dir: Path) -> Code:
    """The commit that is checked out; raises WorkerError without git or a repository."""
    shallow = project_dir / _git(project_dir, "rev-parse", "--git-path", "shallow").decode().strip()
    return Code(
        commit=_git(project_dir, "rev-parse", "HEAD").decode().strip(),
        bundle=_git(project_dir, "bundle", "create", "-q", "-", "HEAD"),
        shallow=shallow.read_text() if shallow.exists() else "",
        is_dirty=bool(_git(project_dir, "status", "--porcelain", "--untracked-files=no").strip()),
    )


def _git(project_dir: Path, *arguments: str) -> bytes:
    try:
        done = run_git(project_dir, *arguments, within_s=_GIT_TIMEOUT_S)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise WorkerError(f"cannot bundle the code for the worker: git did not answer: {error}") from error
    if done.returncode != 0:
        raise WorkerError(
            f"cannot bundle the code for the worker: `git {arguments[0]}` failed in {project_dir}: "
            f"{done.stderr.decode(errors='replace').strip()}; run from a clone of the repository"
        )
    return done.stdout
