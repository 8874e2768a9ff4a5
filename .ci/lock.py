"""Writes the lock files from what pyproject.toml declares, or checks that they still belong to it.

`just lock` writes them, `just update` takes newer versions first. requirements.lock holds every version and hash of the
runtime, the extras and the development tools; requirements-uv.lock holds uv itself. Neither names a registry host.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
LOCKS = {
    # Only `just mutants` needs the group of that name, and no machine but a developer's runs it.
    "requirements.lock": ("--all-extras", "--all-groups", "--no-group", "installer", "--no-group", "mutants"),
    "requirements-uv.lock": ("--only-group", "installer"),
}
"""Each lock file, and what of the declared dependencies it holds."""

_NEWEST = re.compile(r'(?m)^exclude-newer = "[^"]*"$')
_EXPORT = ("uv", "export", "--quiet", "--frozen", "--format", "requirements-txt", "--no-emit-project", "--no-header")


def main() -> int:
    """Write or check the lock files; 1 when one of them is out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("check", "write", "update"))
    parser.add_argument("--project", type=Path, default=PROJECT, help="the checkout")
    asked = parser.parse_args()
    if asked.action == "check":
        return check(asked.project)
    if asked.action == "update":
        update(asked.project)
    else:
        subprocess.run(["uv", "lock", "--quiet"], cwd=asked.project, check=True)
    write(asked.project)
    return 0


def declared_digest(pyproject: str) -> str:
    """A digest of everything in pyproject.toml that decides the locked versions."""
    whole = tomllib.loads(pyproject)
    project = whole["project"]
    parts = [
        project["requires-python"],
        project["dependencies"],
        project["optional-dependencies"],
        whole["dependency-groups"],
        whole["tool"]["uv"],
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def header(pyproject: str) -> str:
    """The first lines of a lock file."""
    return (
        "# Written by `just lock` and `just update`; do not edit. Installed by ops/install.sh with hashes required.\n"
        f"# pyproject.toml: sha256:{declared_digest(pyproject)}\n"
    )


def check(project: Path) -> int:
    """Compare the digest in each lock file with pyproject.toml; needs no network."""
    expected = header((project / "pyproject.toml").read_text())
    stale = [name for name in LOCKS if not (project / name).read_text().startswith(expected)]
    for name in stale:
        print(f"{name} is out of date: pyproject.toml declares other dependencies; run `just lock`", file=sys.stderr)
    return 1 if stale else 0


def update(project: Path) -> None:
    """Move `exclude-newer` to today and resolve again; leaves pyproject.toml as it was when that fails."""
    path = project / "pyproject.toml"
    before = path.read_text()
    path.write_text(_NEWEST.sub(f'exclude-newer = "{datetime.now(UTC):%Y-%m-%d}T00:00:00Z"', before))
    try:
        subprocess.run(["uv", "lock", "--quiet", "--upgrade"], cwd=project, check=True)
    except BaseException:
        path.write_text(before)
        raise


def write(project: Path) -> None:
    """Export each lock file from uv.lock."""
    first_lines = header((project / "pyproject.toml").read_text())
    for name, selection in LOCKS.items():
        command = [*_EXPORT, "--no-annotate", *selection]
        exported = subprocess.run(command, cwd=project, stdout=subprocess.PIPE, text=True, check=True).stdout
        (project / name).write_text(first_lines + exported)


if __name__ == "__main__":
    sys.exit(main())
