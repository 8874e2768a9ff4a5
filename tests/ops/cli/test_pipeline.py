import json
import os
import subprocess
from pathlib import Path

from dataflows.source.release import Month
from ops.demo.generator import generate
from ops.demo.history import HistorySpec
from ops.host.exits import Exit
from tests.support.command_line import BIN, materia
from tests.support.faulty_archive import FaultyArchive


def test_pipelines_are_listed(tmp_path: Path) -> None:
    listed = json.loads(materia(tmp_path, "pipeline", "list", "--json").stdout)
    assert [each["pipeline"] for each in listed] == ["extract", "transform", "export_serving", "run-all"]
    assert all(each["summary"] for each in listed)
    shown = materia(tmp_path, "pipeline", "list").stdout.splitlines()
    assert [line.split()[0] for line in shown[1:]] == [each["pipeline"] for each in listed]


def test_extract_psd_lands_the_newest_release_once(archive: FaultyArchive, tmp_path: Path) -> None:
    [release] = generate(HistorySpec.ending(Month(2026, 3), releases=1, rows=500))
    archive.post(release.month, release.zip_bytes, release.published_at, release.etag)

    def extract_psd() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [BIN / "extract_psd", "--as-of", "2026-04"],
            env={**os.environ, "MATERIA_DATA_DIR": str(tmp_path), "PSD_ARCHIVE_URL": archive.url},
            capture_output=True,
            text=True,
            timeout=60,
        )

    landed = extract_psd()
    assert (landed.returncode, landed.stdout) == (
        Exit.DONE,
        f"landed 2026-03 of {release.published_at.date()} ({release.row_count} facts)\n",
    )
    archive.forget_requests()
    again = extract_psd()
    assert again.returncode == Exit.DONE and again.stdout.startswith("nothing new: 2026-03")
    assert sum(request.body_bytes for request in archive.requests if request.status == 200) == 0
    [only] = json.loads(materia(tmp_path, "releases", "--json").stdout)
    assert (only["month"], only["row_count"], only["standing"]) == ("2026-03", release.row_count, "not served")


def test_every_command_has_help_and_completion(tmp_path: Path) -> None:
    from ops.cli import COMMANDS

    for command in COMMANDS:
        assert materia(tmp_path, command, "--help").stdout.startswith(f"Usage: materia {command} ")
    completed = materia(tmp_path, _MATERIA_COMPLETE="bash_complete", COMP_WORDS="materia ", COMP_CWORD="1").stdout
    assert [line.removeprefix("plain,") for line in completed.split()] == sorted(COMMANDS)
    inner = materia(tmp_path, _MATERIA_COMPLETE="bash_complete", COMP_WORDS="materia serving r", COMP_CWORD="2").stdout
    assert inner == "plain,rollback\n"
