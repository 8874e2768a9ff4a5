"""`just audit`: 0 no known vulnerability, 1 a known one, 3 unknown because the advisories are out of reach."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ruamel.yaml import YAML

AUDIT = Path(__file__).resolve().parents[1] / ".ci" / "audit.py"
HOLE = {
    "id": "PYSEC-2014-8",
    "modified": "2021-07-05T00:01:22Z",
    "summary": "x",
    "affected": [
        {
            "package": {"name": "jinja2", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.7.2"}]}],
            "versions": ["2.4.1"],
        }
    ],
}


class Advisories(BaseHTTPRequestHandler):
    """Answers as OSV does: one package has a hole."""

    status = 200

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = {"vulns": [HOLE]} if asked["package"]["name"] == "jinja2" else {}
        body = json.dumps(known).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing to print."""


@pytest.fixture
def advisories() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Advisories)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def audit(tmp_path: Path, url: str, *versions: str) -> "subprocess.CompletedProcess[str]":
    (tmp_path / "requirements.txt").write_text("\n".join(versions) + "\n")
    options = ["--osv-url", url, "--requirements", str(tmp_path / "requirements.txt")]
    return subprocess.run([sys.executable, AUDIT, *options], capture_output=True, text=True, timeout=120)


def run_just(tmp_path: Path, url: str) -> "subprocess.CompletedProcess[str]":
    """`just audit` of the versions that `audit` wrote."""
    options = ["--osv-url", url, "--requirements", str(tmp_path / "requirements.txt")]
    command = [Path(sys.executable).parent / "just", "audit", *options]
    environ = {**os.environ, "VIRTUAL_ENV": str(Path(sys.executable).parents[1])}
    environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(command, cwd=AUDIT.parents[1], env=environ, capture_output=True, text=True, timeout=120)


def test_ci_fails_for_a_known_vulnerability_and_warns_when_the_advisories_are_out_of_reach(
    tmp_path: Path, advisories: str
) -> None:
    job = YAML(typ="safe").load((AUDIT.parents[1] / ".gitlab-ci.yml").read_text())["audit"]
    assert job["script"] == ["uv run just audit"] and job["allow_failure"] == {"exit_codes": 3}
    audit(tmp_path, advisories, "jinja2==2.4.1")
    assert run_just(tmp_path, advisories).returncode == 1


def test_versions_without_a_known_vulnerability_are_clean(tmp_path: Path, advisories: str) -> None:
    done = audit(tmp_path, advisories, "click==8.3.0", "rich==14.0.0")
    assert (done.returncode, done.stdout.split(" looked")[0]) == (0, "2 versions"), done.stderr


def test_a_known_vulnerability_is_named_with_the_version_that_fixes_it(tmp_path: Path, advisories: str) -> None:
    done = audit(tmp_path, advisories, "click==8.3.0", "jinja2==2.4.1")
    assert (done.returncode, done.stdout) == (1, "jinja2 2.4.1: PYSEC-2014-8, fixed in 2.7.2\n"), done.stderr


def test_advisories_out_of_reach_mean_unknown_and_not_clean(
    tmp_path: Path, advisories: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        unreachable = f"http://127.0.0.1:{unused.getsockname()[1]}"
        done = audit(tmp_path, unreachable, "click==8.3.0")
        through_just = run_just(tmp_path, unreachable)
    assert done.returncode == 3 and done.stdout == ""
    assert "NOT AUDITED" in done.stderr and "is unknown" in done.stderr
    assert through_just.returncode == 3, through_just.stderr
    monkeypatch.setattr(Advisories, "status", 503)
    assert audit(tmp_path, advisories, "click==8.3.0").returncode == 3
