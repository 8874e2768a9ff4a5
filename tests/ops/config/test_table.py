"""The table of settings: every setting is declared once, and everything else follows from it."""

import pytest

from dataflows.errors import SettingsError
from ops.config import parse
from ops.config.settings import Settings
from ops.config.table import BY_NAME, PROVIDERS, SETTINGS, Values, needed_by, unknown_names
from ops.host.redact import _SECRET_NAME
from ops.workers.secrets import worker_environ


def test_every_name_is_declared_once() -> None:
    assert len(BY_NAME) == len(SETTINGS)


def test_every_default_is_a_value_that_its_parser_takes() -> None:
    for setting in SETTINGS:
        if setting.default is not None:
            setting.parse(setting.default, setting.name)


def test_a_setting_whose_name_sounds_secret_is_declared_secret() -> None:
    assert {each.name for each in SETTINGS if each.is_secret} == {
        each.name for each in SETTINGS if _SECRET_NAME.search(each.name)
    }


def test_no_secret_is_shown_by_its_parser() -> None:
    for setting in SETTINGS:
        if setting.is_secret:
            try:
                setting.parse("\x00 not what is wanted", setting.name)
            except SettingsError as error:
                assert "not what is wanted" not in str(error)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("MATERIA_TICKS", "MATERIA_TICK_S"),
        ("R2_ACCESSKEY", "R2_ACCESS_KEY"),
        ("PSD_DATASETS", "PSD_DATASET"),
        ("MATERIA_UNHEARD_OF_THINGS", None),
    ],
)
def test_an_unknown_name_is_reported_with_the_nearest(name: str, nearest: str | None) -> None:
    assert list(unknown_names({name: "1", "PATH": "/bin", "MATERIA_TICK_S": "60"})) == [(name, nearest)]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("MATERIA_EXTRACT_AT", "2 o'clock", "is not a time of day"),
        ("MATERIA_POLL_DAYS", "14-8", "write the lower value first"),
        ("MATERIA_POLL_DAYS", "8", "is not a range"),
        ("MATERIA_TICK_S", "0", "is not a whole number from 1 to 3600"),
        ("MATERIA_MAX_ROW_LOSS", "nan", "is not a number from 0 to 1"),
        ("MATERIA_GATEWAY", "sparc", "is not one of duckdb, ducklake, spark"),
        ("PSD_ARCHIVE_URL", "ftp://usda", "is not an http(s) address"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, text: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}=") as refused:
        Settings.from_environ({name: text})
    assert problem in str(refused.value)


def test_a_value_is_parsed_and_a_default_is_used_without_one() -> None:
    values = Values.from_environ({"MATERIA_POLL_DAYS": " 9 - 12 ", "MATERIA_TICK_S": "  "})
    assert values["MATERIA_POLL_DAYS"] == (9, 12)
    assert values["MATERIA_TICK_S"] == 60
    assert values["MATERIA_REMOTE"] is None


def test_networks_are_checked() -> None:
    with pytest.raises(SettingsError, match="is not a network"):
        parse.networks("203.0.113.7/33", "MATERIA_WORKER_SSH_FROM")


def test_no_provider_setting_reaches_a_worker() -> None:
    everything = {setting.name: "x" for setting in SETTINGS}
    for pipeline in ("extract", "transform", "export_serving", "run-all"):
        sent = worker_environ(pipeline, everything)
        assert sent and not any(BY_NAME[name].group in (*PROVIDERS, "supervisor", "alerts", "workers") for name in sent)
    assert all(needed_by(provider) for provider in PROVIDERS)
