"""What turns a host into a supervisor: the bootstrap under a scratch root, and the units that it installs."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.ops.supervisor.host import QUIET_GIT, SCRIPT
from tests.support.needs import require_tool

HERE = SCRIPT.parent
TOKEN = "glpat-Canary0123456789"


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """A repository that holds what the bootstrap installs."""
    require_tool("git")
    folder = tmp_path / "remote"
    shutil.copytree(HERE, folder / "ops" / "supervisor", ignore=shutil.ignore_patterns("__pycache__", "*.py"))
    for command in (["init", "--quiet", "--initial-branch=main"], ["add", "--all"], ["commit", "--quiet", "-m", "one"]):
        subprocess.run(["git", "-C", folder, *command], env=os.environ | QUIET_GIT, check=True)
    return folder


def bootstrap(prefix: Path, script: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run it as `ssh host 'bash -s' < bootstrap_supervisor.sh` would."""
    return subprocess.run(
        ["bash", "-s"],
        input=script,
        env=os.environ | QUIET_GIT | {"MATERIA_PREFIX": str(prefix)} | environ,
        cwd=prefix.parent,
        capture_output=True,
        text=True,
        timeout=60,
    )


def layout(prefix: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file that is laid out, with its mode, time of change and contents; git's own files apart."""
    files = (path for path in sorted(prefix.rglob("*")) if path.is_file() and "repo.git" not in path.parts)
    facts = ((path, path.stat()) for path in files if path.name != "askpass")
    return {str(path): (stat.st_mode, stat.st_mtime_ns, path.read_bytes()) for path, stat in facts}


def test_run_twice_it_gives_the_same_host(tmp_path: Path, remote: Path) -> None:
    prefix = tmp_path / "root"
    prefix.mkdir()
    script = (HERE / "bootstrap_supervisor.sh").read_text()
    first = bootstrap(prefix, f"GITLAB_READ_TOKEN={TOKEN}\n{script}", MATERIA_REMOTE=str(remote))
    assert first.returncode == 0 and "changed, ready" in first.stdout, first.stderr
    written = layout(prefix)
    again = bootstrap(prefix, script)
    assert again.returncode == 0 and "changed" not in again.stdout, again.stderr
    assert layout(prefix) == written
    assert (prefix / "opt/materia/supervisor.sh").read_bytes() == SCRIPT.read_bytes()
    assert os.access(prefix / "opt/materia/supervisor.sh", os.X_OK)
    (prefix / "opt/materia/repo.git/HEAD").write_bytes(b"")
    healed = bootstrap(prefix, script)
    assert healed.returncode == 0 and "was damaged: fetched again" in healed.stdout, healed.stderr
    assert layout(prefix) == written
    assert {"materia-supervisor.service", "materia-health.service"} <= {
        path.name for path in (prefix / "etc/systemd/system").iterdir()
    }


def test_the_token_is_only_in_the_file_that_only_root_reads(tmp_path: Path, remote: Path) -> None:
    prefix = tmp_path / "root"
    prefix.mkdir()
    script = (HERE / "bootstrap_supervisor.sh").read_text()
    done = bootstrap(prefix, f"GITLAB_READ_TOKEN={TOKEN}\n{script}", MATERIA_REMOTE=str(remote))
    holders = [path for path in prefix.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert holders == [prefix / "etc/materia/materia.env"]
    assert holders[0].stat().st_mode & 0o777 == 0o600
    assert TOKEN not in done.stdout + done.stderr


def test_a_newer_supervisor_sh_is_installed_by_running_it_again(tmp_path: Path, remote: Path) -> None:
    prefix = tmp_path / "root"
    prefix.mkdir()
    script = (HERE / "bootstrap_supervisor.sh").read_text()
    bootstrap(prefix, script, MATERIA_REMOTE=str(remote))
    with (remote / "ops/supervisor/supervisor.sh").open("a") as file:
        file.write("# newer\n")
    subprocess.run(["git", "-C", remote, "commit", "--quiet", "-am", "two"], env=os.environ | QUIET_GIT, check=True)
    again = bootstrap(prefix, script)
    assert "installing" in again.stdout and "changed" in again.stdout
    assert (prefix / "opt/materia/supervisor.sh").read_text().endswith("# newer\n")


def test_without_a_repository_it_reports_that_and_exits_with_2(tmp_path: Path) -> None:
    prefix = tmp_path / "root"
    prefix.mkdir()
    done = bootstrap(prefix, (HERE / "bootstrap_supervisor.sh").read_text())
    assert done.returncode == 2 and "MATERIA_REMOTE is not set" in done.stderr


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize("unit", ["materia-supervisor.service", "materia-health.service"])
def test_a_unit_exposes_at_most_3(unit: str) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=30", HERE / unit]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert float(re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)[1]) <= 3.0


def test_the_unit_names_data_directory_and_served_database_and_watches() -> None:
    unit = (HERE / "materia-supervisor.service").read_text()
    for line in (
        "Environment=MATERIA_DATA_DIR=/data/materia",
        "Environment=SERVING_DUCKDB_PATH=/data/materia/serving.duckdb",
        "WatchdogSec=1h",
        "Restart=always",
    ):
        assert line in unit.splitlines()
