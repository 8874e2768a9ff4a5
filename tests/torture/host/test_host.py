"""The supervisor on a bare Debian with systemd: nothing simulated but the archive and the webhook, on loopback.

`just torture host` runs the checks in order on one machine per release and ends with the first that fails. A bare
machine takes minutes to install; TORTURE_ROOTS names a folder in which it is kept for the next time.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from http.client import HTTPConnection
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from ops.config.settings import PROJECT_DIR
from ops.health.status import expected_release
from ops.journal.run import utc_now
from tests.ops.supervisor.conftest import Alarm, alarm_server
from tests.ops.supervisor.host import Host, until
from tests.ops.supervisor.test_unattended import not_copied
from tests.support.faulty_archive import FaultyArchive
from tests.support.psd_files import DATASET, release_zip, rows
from tests.support.torture import Figure
from tests.torture.host.machine import Machine, debootstrap, missing

pytestmark = pytest.mark.long

RELEASES = {"bookworm": "Debian 12", "trixie": "Debian 13"}
TICK_S = 5
WATCHDOG_S = 40
MAX_EXPOSURE = 3.0
"""On systemd-analyze's scale from 0 (safe) to 10."""


@dataclass
class World:
    """One machine with its remote, archive and webhook."""

    machine: Machine
    remote: Host
    archive: FaultyArchive
    alarm: Alarm
    url: str
    debian: str

    @property
    def current(self) -> str:
        return (self.machine.home / "current").readlink().name

    @property
    def refused(self) -> str:
        path = self.machine.data / "supervisor/refused"
        return path.read_text() if path.exists() else ""

    def heartbeat(self) -> dict[str, Any]:
        path = self.machine.data / "supervisor/heartbeat.json"
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return found

    def has_ticked_since(self, moment: datetime) -> bool:
        succeeded_at = self.heartbeat().get("succeeded_at")
        return succeeded_at is not None and datetime.fromisoformat(succeeded_at) > moment

    def ticks(self, timeout_s: float = 120) -> None:
        """Wait until a tick that starts from now on has succeeded."""
        now = utc_now()
        until(lambda: self.has_ticked_since(now), "a tick succeeds", timeout_s)

    def served_rows(self) -> int:
        """What the served generation says about its facts, read as the operator would."""
        answer = self.materia("query", "--json", "SELECT count(*) AS n FROM serving.fct_psd")
        return int(json.loads(answer)["rows"][0][0])

    def materia(self, *arguments: str) -> str:
        """Run `materia` as the how-to says."""
        service = [
            "--uid=materia",
            "--working-directory=/opt/materia",
            "-p",
            "EnvironmentFile=/etc/materia/materia.env",
        ]
        program = ["-E", "MATERIA_DATA_DIR=/data/materia", "/opt/materia/current/.venv/bin/materia"]
        return self.machine.check("systemd-run", "--pipe", "--wait", "--quiet", *service, *program, *arguments)

    def post(self, facts: int) -> None:
        """Post the newest release; the second time, a correction of it."""
        month = expected_release(utc_now())
        posted = datetime(month.year, month.month, 11, 16, tzinfo=UTC)
        self.archive.post(month, release_zip(rows(facts)), posted, dataset=DATASET)

    def forget_runs(self) -> None:
        """Remove the journal: the slots of today are due again."""
        for path in self.machine.data.glob("runs.sqlite*"):
            path.unlink()

    def bootstrap(self) -> str:
        script = (PROJECT_DIR / "ops/supervisor/bootstrap_supervisor.sh").read_text()
        return self.machine.check("env", f"MATERIA_REMOTE={self.url}", "bash", "-s", stdin=script, timeout_s=900)

    def timed(self, condition: Callable[[], object], what: str, timeout_s: float) -> str:
        started = time.monotonic()
        until(condition, what, timeout_s)
        return f"{time.monotonic() - started:.0f} s"


@pytest.fixture(scope="module", params=list(RELEASES), ids=list(RELEASES.values()))
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    if why := missing():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp(request.param)
    kept = Path(os.environ.get("TORTURE_ROOTS") or folder / "bare") / request.param
    if not (kept / "usr/bin/systemctl").exists():
        debootstrap(request.param, kept)
    machine = Machine(Path(shutil.copytree(kept, folder / "root", symlinks=True, ignore=shutil.ignore_patterns("dev"))))
    (machine.root / "dev").mkdir(exist_ok=True)
    machine.configure_network()
    remote = Host(folder / "remote")
    shutil.copytree(PROJECT_DIR, remote.remote, ignore=not_copied, dirs_exist_ok=True)
    remote.commit("1")
    with FaultyArchive(DATASET) as archive, alarm_server() as alarm, _served(remote.remote) as url:
        live = World(machine, remote, archive, alarm, url, RELEASES[request.param])
        live.post(40)
        settings = {
            "PSD_DATASET": DATASET,
            "PSD_ARCHIVE_URL": archive.url,
            "PSD_LIVE_URL": archive.live_url,
            "ALERT_WEBHOOK_URL": alarm.url,
            "MATERIA_TICK_S": str(TICK_S),
        }
        if "SSL_CERT_FILE" in os.environ:  # docs/how-to/supervisor.md: a proxy with a certificate authority of its own
            settings["SSL_CERT_FILE"] = "/etc/ssl/certs/ca-certificates.crt"
        (machine.root / "etc/materia").mkdir()
        lines = [f"{name}={value}\n" for name, value in settings.items()]
        (machine.root / "etc/materia/materia.env").write_text("".join(lines))
        machine.boot()
        try:
            yield live
        finally:
            machine.power_off()
            shutil.rmtree(machine.root, ignore_errors=True)


def _served(folder: Path) -> Any:
    """The git repository of a folder over HTTP, as its URL."""
    from contextlib import contextmanager

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            return

    @contextmanager
    def serve() -> Iterator[str]:
        with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
            thread = Thread(target=server.serve_forever)
            thread.start()
            yield f"http://127.0.0.1:{server.server_address[1]}/.git"
            server.shutdown()
            thread.join()

    return serve()


def health() -> tuple[int, dict[str, Any]]:
    """What an uptime monitor on the machine gets; (0, {}) while nothing listens."""
    connection = HTTPConnection("127.0.0.1", 8470, timeout=10)
    try:
        connection.request("GET", "/health")
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    except OSError:
        return 0, {}
    finally:
        connection.close()


def test_the_bootstrap_installs_the_unit_and_a_second_one_changes_nothing(world: World, figure: Figure) -> None:
    started = time.monotonic()
    assert "changed, ready" in world.bootstrap()
    figure(f"{world.debian}: bootstrap", f"{time.monotonic() - started:.0f} s")
    assert "changed" not in world.bootstrap()
    assert world.machine.unit("UnitFileState") == "enabled"


def test_the_unit_installs_the_commit_and_serves_the_release(world: World, figure: Figure) -> None:
    took = world.timed((world.machine.data / "serving.duckdb").exists, "a release is served", 600)
    figure(f"{world.debian}: installed and first release served", took)
    world.ticks()
    assert world.served_rows() == 40
    status = json.loads(world.materia("status", "--json"))
    assert status["problems"] == []


def test_health_answers_on_loopback_only(world: World) -> None:
    world.machine.check("systemctl", "enable", "--now", "materia-health")
    until(lambda: health()[0] == 200, "/health answers 200", 60)
    assert health()[1]["ok"] is True and health()[1]["problems"] == []
    (pid,) = {world.machine.unit("MainPID", "materia-health")}
    listening = world.machine.check("cat", f"/proc/{pid}/net/tcp")
    assert "0100007F:2116 " in listening and "00000000:2116 " not in listening


@pytest.mark.parametrize("unit", ["materia-supervisor", "materia-health"])
def test_the_sandbox_holds(world: World, unit: str, figure: Figure) -> None:
    printed = world.machine.check("systemd-analyze", "security", "--no-pager", unit)
    exposure = float(printed.rpartition(f"{unit}.service: ")[2].split()[0])
    figure(f"{world.debian}: exposure of {unit}", exposure)
    assert exposure <= MAX_EXPOSURE
    pid = world.machine.unit("MainPID", unit)
    status = dict(line.split(":\t", 1) for line in world.machine.check("cat", f"/proc/{pid}/status").splitlines())
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    inside = ["nsenter", "-t", pid, "-m", "runuser", "-u", "materia", "--"]
    written = world.machine.run(*inside, "sh", "-c", "touch /data/materia/probe && rm /data/materia/probe")
    assert written.returncode == 0, written.stderr
    for folder in ("/etc", "/usr", "/var/tmp/..", "/root"):
        refused = world.machine.run("nsenter", "-t", pid, "-m", "touch", f"{folder}/probe")
        assert refused.returncode != 0, f"{folder} can be written"


def test_a_killed_supervisor_is_started_again(world: World, figure: Figure) -> None:
    pid = world.machine.unit("MainPID")
    world.machine.check("sh", "-c", f"kill -KILL {pid}")
    took = world.timed(lambda: world.machine.unit("MainPID") not in ("0", pid), "it is started again", 60)
    figure(f"{world.debian}: started again after a kill", took)
    world.ticks()


def test_a_run_whose_service_is_killed_damages_nothing(world: World) -> None:
    world.post(60)
    world.forget_runs()
    until(lambda: "running run-all" in world.heartbeat().get("doing", ""), "a run starts", 120)
    world.machine.check("systemctl", "kill", "--signal=KILL", "materia-supervisor")
    until(lambda: world.machine.unit("ActiveState") != "active", "it is killed", 60)
    world.ticks()
    assert world.served_rows() in (40, 60)
    assert [run for run in json.loads(world.materia("runs", "--json")) if run["status"] == "running"] == []


def test_the_watchdog_restarts_a_supervisor_that_stands_still(world: World, figure: Figure) -> None:
    machine = world.machine
    folder = machine.root / "etc/systemd/system/materia-supervisor.service.d"
    folder.mkdir()
    (folder / "test.conf").write_text(f"[Service]\nWatchdogSec={WATCHDOG_S}\n")
    machine.check("systemctl", "daemon-reload")
    machine.check("systemctl", "restart", "materia-supervisor")
    pid = machine.unit("MainPID")
    end = time.monotonic() + 1.5 * WATCHDOG_S
    while time.monotonic() < end:
        world.ticks()
    assert machine.unit("MainPID") == pid, "ticks that succeed feed the watchdog"
    machine.check("sh", "-c", f"kill -STOP {pid}")
    took = world.timed(lambda: machine.unit("MainPID") not in ("0", pid), "the watchdog restarts it", 4 * WATCHDOG_S)
    figure(f"{world.debian}: restarted by a watchdog of {WATCHDOG_S} s", took)
    assert "watchdog" in machine.check("journalctl", "--no-pager", "-u", "materia-supervisor").lower()
    shutil.rmtree(folder)
    machine.check("systemctl", "daemon-reload")
    world.ticks()


def test_a_good_commit_is_used(world: World, figure: Figure) -> None:
    commit = world.remote.commit("2")
    figure(f"{world.debian}: from push to use", world.timed(lambda: world.current == commit, "it is used", 600))
    until(lambda: commit.startswith(world.heartbeat().get("code_version", "-")), "it ticks", 120)
    # The run that was killed is tried again at once by other code.
    until(lambda: world.served_rows() == 60, "the newest release is served", 300)


def test_a_bad_commit_is_refused_with_an_alert(world: World, figure: Figure) -> None:
    good, path = world.current, world.remote.remote / "ops/health/doctor.py"
    right = path.read_text()
    path.write_text("raise RuntimeError('a bad commit')\n")
    bad = world.remote.commit("3")
    path.write_text(right)
    took = world.timed(lambda: world.refused.startswith(bad), "it is refused", 600)
    figure(f"{world.debian}: from push to refusal", took)
    assert "materia doctor failed" in world.refused and "a bad commit" in world.refused
    until(lambda: _events(world, "update-refused") == ["raised"], "the alert arrives", 120)
    assert world.current == good and health()[0] == 503


def test_a_commit_whose_ticks_fail_is_left_for_the_one_before(world: World, figure: Figure) -> None:
    good, path = world.current, world.remote.remote / "ops/supervisor/reaping.py"
    right = path.read_text()
    path.write_text(right.replace(") -> None:\n", ') -> None:\n    raise RuntimeError("bad at run time")\n', 1))
    assert path.read_text() != right
    bad = world.remote.commit("4")
    path.write_text(right)
    took = world.timed(lambda: world.refused.startswith(bad), "it is refused", 600)
    figure(f"{world.debian}: from push to return", took)
    assert "failed three times" in world.refused and "bad at run time" in world.refused
    assert world.current == good
    fixed = world.remote.commit("5")
    until(lambda: world.current == fixed and not world.refused, "the fixed commit is used", 600)
    until(lambda: _events(world, "update-refused")[-1] == "resolved", "the end of the alert arrives", 120)
    until(lambda: health()[0] == 200, "/health answers 200 again", 120)


def test_the_log_is_rotated(world: World) -> None:
    log = world.machine.data / "logs/supervisor.log"
    before = log.stat().st_ino
    world.machine.check("logrotate", "--force", "/etc/logrotate.d/materia")
    rotated = log.with_name("supervisor.log.1")
    assert rotated.stat().st_ino == before and rotated.stat().st_size > 0
    world.forget_runs()
    until(lambda: log.stat().st_size > 0, "the next tick with work writes to the new one", 120)
    assert log.stat().st_uid == world.machine.data.stat().st_uid
    assert world.machine.check("systemctl", "is-enabled", "logrotate.timer") == "enabled"
    world.ticks()


def test_after_a_reboot_it_works_on(world: World, figure: Figure) -> None:
    rows_before, started = world.served_rows(), time.monotonic()
    world.machine.reboot()
    world.ticks(180)
    figure(f"{world.debian}: from reboot to a tick", f"{time.monotonic() - started:.0f} s")
    until(lambda: health()[0] == 200, "/health answers", 60)
    assert world.served_rows() == rows_before
    failed = world.machine.check("systemctl", "--failed", "--plain", "--no-legend")
    assert "materia" not in failed


def _events(world: World, alert: str) -> list[str]:
    return [each["event"] for each in world.alarm.received if each["alert"] == alert]
