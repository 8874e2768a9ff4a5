"""Zips that are no release: cut, flipped, forged, bombs. Each is refused, in little memory, and leaves nothing."""

import csv as csv_module
import io
import random
import secrets
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataflows.errors import SnapshotError
from dataflows.source.psd_zip import COLUMNS, unpack
from tests.support.psd_files import HEADER, INNER_DATE, MEMBER, csv, release_zip, row, rows, zipped, zipped_all
from tests.support.torture import Figure, count

MOST_PEAK_BYTES = count(350, 700) << 20
MOST_S = 60
UNPACK = """
import resource, sys
from pathlib import Path
from dataflows.errors import MateriaError
from dataflows.source.psd_zip import unpack
import duckdb, pyarrow.parquet
resource.setrlimit(resource.RLIMIT_DATA, (2 << 30, 2 << 30))
folder = Path(sys.argv[1])
for path in sorted(folder.glob("*.zip")):
    try:
        unpack(path, sys.argv[2], folder / "rows.parquet")
    except MateriaError as error:
        print(path.stem, type(error).__name__, error)
# Not getrusage: what it tells begins with the peak of whoever started this process.
print("peak", Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


def linked(content: bytes, target: str) -> bytes:
    """A zip whose table is a symbolic link."""
    info = zipfile.ZipInfo(MEMBER, INNER_DATE)
    info.create_system, info.external_attr = 3, 0o120777 << 16
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(info, target)
    return packed.getvalue() + content[:0]


def crowded(members: int) -> bytes:
    """A zip with a directory of that many empty members: few bytes each on disk, many in memory."""
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", 20, 3, 20, 0, 0, 0, 0, 33, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"x"
    directory = entry * members
    zip64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, members, members, len(directory), 0)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, len(directory), 1)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return directory + zip64 + locator + end


def overlapping() -> bytes:
    """Two directory entries for one piece of data."""
    whole = release_zip()
    at = whole.rindex(b"PK\x01\x02")
    end = whole.rindex(b"PK\x05\x06")
    entry = whole[at:end]
    twice = bytearray(whole[:at] + entry + entry + whole[end:])
    struct.pack_into("<HHL", twice, len(twice) - 14, 2, 2, 2 * len(entry))
    return bytes(twice)


def claiming_zip64(size_bytes: int) -> bytes:
    """The real size in the header, another one in the zip64 field of the directory."""
    whole = release_zip()
    at, end = whole.rindex(b"PK\x01\x02"), whole.rindex(b"PK\x05\x06")
    entry = bytearray(whole[at:end])
    extra = struct.pack("<HHQ", 1, 8, size_bytes)
    struct.pack_into("<L", entry, 24, 0xFFFFFFFF)
    struct.pack_into("<H", entry, 30, len(extra))
    tail = bytearray(whole[end:])
    struct.pack_into("<L", tail, 12, len(entry) + len(extra))
    return whole[:at] + bytes(entry) + extra + bytes(tail)


def with_value(value: str) -> bytes:
    return zipped(csv([*rows(2), row("ZZ", value=value)]))


ZIPS = {
    "the table is a symbolic link to passwd": linked(b"", "/etc/passwd"),
    "the table is a symbolic link upwards": linked(b"", "../../../runs.sqlite"),
    "the table lies in a folder above": zipped(csv(rows(2)), member=f"../../{MEMBER}"),
    "the table lies at a Windows path": zipped(csv(rows(2)), member=f"C:\\{MEMBER}"),
    "the table is there twice": overlapping(),
    "the table is a zip": zipped(release_zip()),
    "a zip in a zip in a zip": zipped(zipped(zipped(bytes(1 << 20)))),
    "two tables": zipped_all([(MEMBER, csv(rows(2))), ("PSD_COFFEE.CSV", csv(rows(2)))]),
    "zip64 says 16 EiB": claiming_zip64((1 << 64) - 1),
    "zip64 says 100 bytes": claiming_zip64(100),
    "zip64 says 5 GiB": claiming_zip64(5 << 30),
    "more columns": zipped(csv([f"{line},1" for line in rows(2)])),
    "a column more in one row": zipped(csv([*rows(2), f"{row()},"])),
    "a quoted column more in one row": zipped(csv([*rows(2), f'{row()},""'])),
    "a column more where the file ends": zipped(csv(rows(2)).removesuffix(b"\r\n") + b","),
    "fewer columns": zipped(csv([line.rpartition(",")[0] for line in rows(2)])),
    "columns in another order": zipped(csv(rows(2), header=",".join(reversed(HEADER.split(","))))),
    "a byte order mark within": zipped(csv(rows(2)) + b"\xef\xbb\xbf" + csv(rows(1))),
    "UTF-16": zipped(csv(rows(2)).decode().encode("utf-16")),
    "only carriage returns": zipped(csv(rows(2), newline="\r")),
    "a line that never ends": zipped(csv([*rows(2), row(country_name='"' + "x" * 10_000_000)])),
    "a quote that never ends": zipped(csv([*rows(2), row(country_name='"Brazil'), *rows(60)[3:]])),
    "text after a quote": zipped(csv([*rows(2), row("ZZ", country_name='"Bra"zil')])),
    "neither UTF-8 nor Windows-1252": zipped(csv([*rows(2), row("ZZ", country_name='"C\x9dte"')])),
    "text that runs backwards": zipped(csv(rows(2)) + row("ZZ", country_name='"a\u202eb"').encode()),
    "a NUL": zipped(csv([*rows(2), row("ZZ", country_name='"a\0b"')])),
    "an escape sequence for terminals": zipped(csv([*rows(2), row("ZZ", country_name='"\x1b[2J"')])),
    "only a header": zipped(csv([])),
    "an empty table": zipped(b""),
    "a fact twice": zipped(csv([row(), row(value="1.0000")])),
    "the thirteenth month": zipped(csv([*rows(2), row("ZZ", month="13")])),
    "the year 99999": zipped(csv([*rows(2), row("ZZ", market_year="99999")])),
    "the year 0000": zipped(csv([*rows(2), row("ZZ", calendar_year="0000")])),
    **{
        f"the value {value[:20]!r}": with_value(value)
        for value in ("NaN", "-inf", "1e308", "0x10", "1" * 14, "1" * 400, "1.00000", "--1", "1,5", "\xb2", " 1", "")
    },
}


@pytest.mark.parametrize("name", ZIPS)
def test_a_forged_zip_is_refused_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "release.zip").write_bytes(ZIPS[name])
    with pytest.raises(SnapshotError, match=r"release\.zip"):
        unpack(tmp_path / "release.zip", MEMBER, tmp_path / "rows.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["release.zip"]
    assert (tmp_path / "release.zip").read_bytes() == ZIPS[name]


def test_bombs_are_refused_in_bounded_memory_and_time(tmp_path: Path, figure: Figure) -> None:
    bombs = {
        "of one fact": zipped(csv([row()] * count(50_000, 1_000_000))),
        "of zeros": zipped(bytes(count(30, 2000) << 20)),
        "of line ends": zipped(csv(rows(1)) + b"\r\n" * (count(5, 200) << 20)),
        "with a crowd of members": crowded(count(200_000, 5_000_000)),
        "zip64": claiming_zip64(5 << 30),
    }
    for name, content in bombs.items():
        (tmp_path / f"{name}.zip").write_bytes(content)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", UNPACK, str(tmp_path), MEMBER], capture_output=True, text=True, timeout=MOST_S * 10
    )
    assert done.returncode == 0, done.stderr
    *refused, peak = done.stdout.splitlines()
    assert [line.split(" SnapshotError ")[0] for line in refused] == sorted(bombs)
    peak_bytes = int(peak.split()[1]) << 10
    assert peak_bytes < MOST_PEAK_BYTES
    assert {path.stem for path in tmp_path.iterdir()} == set(bombs)
    figure("bombs: peak memory, MB", peak_bytes >> 20)
    figure("bombs: seconds for all", round(time.monotonic() - began, 1))


def test_a_zip_cut_at_every_block_is_refused(tmp_path: Path, figure: Figure) -> None:
    whole = release_zip(rows(count(300, 3000)))
    structures = [whole.index(b"PK\x03\x04") + 30, whole.rindex(b"PK\x01\x02"), whole.rindex(b"PK\x05\x06")]
    cuts = {0, len(whole) - 1, *range(0, len(whole), count(512, 64))}
    cuts |= {place + by for place in structures for by in range(-count(4, 40), count(5, 41))}
    for cut in sorted(cut for cut in cuts if cut < len(whole)):
        (tmp_path / "release.zip").write_bytes(whole[:cut])
        with pytest.raises(SnapshotError):
            unpack(tmp_path / "release.zip", MEMBER, tmp_path / "rows.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["release.zip"]
    figure("zips cut", len(cuts))


def test_flipped_bits_are_refused_or_change_no_row(tmp_path: Path, figure: Figure) -> None:
    whole, chance = release_zip(rows(100)), random.Random(7)
    zip_path, rows_path = tmp_path / "release.zip", tmp_path / "rows.parquet"

    def read() -> list[tuple[object, ...]]:
        unpack(zip_path, MEMBER, rows_path)
        return duckdb.execute("FROM read_parquet(?)", [str(rows_path)]).fetchall()

    zip_path.write_bytes(whole)
    right, refused = read(), 0
    for _ in range(count(30, 5_000)):
        spoiled = bytearray(whole)
        for _ in range(chance.choice((1, 1, 2, 8))):
            spoiled[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        zip_path.write_bytes(spoiled)
        try:
            assert read() == right
        except SnapshotError:
            refused += 1
    assert refused > 0
    figure("zips with flipped bits, of them refused", f"{count(30, 5_000)}, {refused}")


@settings(max_examples=count(15, 3_000), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(0, 10_000), st.sampled_from(['"', ",", "\r", "\n", "\0", "\\", "x", "\xff", "'", ""])),
        min_size=1,
        max_size=4,
    )
)
def test_a_table_is_read_as_written_or_refused(tmp_path: Path, changes: list[tuple[int, str]]) -> None:
    text = csv(rows(6)).decode("latin-1")
    start = len(HEADER) + 2
    for place, put in changes:
        at = start + place % (len(text) - start)
        text = text[:at] + put + text[at + 1 :]
    (tmp_path / "release.zip").write_bytes(zipped(text.encode("latin-1")))
    # A name of its own: DuckDB keeps what it read by name and time, and two of these are written in one tick.
    rows_path = tmp_path / f"{secrets.token_hex(8)}.parquet"
    try:
        unpack(tmp_path / "release.zip", MEMBER, rows_path)
    except SnapshotError:
        return
    read = duckdb.execute("FROM read_parquet(?)", [str(rows_path)]).fetchall()
    header, *written = csv_module.reader(io.StringIO(text, newline=""), strict=True)
    assert tuple(header) == COLUMNS
    assert [list(line) for line in read] == written
