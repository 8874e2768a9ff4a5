"""The commands `materia worker`, `materia secrets` and the option `--on`."""

import json
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path

import pytest

from ops.cli import main
from ops.workers.labels import Labels
from tests.support import fake_scaleway
from tests.support.clouds import NAMES, cloud_under_test
from tests.support.command_line import HEAVY, materia, modules_of
from tests.support.fake_hetzner import TOKEN, FakeHetzner
from tests.support.silent_server import silent_server

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOpK8lP6hlwaYOAVIm/sZxEaY7ZCjO32q+/H0PdGlWyc me"
CLIENTS = {*HEAVY, "hcloud", "fabric", "paramiko", "openstack", "keystoneauth1", "scaleway", "scaleway_core", "oci"}
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
R2 = {
    "R2_ENDPOINT": "https://account.r2.cloudflarestorage.com",
    "R2_BUCKET": "raw",
    "R2_ACCESS_KEY": "canary-acce55",
    "R2_SECRET_KEY": "canary-5ec7e7",
}


def said_by(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and complaints of `materia` in this very process, where each client is imported once."""
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_worker_by_hand_is_created_listed_and_destroyed(
    fake: FakeHetzner, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    for name, value in {
        "HETZNER_TOKEN": TOKEN,
        "HETZNER_API_URL": fake.url,
        "MATERIA_DATA_DIR": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "key.pub").write_text(KEY)
    make = ("worker", "create", "bench", "--public-key", str(tmp_path / "key.pub"))
    code, created, complaint = said_by(capsys, *make, "--for", "extract")
    assert code == 0, complaint
    assert "cpx22 at" in created
    (server,) = fake.state.servers.values()
    assert f"known_hosts: {server['public_net']['ipv4']['ip']} ssh-ed25519 " in created
    (row,) = json.loads(said_by(capsys, "worker", "list", "--json")[1])
    assert (row["id"], row["type"], row["eur_per_h"]) == (server["name"], "cpx22", 0.013)
    code, _, complaint = said_by(capsys, *make)
    assert (code, "already" in complaint) == (2, True)
    assert said_by(capsys, "worker", "reap")[1] == "nothing to reap\n"
    assert said_by(capsys, "worker", "destroy", server["name"])[1] == f"destroyed {server['name']}\n"
    assert fake.state.everything == []
    assert "no workers" in materia(tmp_path, "worker", "list").stdout


@pytest.mark.parametrize(
    "command", [["worker", "list"], ["worker", "reap"], ["pipeline", "run", "extract", "--on", "hetzner"]]
)
def test_without_a_token_the_missing_name_is_shown(tmp_path: Path, command: list[str]):
    done = materia(tmp_path, *command, HETZNER_TOKEN="", **R2)
    assert done.returncode == 2
    assert "HETZNER_TOKEN" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_several_providers_are_reached_by_the_same_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    for name in ("hetzner", "ovh", "scaleway"):
        provider = import_module(f"ops.workers.providers.{name}").provider
        monkeypatch.setattr(provider, "__kwdefaults__", {"pause_s": 0.001})
    (tmp_path / "key.pub").write_text(KEY)
    make = ("worker", "create", "bench", "--for", "extract", "--public-key", str(tmp_path / "key.pub"))
    with ExitStack() as stack:
        clouds = [stack.enter_context(cloud_under_test(name)) for name in ("hetzner", "ovh", "scaleway")]
        environ = {name: value for cloud in clouds for name, value in cloud.environ.items()}
        for name, value in {**environ, "MATERIA_WORKER_MAX_COUNT": "2", "MATERIA_DATA_DIR": str(tmp_path)}.items():
            monkeypatch.setenv(name, value)
        code, _, complaint = said_by(capsys, *make)
        assert (code, "hetzner, ovh and scaleway are set; choose one with `--on`" in complaint) == (2, True)
        for cloud in clouds[1:]:
            code, _, complaint = said_by(capsys, *make, "--on", cloud.name)
            assert code == 0, complaint
            assert cloud.fake.held
        # The cap counts what all of them have.
        code, _, complaint = said_by(capsys, *make, "--on", "hetzner")
        assert (code, "2 workers running" in complaint) == (1, True)
        assert clouds[0].fake.held == []
        rows = json.loads(said_by(capsys, "worker", "list", "--json")[1])
        assert sorted(row["provider"] for row in rows) == ["ovh", "scaleway"]
        code, answer, complaint = said_by(capsys, "worker", "destroy", rows[0]["id"])
        assert (code, answer) == (0, f"destroyed {rows[0]['id']}\n"), complaint
        assert [cloud.fake.held for cloud in clouds] == [[], [], []]


def test_one_provider_that_is_down_hides_no_other(
    fake: FakeHetzner, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    # How often it is asked again is shown elsewhere.
    monkeypatch.setattr("ops.workers.providers.cloud._TRIES", 1)
    environ = {
        "MATERIA_DATA_DIR": str(tmp_path),
        "HETZNER_TOKEN": TOKEN,
        "HETZNER_API_URL": fake.url,
        "SCW_ACCESS_KEY": fake_scaleway.ACCESS_KEY,
        "SCW_SECRET_KEY": fake_scaleway.SECRET_KEY,
        "SCW_DEFAULT_PROJECT_ID": fake_scaleway.PROJECT_ID,
        "SCW_ZONES": "fr-par-1",
        "SCW_API_URL": "http://127.0.0.1:9",
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    fake.foreign("ours", labels=Labels("somebody", None, LONG_AGO, timedelta(hours=1), "k").as_labels())
    code, listed, complaint = said_by(capsys, "worker", "list", "--json")
    assert (code, "Scaleway did not answer" in complaint) == (0, True)
    assert [row["id"] for row in json.loads(listed)] == ["ours"]
    code, _, complaint = said_by(capsys, "worker", "reap")
    assert (code, "scaleway: Scaleway did not answer" in complaint) == (1, True)
    assert fake.held == []


def test_waiting_for_a_provider_is_logged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ops.workers.providers.cloud._SILENCE_S", 0.1)
    monkeypatch.setattr("ops.workers.providers.cloud._TRIES", 1)
    monkeypatch.setattr("ops.workers.providers.hetzner._REQUEST_TIMEOUT_S", 0.3)
    # hcloud tries again five times, after pauses that double from a second on.
    monkeypatch.setattr("hcloud._client.exponential_backoff_function", lambda **_: lambda retries: 0.0)
    with silent_server() as url:
        for name, value in {
            "MATERIA_DATA_DIR": str(tmp_path),
            "HETZNER_TOKEN": TOKEN,
            "HETZNER_API_URL": f"{url}/v1",
        }.items():
            monkeypatch.setenv(name, value)
        code, _, complaint = said_by(capsys, "worker", "list")
    assert code == 1
    assert "Hetzner has not answered for 0 s, try 1 of 1" in complaint


def test_an_unknown_place_is_refused(tmp_path: Path):
    done = materia(tmp_path, "pipeline", "run", "extract", MATERIA_RUN_ON="moon", HETZNER_TOKEN=TOKEN)
    assert done.returncode == 2
    assert "'moon'" in done.stderr


def test_a_worker_without_object_storage_is_refused(tmp_path: Path):
    none = dict.fromkeys(R2, "")
    done = materia(tmp_path, "pipeline", "run", "extract", MATERIA_RUN_ON="hetzner", HETZNER_TOKEN=TOKEN, **none)
    assert done.returncode == 2
    assert "R2_ENDPOINT" in done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MATERIA_WORKER_MAX_COUNT", "many"),
        ("MATERIA_WORKER_MAX_EUR_PER_DAY", "-1"),
        ("MATERIA_WORKER_TTL_MINUTES", "nan"),
        ("MATERIA_WORKER_SSH_FROM", "home"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, name: str, value: str):
    done = materia(tmp_path, "worker", "list", HETZNER_TOKEN=TOKEN, **{name: value})
    assert (done.returncode, name in done.stderr) == (2, True)


def test_secrets_check_prints_names_and_never_a_value(tmp_path: Path):
    for arguments in (["secrets", "check"], ["secrets", "check", "--json"]):
        done = materia(tmp_path, *arguments, HETZNER_TOKEN="", **R2)
        assert done.returncode == 0, done.stderr
        assert not any(value in done.stdout + done.stderr for value in R2.values() if value != "raw")
    found = {each["name"]: each for each in json.loads(done.stdout)}
    assert found["R2_SECRET_KEY"]["is_present"]
    assert "extract" in found["R2_SECRET_KEY"]["wanted_by"]
    assert not found["HETZNER_TOKEN"]["is_present"]
    assert found["HETZNER_TOKEN"]["wanted_by"] == ["workers"]
    assert found["OCI_CLI_KEY_CONTENT"]["provider"] == "oracle"
    assert {each["provider"] for each in found.values()} == {None, *NAMES}


def test_partly_configured_object_storage_is_wrong(tmp_path: Path):
    done = materia(tmp_path, "secrets", "check", **{**R2, "R2_SECRET_KEY": ""})
    assert done.returncode == 2
    assert "only partly configured" in done.stderr


def test_secrets_check_imports_nothing_heavy(tmp_path: Path):
    assert modules_of(tmp_path, "secrets", "check") & CLIENTS == set()


def test_one_provider_imports_no_other_ones_client(fake: FakeHetzner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HETZNER_TOKEN", TOKEN)
    monkeypatch.setenv("HETZNER_API_URL", fake.url)
    assert modules_of(tmp_path, "worker", "list") & (CLIENTS - {"hcloud"}) == set()
