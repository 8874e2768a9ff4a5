"""The system tools that tests need, declared once; `python tests/support/system_tools.py install` installs them.

`just test`, `.ci/run` and `.gitlab-ci.yml` call that; `tests/support/needs.py` skips the tests of a missing tool.
It runs before anything is installed, so it imports the standard library only.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True)
class SystemTool:
    """A program that a Python package cannot bring."""

    program: str
    """What it is called, and what is looked for on the PATH."""
    package: str
    """The Debian and Ubuntu package that brings it."""
    used_for: str
    beside_path: str = ""
    """Where else Debian puts it: a pattern below the root directory."""
    only_with: str = ""
    """The Python package without which no test needs it."""

    @property
    def is_installed(self) -> bool:
        """Whether the program is found."""
        if shutil.which(self.program):
            return True
        return bool(self.beside_path) and any(Path("/").glob(self.beside_path))

    @property
    def is_needed(self) -> bool:
        """Whether a test could use it."""
        return not self.only_with or find_spec(self.only_with) is not None

    @property
    def reason(self) -> str:
        """Why a test that needs it is skipped, and what to do."""
        return f"{self.program} is missing; install it with: apt-get install {self.package}"


TOOLS = (
    SystemTool("git", "git", "commits of the supervisor's remote, the code that workers get"),
    SystemTool("curl", "curl", "what `just bench` compares downloads with"),
    SystemTool("sshd", "openssh-server", "workers as real SSH servers on loopback", "usr/sbin/sshd"),
    SystemTool("pkill", "procps", "stopping a run on a worker"),
    SystemTool("dot", "graphviz", "pictures of the dataflows"),
    SystemTool("tmux", "tmux", "the console in a real terminal"),
    SystemTool("chromium", "chromium", "the console in a browser"),
    SystemTool("initdb", "postgresql", "a DuckLake catalog in PostgreSQL", "usr/lib/postgresql/*/bin/initdb"),
    SystemTool("java", "default-jre-headless", "a Spark cluster", only_with="pyspark"),
    SystemTool(
        "postgresql.jar",
        "libpostgresql-jdbc-java",
        "Spark's metastore in PostgreSQL",
        "usr/share/java/postgresql.jar",
        only_with="pyspark",
    ),
    SystemTool("systemd-analyze", "systemd", "the exposure of the supervisor's units"),
)

SERVICES = ("ssh.service", "ssh.socket", "postgresql.service")
"""Services that these packages would start at boot; the tests start servers of their own."""

# No service is started: Debian's own switch for that is a policy-rc.d that answers 101.
_SCRIPT = """
set -eu
export DEBIAN_FRONTEND=noninteractive
if [ ! -e /usr/sbin/policy-rc.d ]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
fi
network='-o Acquire::Retries=1 -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20'
apt-get update -qq $network
apt-get install -qq --no-install-recommends -o DPkg::Lock::Timeout=60 $network "$@" > /dev/null
"""
_DISABLE = 'for service do systemctl disable --quiet "$service" 2> /dev/null || true; done'
_TIMEOUT_S = 900


def missing_tools() -> list[SystemTool]:
    """The declared tools that a test could use and that are not installed here."""
    return [tool for tool in TOOLS if tool.is_needed and not tool.is_installed]


def root_prefix(is_root: bool) -> list[str] | None:
    """What a command needs before it to run as root without a password; None where that is not possible."""
    if is_root:
        return []
    if shutil.which("sudo") is None:
        return None
    asked = subprocess.run(["sudo", "-n", "true"], stdin=subprocess.DEVNULL, capture_output=True)
    return ["sudo", "-n"] if asked.returncode == 0 else None


def install(tools: Sequence[SystemTool]) -> str | None:
    """Install these tools with apt; returns why that failed, None when it did not. Never asks for a password."""
    if shutil.which("apt-get") is None:
        return "this machine has no apt-get"
    prefix = root_prefix(os.geteuid() == 0)
    if prefix is None:
        return "only root, or a user with sudo and no password, can install packages"
    had = {service for service in SERVICES if _is_enabled(service)}
    packages = [tool.package for tool in tools]
    try:
        done = subprocess.run(
            [*prefix, "sh", "-c", _SCRIPT, "sh", *packages],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return f"apt-get did not finish within {_TIMEOUT_S} s"
    if done.returncode != 0:
        return f"apt-get failed: {(done.stderr.strip().splitlines() or ['no output'])[-1]}"
    if shutil.which("systemctl"):
        added = [service for service in SERVICES if service not in had]
        subprocess.run([*prefix, "sh", "-c", _DISABLE, "sh", *added], stdin=subprocess.DEVNULL, check=False)
    return None


def _is_enabled(service: str) -> bool:
    if shutil.which("systemctl") is None:
        return False
    return subprocess.run(["systemctl", "is-enabled", "--quiet", service], capture_output=True).returncode == 0


def main(arguments: Sequence[str]) -> int:
    """`install` or `list`; always 0 for `install`, because tests run without the tools, too."""
    if list(arguments) == ["list"]:
        for tool in TOOLS:
            state = "installed" if tool.is_installed else "missing"
            print(f"{tool.program:<16} {state:<10} {tool.package:<16} {tool.used_for}")
        return 0
    if list(arguments) != ["install"]:
        print("usage: system_tools.py install|list", file=sys.stderr)
        return 2
    if not (missing := missing_tools()):
        return 0
    names = " ".join(tool.package for tool in missing)
    print(f"system tools for the tests: installing {names} with apt-get", flush=True)
    if failure := install(missing):
        print(
            f"system tools for the tests: not installed, because {failure}; the tests that need them are skipped",
            file=sys.stderr,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
