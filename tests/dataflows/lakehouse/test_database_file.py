"""DuckDB's own checksums tell damage, and never call a file damaged that DuckDB wrote."""

import os
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from dataflows.lakehouse.database_file import damaged_blocks, fault_of

BLOCK_BYTES, BLOCKS_AT = 262_144, 12_288

BUSY_WRITER = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1])
for number in range(60):
    connection.execute("CREATE OR REPLACE TABLE t AS SELECT range AS i, random() AS r FROM range(200000)")
    connection.execute("DELETE FROM t WHERE i % 3 = 0")
    connection.execute("CHECKPOINT")
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with blocks in use, blocks that were freed, and both headers written several times."""
    path = tmp_path_factory.mktemp("database") / "written.duckdb"
    with duckdb.connect(str(path)) as connection:
        for number in range(3):
            connection.execute(f"CREATE TABLE t{number} AS SELECT range AS i, random() AS r FROM range(200000)")
            connection.execute("CHECKPOINT")
        connection.execute("DROP TABLE t1")
        connection.execute("DELETE FROM t2 WHERE i % 2 = 0")
    return path


@pytest.fixture
def database(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(written, tmp_path / "copy.duckdb"))


def overwrite(at: int) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(at)
            file.write(random.Random(at).randbytes(3000))

    return damage


def test_a_file_that_duckdb_wrote_is_intact(database: Path) -> None:
    assert fault_of(database) is None and list(damaged_blocks(database)) == []


def test_a_file_that_duckdb_shortened_after_its_header_is_intact(tmp_path: Path) -> None:
    """DuckDB cuts free blocks off the end of a file whose header still counts them."""
    path, shortened = tmp_path / "rewritten.duckdb", 0
    for number in range(8):
        with duckdb.connect(str(path)) as connection:
            connection.execute(f"CREATE OR REPLACE TABLE t{number % 3} AS SELECT range, random() FROM range(200000)")
            if number % 2:
                connection.execute(f"DROP TABLE IF EXISTS t{(number + 1) % 3}")
        blocks = (path.stat().st_size - BLOCKS_AT) // BLOCK_BYTES
        if counted_blocks(path) > blocks:
            shortened += 1
            cut = Path(shutil.copy(path, tmp_path / "cut.duckdb"))
            os.truncate(cut, path.stat().st_size - 2 * BLOCK_BYTES)
            assert (fault_of(cut) or "").startswith("truncated"), "blocks in use are missing"
        assert fault_of(path) is None and list(damaged_blocks(path)) == []
    assert shortened


def counted_blocks(path: Path) -> int:
    """How many blocks the newer header counts."""
    headers = path.read_bytes()[4096:BLOCKS_AT]
    newest = max(headers[:4096], headers[4096:], key=lambda header: struct.unpack_from("<Q", header, 8))
    return struct.unpack_from("<Q", newest, 32)[0]


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda path: os.truncate(path, 0), "it is empty"),
        (lambda path: os.truncate(path, 100), "truncated: it has only 100 bytes"),
        (lambda path: os.truncate(path, path.stat().st_size // 2), "truncated"),
        (lambda path: os.truncate(path, path.stat().st_size - 1), "truncated"),
        (lambda path: path.write_text("no database" * 2000), "it does not begin as a DuckDB file does"),
        (overwrite(0), "it does not begin as a DuckDB file does"),
        (overwrite(1000), "the header has a wrong checksum"),
        (overwrite(5000), "the header has a wrong checksum"),
        (overwrite(9000), "the header has a wrong checksum"),
    ],
)
def test_a_cheap_look_sees_damage_of_size_and_headers(
    database: Path, damage: Callable[[Path], None], fault: str
) -> None:
    damage(database)
    found = fault_of(database)
    assert found is not None and found.startswith(fault)


def test_reading_every_block_finds_the_damaged_one(database: Path) -> None:
    blocks = (database.stat().st_size - BLOCKS_AT) // BLOCK_BYTES
    for number in range(blocks):
        shutil.copy(database, path := database.with_name(f"{number}.duckdb"))
        overwrite(BLOCKS_AT + number * BLOCK_BYTES + 70_000)(path)
        assert fault_of(path) in (None, "the catalog has a wrong checksum")
        assert list(damaged_blocks(path)) == [number]


def test_a_file_that_is_not_there_has_no_fault(tmp_path: Path) -> None:
    assert fault_of(tmp_path / "none.duckdb") is None


def test_a_running_writer_does_not_count_as_damage(tmp_path: Path) -> None:
    path = tmp_path / "busy.duckdb"
    duckdb.connect(str(path)).close()
    with subprocess.Popen([sys.executable, "-c", BUSY_WRITER, str(path)]) as writer:
        looks = 0
        while writer.poll() is None:
            assert fault_of(path) is None
            looks += 1
    assert writer.returncode == 0 and looks > 50
