"""Which machines are ours, until when, and what they are called."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dataflows.errors import SettingsError
from ops.workers.labels import SELECTOR, Labels, owner_of, worker_name

CREATED = datetime(2026, 11, 20, 12, 0, 1, tzinfo=UTC)
LABELS = Labels("box-abc123", 12, CREATED, timedelta(hours=2), "host-key")
AS_KEPT = {
    "managed-by": "materia",
    "materia-owner": "box-abc123",
    "materia-run": "12",
    "materia-created": str(int(CREATED.timestamp())),
    "materia-ttl-s": "7200",
    "materia-host-key": "host-key",
}


def test_labels_are_kept_as_text_and_read_back() -> None:
    assert LABELS.as_labels() == AS_KEPT
    assert Labels.read(AS_KEPT) == LABELS
    assert SELECTOR == "managed-by=materia"


def test_a_worker_created_by_hand_has_no_run() -> None:
    by_hand = Labels("box-abc123", None, CREATED, timedelta(hours=2), "host-key")
    assert "materia-run" not in by_hand.as_labels()
    assert Labels.read(by_hand.as_labels()) == by_hand


def test_its_time_is_up_after_its_ttl() -> None:
    assert LABELS.expires_at == CREATED + timedelta(hours=2)


@pytest.mark.parametrize("managed", [None, "", "Materia", "terraform"])
def test_a_machine_without_our_label_is_not_ours(managed: str | None) -> None:
    others = {name: value for name, value in AS_KEPT.items() if name != "managed-by"}
    assert Labels.read(others | ({"managed-by": managed} if managed is not None else {})) is None


@pytest.mark.parametrize("name", ["materia-owner", "materia-created", "materia-ttl-s", "materia-host-key"])
def test_a_label_that_is_missing_makes_it_none_of_ours(name: str) -> None:
    assert Labels.read({key: value for key, value in AS_KEPT.items() if key != name}) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("materia-run", "twelve"),
        ("materia-created", "yesterday"),
        ("materia-created", "9" * 12),
        ("materia-created", "9" * 30),
        ("materia-created", "9" * 17),
        ("materia-ttl-s", "9" * 30),
        ("materia-ttl-s", ""),
    ],
)
def test_labels_that_we_never_write_are_not_ours(name: str, value: str) -> None:
    assert Labels.read({**AS_KEPT, name: value}) is None


def test_an_owner_is_the_machine_and_the_data_directory(tmp_path: Path) -> None:
    first, second = owner_of(tmp_path / "a", "Box.Example"), owner_of(tmp_path / "b", "Box.Example")
    assert first != second
    assert first.rpartition("-")[0] == second.rpartition("-")[0] == "box-example"
    assert len(first.rpartition("-")[2]) == 6
    assert owner_of(tmp_path / "b" / ".." / "a", "Box.Example") == first


def test_a_long_host_name_is_cut_and_a_strange_one_replaced(tmp_path: Path) -> None:
    assert owner_of(tmp_path, "a" * 30).rpartition("-")[0] == "a" * 20
    assert owner_of(tmp_path, "a" * 19 + ".b").rpartition("-")[0] == "a" * 19
    assert owner_of(tmp_path, "___").rpartition("-")[0] == "host"


def test_a_worker_is_named_for_its_owner_and_purpose() -> None:
    assert worker_name("box-abc123", "Run All!") == "materia-box-abc123-run-all"


@pytest.mark.parametrize(("purpose", "fits"), [("p" * 44, True), ("p" * 45, False), ("", False)])
def test_a_name_that_is_no_hostname_is_refused(purpose: str, fits: bool) -> None:
    if fits:
        assert len(worker_name("box-abc123", purpose)) == 63
    else:
        with pytest.raises(SettingsError, match="at most 63"):
            worker_name("box-abc123", purpose)
