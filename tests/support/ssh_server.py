"""Real OpenSSH servers on loopback with throw-away keys, used as the machines of a fake provider."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

SSHD = Path("/usr/sbin/sshd")


class SshServer:
    """An sshd of its own, with a home directory of its own; ended with everything that it began by `stop`."""

    def __init__(
        self,
        root: Path,
        host: str,
        port: int,
        host_key: str,
        public_keys: list[str],
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.root, self.host, self.port = root, host, port
        self.home = root / "home"
        self.home.mkdir(parents=True)
        key, keys, config = root / "host_key", root / "authorized_keys", root / "sshd_config"
        key.write_text(host_key)
        key.chmod(0o600)
        keys.write_text("".join(f"{each}\n" for each in public_keys))
        variables = {"HOME": str(self.home), "PATH": os.environ["PATH"], **(environ or {})}
        config.write_text(
            f"Port {port}\nListenAddress {host}\nHostKey {key}\nAuthorizedKeysFile {keys}\nPidFile none\n"
            "UsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            "PermitRootLogin prohibit-password\nLogLevel DEBUG3\nMaxStartups 100:30:200\n"
            f"SetEnv {' '.join(f'{name}={value}' for name, value in variables.items())}\n"
        )
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        self.log = root / "sshd.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Listen, and return when a connection is taken."""
        with self.log.open("ab") as log:
            command = [SSHD, "-D", "-e", "-f", self.root / "sshd_config"]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection((self.host, self.port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise AssertionError(f"sshd did not start: {self.log.read_text()[-2000:]}")

    def cut(self) -> None:
        """End every connection, and go on listening."""
        for pid in self._sessions():
            _kill(pid)

    def refuse(self) -> None:
        """End every connection and listen no longer; what runs, runs on."""
        process, self._process = self._process, None
        sessions = self._sessions(process.pid) if process else []
        if process:
            process.kill()
            process.wait(20)
        for pid in sessions:
            _kill(pid)

    def stop(self) -> None:
        """End it as a machine ends: with everything that runs on it."""
        self.refuse()
        for _ in range(50):
            running = self.running()
            for pid in running:
                _kill(pid)
            if not running:
                break
            time.sleep(0.02)
        shutil.rmtree(self.root, ignore_errors=True)

    def running(self) -> list[int]:
        """The processes of this machine: those whose home is here."""
        mark = f"HOME={self.home}\0".encode()
        found = []
        for each in Path("/proc").iterdir():
            if each.name.isdigit() and int(each.name) != os.getpid():
                try:
                    if mark in (each / "environ").read_bytes() + b"\0":
                        found.append(int(each.name))
                except OSError:
                    continue
        return found

    def _sessions(self, parent: int | None = None) -> list[int]:
        """The processes of sshd that serve connections; what they run is not among them.

        Since OpenSSH 9.8 a connection has two of them, one below the other, also where the user is root.
        """
        parent = parent or (self._process.pid if self._process else None)
        below: dict[int, list[int]] = {}
        for each in Path("/proc").iterdir():
            if each.name.isdigit():
                try:
                    name, _, rest = (each / "stat").read_text().partition("(")[2].rpartition(")")
                except OSError:
                    continue
                if name.startswith("sshd"):
                    below.setdefault(int(rest.split()[1]), []).append(int(each.name))
        found = list(below.get(parent, ())) if parent else []
        for pid in found:  # grows while it is walked through
            found += below.get(pid, ())
        return found


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
