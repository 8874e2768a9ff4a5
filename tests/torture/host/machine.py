"""A bare Debian that boots with a real systemd, in a container of systemd-nspawn; it shares this machine's loopback."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.ops.supervisor.host import until

BOOT_S = 120.0
REBOOTED = 133
CA_FOLDER = Path("/usr/local/share/ca-certificates")


def debootstrap(release: str, folder: Path) -> None:
    """Install a minimal Debian of that release with systemd, and nothing that the bootstrap should bring."""
    include = "--include=systemd,systemd-sysv,dbus,ca-certificates"
    command = ["debootstrap", "--variant=minbase", include, release, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


class Machine:
    """The container whose files are in `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home, self.data = root / "opt/materia", root / "data/materia"
        self._nspawn: subprocess.Popen[bytes] | None = None

    def configure_network(self) -> None:
        """Give it the network that this machine has: names, apt's options, certificate authorities."""
        shutil.copy("/etc/resolv.conf", self.root / "etc/resolv.conf")
        for path in Path("/etc/apt/apt.conf.d").glob("99*"):
            shutil.copy(path, self.root / "etc/apt/apt.conf.d")
        shutil.copytree(CA_FOLDER, self.root / CA_FOLDER.relative_to("/"), dirs_exist_ok=True)
        subprocess.run(["chroot", self.root, "update-ca-certificates"], check=True, capture_output=True)

    def boot(self) -> None:
        command = ["systemd-nspawn", "-q", "--register=no", "--keep-unit", "--resolv-conf=off", "-D", self.root, "-b"]
        console = (self.root.parent / f"{self.root.name}-console.log").open("ab")
        self._nspawn = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        self.wait_for_systemd()

    def reboot(self) -> None:
        """Reboot it; with --keep-unit systemd-nspawn ends with 133 and leaves it to the caller to start it again."""
        assert self._nspawn is not None
        self.run("systemctl", "reboot")
        assert self._nspawn.wait(BOOT_S) == REBOOTED
        self.boot()

    def wait_for_systemd(self) -> None:
        until(
            lambda: self.run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded"), "boot", BOOT_S
        )

    @property
    def leader(self) -> int | None:
        """The process of the container's systemd, as seen from outside; None while it is not there."""
        assert self._nspawn is not None and self._nspawn.poll() is None, "the container has ended"
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split()
        return next((int(pid) for pid in children if "systemd" in _read(f"/proc/{pid}/comm")), None)

    def run(self, *command: str, stdin: str = "", timeout_s: float = 60.0) -> "subprocess.CompletedProcess[str]":
        """Run a command in it as root, with a clean environment."""
        if (leader := self.leader) is None:
            return subprocess.CompletedProcess(command, 255, "", "not booted")
        enter = ["nsenter", "-t", str(leader), "-m", "-u", "-i", "-n", "-p", "-r", "-w"]
        clean = ["env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"]
        return subprocess.run(
            [*enter, *clean, *command], input=stdin, capture_output=True, text=True, timeout=timeout_s
        )

    def check(self, *command: str, stdin: str = "", timeout_s: float = 60.0) -> str:
        """The output of a command that must succeed."""
        done = self.run(*command, stdin=stdin, timeout_s=timeout_s)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout.strip()

    def unit(self, name: str, unit: str = "materia-supervisor") -> str:
        """A property of a unit."""
        return self.check("systemctl", "show", "--value", "-p", name, unit)

    def journal(self, unit: str = "materia-supervisor") -> str:
        return self.check("journalctl", "--no-pager", "-o", "cat", "-u", unit)

    def power_off(self) -> None:
        """End it: systemd's way first, so that no mount is left."""
        if self._nspawn is None or self._nspawn.poll() is not None:
            return
        self.run("systemctl", "poweroff")
        try:
            self._nspawn.wait(60)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def missing() -> str | None:
    """Why no machine can be booted here; None if one can."""
    if os.geteuid() != 0:
        return "only root can boot a container; run it as root"
    tools = [tool for tool in ("debootstrap", "systemd-nspawn", "nsenter") if shutil.which(tool) is None]
    return f"{tools[0]} is missing; install it with: apt-get install debootstrap systemd-container" if tools else None
