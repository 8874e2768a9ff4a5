from datetime import UTC, datetime
from pathlib import Path

import pytest

from dataflows.errors import LockHeldError, SettingsError
from dataflows.source.release import Month
from ops.demo.history import published_at
from ops.demo.rehearsal import MARKER_NAME, clear_directory, demo_settings, history_until
from ops.host.lock import writer_lock


def test_no_release_of_the_demo_is_dated_in_the_future() -> None:
    for day in range(1, 31):
        for month in range(1, 13):
            now = datetime(2026, month, min(day, 28), 15, 59, tzinfo=UTC)
            last = history_until(now, "psd_alldata", 20_000, 3).months[-1]
            assert published_at(last) <= now < published_at(last.back(-1))


def test_the_last_release_of_the_demo_rekeys_a_commodity() -> None:
    now = datetime(2026, 11, 21, tzinfo=UTC)
    spec = history_until(now, "psd_grains_pulses", 5_000, 4)
    assert spec.months == tuple(Month(2026, 8).through(Month(2026, 11)))
    assert (spec.dataset, spec.rows, spec.rekey_in) == ("psd_grains_pulses", 5_000, 3)
    assert history_until(now, "psd_coffee", 5_000, 4).rekey_in is None, "then nothing would be left to revise"


def test_a_directory_of_other_files_is_not_cleared(tmp_path: Path) -> None:
    (tmp_path / "serving.duckdb").write_text("precious")
    with pytest.raises(SettingsError, match="not a demo's"):
        clear_directory(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["serving.duckdb"]
    with pytest.raises(SettingsError, match="is a file"):
        clear_directory(tmp_path / "serving.duckdb")


def test_an_earlier_demo_makes_room_unless_it_is_at_work(tmp_path: Path) -> None:
    data_dir = tmp_path / "new" / "demo"
    clear_directory(data_dir)
    (data_dir / "landing").mkdir()
    (data_dir / "serving.duckdb").symlink_to("gone")
    with writer_lock(data_dir / "writer.lock", "run-all"), pytest.raises(LockHeldError):
        clear_directory(data_dir)
    assert (data_dir / "landing").is_dir()
    clear_directory(data_dir)
    assert {path.name for path in data_dir.iterdir()} == {MARKER_NAME, "writer.lock"}


def test_a_demo_knows_nothing_of_the_operators_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LAKEHOUSE_DUCKDB_PATH", "SERVING_DUCKDB_PATH", "R2_ENDPOINT"):
        monkeypatch.setenv(name, "/precious")
    settings = demo_settings(tmp_path, "psd_coffee", "http://127.0.0.1:1")
    assert settings.r2 is None and settings.dataset == "psd_coffee"
    assert settings.serving_path.parent == settings.lakehouse_path.parent == tmp_path
