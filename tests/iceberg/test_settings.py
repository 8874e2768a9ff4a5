"""The settings of the Iceberg catalog: complete or absent, and never printed."""

import socket
import subprocess
import sys

import pytest

from dataflows.errors import IcebergError, MissingToolError, SettingsError
from dataflows.iceberg import catalog
from dataflows.iceberg.catalog import CatalogAddress, open_catalog
from ops.config.settings import Settings
from ops.host.redact import Redactor
from ops.workers.secrets import check, worker_environ
from tests.support.command_line import HEAVY, materia
from tests.support.object_server import CANARY

WHOLE = {"ICEBERG_CATALOG_URI": "http://127.0.0.1:9/", "ICEBERG_WAREHOUSE": "lake", "ICEBERG_TOKEN": CANARY}


def test_no_setting_means_no_catalog():
    assert Settings.from_environ({"ICEBERG_NAMESPACE": "serving"}).iceberg is None


def test_three_settings_configure_a_catalog():
    found = Settings.from_environ({**WHOLE, "ICEBERG_KEEP_DAYS": "7"}).iceberg
    assert found == CatalogAddress("http://127.0.0.1:9", "lake", "serving", 7, token=CANARY)
    assert CANARY not in f"{found!r} {found}"


def test_client_credentials_replace_a_token():
    given = {**WHOLE, "ICEBERG_TOKEN": "", "ICEBERG_CREDENTIAL": f"me:{CANARY}", "ICEBERG_NAMESPACE": "psd"}
    found = Settings.from_environ(given).iceberg
    assert found == CatalogAddress("http://127.0.0.1:9", "lake", "psd", credential=f"me:{CANARY}")
    assert CANARY not in f"{found!r} {found}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ICEBERG_TOKEN": ""}, r"configured \(ICEBERG_CATALOG_URI, ICEBERG_WAREHOUSE\)"),
        ({"ICEBERG_CATALOG_URI": ""}, r"configured \(ICEBERG_WAREHOUSE, ICEBERG_TOKEN\)"),
        ({"ICEBERG_WAREHOUSE": ""}, "ICEBERG_WAREHOUSE"),
        ({"ICEBERG_CREDENTIAL": f"me:{CANARY}"}, "either ICEBERG_TOKEN or ICEBERG_CREDENTIAL"),
        ({"ICEBERG_CATALOG_URI": "s3://lake"}, "ICEBERG_CATALOG_URI='s3://lake' is not an http"),
        ({"ICEBERG_TOKEN": "", "ICEBERG_CREDENTIAL": CANARY}, "is not `client-id:client-secret`"),
        ({"ICEBERG_NAMESPACE": "a.b"}, "ICEBERG_NAMESPACE='a.b'"),
        ({"ICEBERG_NAMESPACE": "serving_"}, "ICEBERG_NAMESPACE='serving_'"),
        ({"ICEBERG_KEEP_DAYS": "0"}, "ICEBERG_KEEP_DAYS='0'"),
    ],
)
def test_an_incomplete_catalog_is_an_error_that_contains_no_value(change, message):
    with pytest.raises(SettingsError, match=message) as raised:
        Settings.from_environ({**WHOLE, **change})
    assert CANARY not in str(raised.value)


def test_secrets_check_names_missing_settings_and_prints_no_value(tmp_path):
    done = materia(tmp_path, "secrets", "check", ICEBERG_CATALOG_URI="http://127.0.0.1:9", ICEBERG_TOKEN=CANARY)
    assert done.returncode == 2
    assert "ICEBERG_WAREHOUSE" in done.stderr
    assert CANARY not in done.stdout + done.stderr
    presence = {each.name: each for each in check(WHOLE)}
    assert presence["ICEBERG_TOKEN"].is_secret and presence["ICEBERG_CREDENTIAL"].is_secret
    assert presence["ICEBERG_TOKEN"].wanted_by == ("export_serving", "run-all")


def test_only_a_worker_that_publishes_gets_the_catalog_settings():
    given = {**WHOLE, "ICEBERG_NAMESPACE": "psd"}
    assert worker_environ("run-all", given) == given
    assert worker_environ("extract", given).keys() & WHOLE.keys() == set()


def test_both_parts_of_client_credentials_are_redacted():
    redact = Redactor.from_environ({"ICEBERG_CREDENTIAL": f"client:{CANARY}"})
    assert redact(f"sent client_secret={CANARY} of client:{CANARY}") == "sent client_secret=*** of ***"


def test_without_pyiceberg_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiceberg.catalog.rest", None)
    with pytest.raises(MissingToolError, match="uv sync --extra iceberg"):
        open_catalog(CatalogAddress("http://127.0.0.1:9", "lake", token=CANARY))


def test_settings_and_status_import_no_heavy_library():
    code = (
        "import sys, ops.health.status, ops.pipelines.iceberg; print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & set(HEAVY) == set()


@pytest.mark.parametrize("opened_with", [{"token": CANARY}, {"credential": f"me:{CANARY}"}])
def test_a_catalog_that_never_responds_ends_in_a_timeout(
    opened_with: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "RESPONSE_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(IcebergError, match=r"TimeoutError: timed out"):
            open_catalog(CatalogAddress(uri, "lake", **opened_with))
