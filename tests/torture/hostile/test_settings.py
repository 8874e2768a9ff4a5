"""Settings, the console's own among them, that hold whatever an environment can hold: a value or a SettingsError."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dataflows.errors import SettingsError
from ops.config.settings import Settings
from ops.config.table import BY_NAME
from ops.host.exits import Exit
from ops.supervisor.up import plan_of
from ops.workers.settings import WorkerSettings
from tests.support.command_line import materia
from tests.support.torture import count
from tui.shell.config import config_path, read_config

RUBBISH = (
    *("~nobody-at-all/x", "/" + "x" * 5000, "x/" * 3000, "/dev/null/x", "http://[", "http://:80", "https://a:99999/"),
    *("https://", "ftp://x", "javascript:1", "\u00b2", "-1", "nan", "inf", "1e999", "0x10", "9" * 5000, "1_000", "--"),
    *("25:00", "00:60", "12:00-11:00", "31-1", "0-99", "..", "../..", "$(id)", "`id`", "'", '"', "\n\n", "\t", "\x7f"),
    *("\u202e", "\udcff", "a" * 100_000, ",,,", "::/129", "1.2.3.4/33", "%s%n", "{}", "psd_\u0430lldata", "a\nb"),
)
READERS: tuple[Callable[[Mapping[str, str]], object], ...] = (
    Settings.from_environ,
    WorkerSettings.from_environ,
    config_path,
    lambda environ: plan_of(WorkerSettings.from_environ(environ), environ),
)
values = st.sampled_from(RUBBISH) | st.text(st.characters(blacklist_characters="\0"), max_size=40)


@settings(max_examples=count(300, 30_000), deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(BY_NAME)), values, max_size=4))
@example(
    {"MATERIA_REMOTE": "x", "MATERIA_SUPERVISOR_SSH_PRIVATE_KEY": "x", "MATERIA_SUPERVISOR_MAX_EUR_PER_MONTH": "²"}
)
@example({"DUCKLAKE_KEEP_DAYS": "9" * 5000, "DUCKLAKE_CATALOG": "sqlite:x", "DUCKLAKE_DATA": "x"})
def test_any_environment_is_read_or_refused(environ: dict[str, str]) -> None:
    for read in READERS:
        try:
            read(environ)
        except SettingsError as error:
            assert any(name in str(error) for name in BY_NAME)


@settings(max_examples=count(50, 5_000), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: f"[keys]\n{text} = 7\n".encode(errors="ignore")))
@example(b"keys = " + b"[" * 100_000)
@example(b'theme = ["x"]')
@example(b'[keys]\n"runs.start" = ""')
def test_any_config_of_the_console_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tui.toml").write_bytes(content)
    try:
        read_config(tmp_path / "tui.toml")
    except SettingsError as error:
        assert "tui.toml" in str(error)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MATERIA_DATA_DIR", "~nobody-at-all/x"),
        ("MATERIA_DATA_DIR", "/" + "x" * 5000),
        ("SERVING_DUCKDB_PATH", "/dev/null/x"),
        ("ALERT_WEBHOOK_URL", "http://["),
        ("PSD_ARCHIVE_URL", "https://a:99999/"),
        ("PSD_DATASET", "../x"),
    ],
    ids=lambda value: value[:30],
)
def test_a_setting_that_cannot_be_is_named_by_the_command_line(tmp_path: Path, name: str, value: str) -> None:
    done = materia(tmp_path, "status", **{name: value})
    assert done.returncode == Exit.USAGE
    assert done.stderr.startswith("error: ") and name in done.stderr and "Traceback" not in done.stderr
