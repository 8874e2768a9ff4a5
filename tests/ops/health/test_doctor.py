"""Each of the doctor's findings, on hosts that lack one thing."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import duckdb
import pytest

from dataflows.errors import SettingsError
from ops.config.table import SETTINGS
from ops.health.doctor import Finding, Verdict, examine
from ops.host.lock import writer_lock
from tests.support.clouds import cloud_under_test
from tests.support.command_line import materia
from tests.support.faulty_archive import FaultyArchive

TOKEN = "hetzner-Canary0123456789"


def findings(data_dir: Path, **environ: str) -> dict[str, Finding]:
    given = {"MATERIA_DATA_DIR": str(data_dir), "MATERIA_MIN_FREE_MB": "0", "PSD_ARCHIVE_URL": "http://127.0.0.1:9"}
    return {finding.name: finding for finding in examine({**given, **environ})}


def test_a_fresh_host_is_fit(tmp_path: Path, archive: FaultyArchive) -> None:
    found = findings(tmp_path, PSD_ARCHIVE_URL=archive.url)
    assert [name for name, finding in found.items() if finding.verdict is Verdict.FAILED] == []
    assert found["clock"].verdict is Verdict.OK
    assert {"settings", "versions", "code", "disk space", "lakehouse", "serving", "landing", "clock"} <= found.keys()
    assert {"esc", "ssh", "provider"} <= found.keys()


def test_wrong_settings_fail_and_nothing_else_is_asked(tmp_path: Path) -> None:
    found = findings(tmp_path, MATERIA_EXTRACT_AT="25:00")
    assert list(found) == ["settings"] and found["settings"].verdict is Verdict.FAILED
    assert "MATERIA_EXTRACT_AT" in found["settings"].what


def test_every_wrong_setting_is_named_also_those_of_workers(tmp_path: Path) -> None:
    wrong = {
        "MATERIA_RUN_ON": "moon",
        "MATERIA_WORKER_MAX_COUNT": "many",
        "MATERIA_WORKER_SSH_FROM": "everywhere",
        "SCW_API_URL": "scaleway",
        "MATERIA_SUPERVISOR_MAX_EUR_PER_MONTH": "-1",
        "MATERIA_SUPERVISOR_SSH_PRIVATE_KEY": "hunter2-Canary",
        "R2_BUCKET": "psd",
    }
    found = list(examine({"MATERIA_DATA_DIR": str(tmp_path), **wrong}))
    assert {(finding.name, finding.verdict) for finding in found} == {("settings", Verdict.FAILED)}
    for name in wrong:
        assert len([finding for finding in found if name in finding.what]) == 1, name
    assert not any("hunter2" in finding.what for finding in found)


def test_every_setting_with_a_parser_is_examined(tmp_path: Path) -> None:
    """Text that no parser takes fails for every setting, so that none is left out."""
    for setting in SETTINGS:
        try:
            setting.parse("\x01", setting.name)
        except SettingsError:
            found = findings(tmp_path, **{setting.name: "\x01"})
            assert list(found) == ["settings"] and setting.name in found["settings"].what


def test_a_host_whose_runs_would_exit_with_2_is_unfit(tmp_path: Path) -> None:
    token = {"MATERIA_RUN_ON": "hetzner", "HETZNER_TOKEN": TOKEN, "HETZNER_API_URL": "http://127.0.0.1:9"}
    r2 = {"R2_ENDPOINT": "http://127.0.0.1:9", "R2_BUCKET": "psd", "R2_ACCESS_KEY": "k", "R2_SECRET_KEY": "s"}
    for environ, missing in (({"MATERIA_RUN_ON": "ovh"}, "OS_USERNAME"), (token, "R2_ENDPOINT")):
        finding = findings(tmp_path, **environ)["run on"]
        assert finding.verdict is Verdict.FAILED and missing in finding.what + finding.next_step
        done = materia(tmp_path, "run-all", timeout_s=60, PSD_ARCHIVE_URL="http://127.0.0.1:9", **environ)
        assert done.returncode == 2, done.stderr
    assert findings(tmp_path, **token, **r2)["run on"].verdict is Verdict.OK
    hidden = findings(tmp_path, MATERIA_RUN_ON="ovh", MATERIA_ESC_ENVIRONMENT="beanflows/prod")["run on"]
    assert hidden.verdict is Verdict.WARNING and "esc run beanflows/prod -- materia doctor" in hidden.next_step
    assert "run on" not in findings(tmp_path)


def test_databases_that_do_not_open_are_warnings_for_a_run_builds_them_again(tmp_path: Path) -> None:
    (tmp_path / "lakehouse.duckdb").write_bytes(b"broken" * 4096)
    (tmp_path / "serving.duckdb").write_bytes(b"broken" * 4096)
    found = findings(tmp_path)
    assert found["lakehouse"].verdict is found["serving"].verdict is Verdict.WARNING
    assert found["lakehouse"].next_step.startswith("materia run-all")
    assert found["serving"].next_step.startswith("materia run-all")


def test_the_lakehouse_is_not_looked_at_while_a_run_writes(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "lakehouse.duckdb")) as connection:
        connection.execute("CREATE TABLE facts AS SELECT 1 AS value")
        with writer_lock(tmp_path / "writer.lock", "transform"):
            busy = findings(tmp_path)["lakehouse"]
    assert busy.verdict is Verdict.OK and "a run is writing" in busy.what
    assert "1 tables" in findings(tmp_path)["lakehouse"].what


def test_too_little_disk_space_fails(tmp_path: Path) -> None:
    assert findings(tmp_path, MATERIA_MIN_FREE_MB=str(10**9))["disk space"].verdict is Verdict.FAILED


def test_an_iceberg_catalog_that_does_not_answer_is_a_warning_only(tmp_path: Path) -> None:
    given = {"ICEBERG_CATALOG_URI": "http://127.0.0.1:9", "ICEBERG_WAREHOUSE": "lake", "ICEBERG_TOKEN": TOKEN}
    found = findings(tmp_path, **given)["iceberg"]
    assert (
        found.verdict is Verdict.WARNING
        and "Connection refused (the Iceberg catalog at" in found.what
        and found.next_step
    )
    assert TOKEN not in f"{found}"
    assert findings(tmp_path)["iceberg"].verdict is Verdict.OK


def test_an_archive_that_does_not_answer_is_a_warning_only(tmp_path: Path) -> None:
    assert findings(tmp_path)["clock"].verdict is Verdict.WARNING


def test_a_missing_esc_fails_only_where_runs_need_it(tmp_path: Path) -> None:
    assert findings(tmp_path, PATH=str(tmp_path))["esc"].verdict is Verdict.WARNING
    needed = findings(tmp_path, PATH=str(tmp_path), MATERIA_ESC_ENVIRONMENT="beanflows/prod")
    assert needed["esc"].verdict is Verdict.FAILED


@pytest.fixture
def web_page() -> Iterator[ThreadingHTTPServer]:
    """What answers to any request, in place of a provider, with a web page and a clock that is years behind."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>blocked</html>" if self.command == "GET" else b"")

        do_HEAD = do_GET

        def date_time_string(self, timestamp: float | None = None) -> str:
            return "Mon, 02 Nov 2020 09:00:00 GMT"

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["hetzner", "scaleway"])
def test_a_provider_is_asked_whether_it_takes_the_credentials(tmp_path: Path, name: str) -> None:
    with cloud_under_test(name) as cloud:
        good = findings(tmp_path, **cloud.environ)
        bad = findings(tmp_path, **cloud.wrong_environ)[f"provider {name}"]
    assert "provider" not in good
    assert (good[f"provider {name}"].verdict, bad.verdict) == (Verdict.OK, Verdict.FAILED)
    wrong = next(each for each in cloud.environ if cloud.environ[each] != cloud.wrong_environ[each])
    assert wrong in bad.next_step and cloud.secret not in bad.what + bad.next_step


def test_a_provider_that_does_not_answer_as_itself_is_a_warning_only(
    tmp_path: Path, web_page: ThreadingHTTPServer
) -> None:
    url = f"http://127.0.0.1:{web_page.server_address[1]}"
    for address in ("http://127.0.0.1:9", url):
        found = findings(tmp_path, HETZNER_API_URL=address, HETZNER_TOKEN=TOKEN)["provider hetzner"]
        assert found.verdict is Verdict.WARNING and found.next_step == "try again later"
        assert TOKEN not in found.what
    assert "HTTP 200 without an answer of its API" in found.what


def test_providers_are_asked_only_where_anything_is_set_for_them(tmp_path: Path) -> None:
    assert [name for name in findings(tmp_path) if name.startswith("provider")] == ["provider"]
    half = findings(tmp_path, SCW_ACCESS_KEY="SCW0123456789ABCDEFG")["provider scaleway"]
    assert half.verdict is Verdict.WARNING and "SCW_SECRET_KEY, SCW_DEFAULT_PROJECT_ID not set" in half.what


def test_a_clock_that_is_wrong_fails(tmp_path: Path, web_page: ThreadingHTTPServer) -> None:
    url = f"http://127.0.0.1:{web_page.server_address[1]}"
    assert findings(tmp_path, PSD_ARCHIVE_URL=url)["clock"].verdict is Verdict.FAILED


def test_the_exit_code_shows_whether_a_check_failed(tmp_path: Path) -> None:
    offline = {"PSD_ARCHIVE_URL": "http://127.0.0.1:9", "MATERIA_MIN_FREE_MB": "0"}
    fit = materia(tmp_path, "doctor", timeout_s=180, **offline)
    assert fit.returncode == 0 and fit.stdout.endswith("fit to run\n")
    unfit = materia(tmp_path, "doctor", "--json", timeout_s=180, **offline, PSD_DATASET="//")
    assert unfit.returncode == 1
    assert json.loads(unfit.stdout)["findings"][0]["verdict"] == "failed"
