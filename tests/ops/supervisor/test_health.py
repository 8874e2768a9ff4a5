"""/health says what `materia status` says."""

import json
import os
import subprocess
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import psutil

from ops.journal.journal import Journal
from ops.journal.run import RunStatus
from tests.support.command_line import MATERIA


def ask(url: str) -> tuple[int, dict]:
    try:
        with urlopen(url, timeout=30) as answer:
            return answer.status, json.load(answer)
    except HTTPError as error:
        with error:
            return error.code, json.load(error) if error.code == 503 else {}


def test_health_is_200_when_all_is_well_and_503_with_the_problems_when_not(data_dir: Path) -> None:
    environ = {**os.environ, "MATERIA_DATA_DIR": str(data_dir), "MATERIA_MIN_FREE_MB": "0"}
    server = subprocess.Popen(
        [MATERIA, "supervisor", "health", "--port", "0"], env=environ, stdout=subprocess.PIPE, text=True
    )
    try:
        url = server.stdout.readline().strip()
        code, record = ask(url)
        assert code == 503 and not record["ok"] and record["problems"][0]["key"] == "extract-stale"
        with Journal(data_dir / "runs.sqlite") as journal:
            journal.finish(journal.begin("extract").id, RunStatus.DONE)
        code, record = ask(url)
        assert (code, record["ok"], record["generation"], record["problems"]) == (200, True, 7, [])
        assert ask(url.replace("/health", "/etc/passwd"))[0] == 404
        listening = psutil.Process(server.pid).net_connections()
        assert {each.laddr.ip for each in listening} == {"127.0.0.1"}
    finally:
        server.terminate()
        server.wait(30)
        server.stdout.close()
