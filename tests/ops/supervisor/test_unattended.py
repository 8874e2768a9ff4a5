"""The whole of it, nothing simulated: a bare host, this very project as the remote, real uv and `just run-all`."""

import json
import shutil
from pathlib import Path

from ops.config.settings import PROJECT_DIR
from ops.journal.journal import Journal
from tests.ops.supervisor.host import Host, until
from tests.support.faulty_archive import FaultyArchive


def not_copied(folder: str, names: list[str]) -> list[str]:
    """What is large and git ignores anyway."""
    at_the_root = {".git", ".venv", "data"} if Path(folder) == PROJECT_DIR else set()
    return [name for name in names if name in at_the_root | {"__pycache__", ".cache"}]


def test_a_bare_host_installs_this_project_and_runs_what_is_due(tmp_path: Path, archive: FaultyArchive) -> None:
    environ = {"PSD_ARCHIVE_URL": archive.url, "MATERIA_TICK_S": "600", "MATERIA_MIN_FREE_MB": "0"}
    host = Host(tmp_path / "host", extra=environ)
    shutil.copytree(PROJECT_DIR, host.remote, ignore=not_copied, dirs_exist_ok=True)
    commit = host.commit("1")
    heartbeat = host.data / "supervisor" / "heartbeat.json"

    def has_ticked() -> bool:
        return heartbeat.exists() and json.loads(heartbeat.read_text())["doing"].startswith("waiting")

    try:
        host.start()
        until(has_ticked, "a tick of the installed project", timeout_s=240)
        assert host.current == commit and host.refused == ""
        assert commit.startswith(json.loads(heartbeat.read_text())["code_version"])
        whole = Journal(host.data / "runs.sqlite").runs(pipeline="run-all")
        # The archive has nothing posted: that the run was made, and why it failed, is what is looked for here.
        assert [run.trigger.startswith("schedule:") for run in whole] == [True]
        assert whole[0].code_version == json.loads(heartbeat.read_text())["code_version"]
        assert "posted" in (whole[0].error or "")
        host.stop()
    finally:
        host.clear()
