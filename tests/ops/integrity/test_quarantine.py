"""What is set aside keeps its bytes and its date, and stays bounded."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ops.integrity import quarantine
from ops.integrity.quarantine import MAX_FILES, set_aside

NOW = datetime(2026, 11, 28, 7, 30, tzinfo=UTC)


def test_a_file_and_its_log_are_moved_under_their_date(tmp_path: Path) -> None:
    path = tmp_path / "lakehouse.duckdb"
    path.write_bytes(b"damaged")
    (tmp_path / "lakehouse.duckdb.wal").write_bytes(b"log")
    moved = set_aside(path, NOW)
    assert moved == tmp_path / "quarantine" / "20261128T073000000000Z-lakehouse.duckdb"
    assert moved.read_bytes() == b"damaged" and moved.with_name(f"{moved.name}.wal").read_bytes() == b"log"
    assert [each.name for each in tmp_path.iterdir()] == ["quarantine"]


def test_nothing_is_set_aside_where_nothing_is(tmp_path: Path) -> None:
    assert set_aside(tmp_path / "none", NOW) is None and list(tmp_path.iterdir()) == []


def test_the_oldest_go_beyond_the_number_and_the_bytes_that_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kept(size_bytes: int, rounds: int) -> list[str]:
        for number in range(rounds):
            path = tmp_path / "file"
            path.write_bytes(bytes(size_bytes))
            set_aside(path, NOW + timedelta(seconds=number))
        return sorted(each.name for each in (tmp_path / "quarantine").iterdir())

    names = kept(10, MAX_FILES + 3)
    assert len(names) == MAX_FILES and names[0].startswith("20261128T073003")
    monkeypatch.setattr(quarantine, "MAX_BYTES", 100)
    assert len(kept(40, 13)) == 2
    assert kept(101, 14) == []
