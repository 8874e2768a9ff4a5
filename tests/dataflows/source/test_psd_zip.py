import errno
import random
import shutil
import zipfile
from pathlib import Path

import duckdb
import pytest

from dataflows.errors import DiskSpaceError, LandingError, SnapshotError
from dataflows.source import psd_zip
from dataflows.source.psd_zip import unpack
from tests.support.psd_files import (
    HEADER,
    MEMBER,
    claiming_size,
    csv,
    encrypted,
    release_zip,
    row,
    rows,
    zipped,
    zipped_all,
)
from tests.support.real_files import EU_AREA, EU_AREA_MONTH, GRAINS, GRAINS_MONTHS, real_zip

FULL = shutil._ntuple_diskusage(10**9, 10**9, 1000)


def unpacked(tmp_path: Path, content: bytes) -> Path:
    """Unpack a zip in `tmp_path` and return the rows' path."""
    zip_path = tmp_path / "release.zip"
    zip_path.write_bytes(content)
    unpack(zip_path, MEMBER, tmp_path / "release.parquet")
    return tmp_path / "release.parquet"


def rows_of(path: Path) -> list[tuple[str, ...]]:
    return duckdb.execute("SELECT * FROM read_parquet(?)", [str(path)]).fetchall()


def refusal(tmp_path: Path, content: bytes) -> str:
    """Why a zip is refused; asserts that nothing but the zip itself is left."""
    with pytest.raises(SnapshotError) as refused:
        unpacked(tmp_path, content)
    assert [path.name for path in tmp_path.iterdir()] == ["release.zip"]
    assert str(tmp_path / "release.zip") in str(refused.value)
    return str(refused.value)


def test_a_field_too_many_is_named_by_its_row_wherever_chunks_meet(tmp_path: Path) -> None:
    whole = rows(20_000)
    for at in (1, 9_000, 19_999):
        changed = [*whole[:at], f"{whole[at]},", *whole[at + 1 :]]
        (tmp_path / "release.zip").write_bytes(zipped(csv(changed)))
        with pytest.raises(SnapshotError, match=f"row {at + 2} ends in an empty field"):
            unpack(tmp_path / "release.zip", MEMBER, tmp_path / "rows.parquet")


def test_rows_are_kept_as_text_in_the_files_order(tmp_path):
    path = unpacked(tmp_path, release_zip([row("BR", "-1.5000"), row("AO", "0.0000", month="00")]))
    first, second = rows_of(path)
    assert first[:7] == ("0711100", "Coffee, Green", "BR", "Brazil", "2025", "2024", "06")
    assert first[-1] == "-1.5000"
    assert (second[2], second[6]) == ("AO", "00")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["release.parquet", "release.zip"]


def test_quotes_and_commas_in_names_are_read(tmp_path):
    path = unpacked(tmp_path, release_zip([row(country_name='"Congo, ""Dem."" Rep"')]))
    assert rows_of(path)[0][3] == 'Congo, "Dem." Rep'


def test_unix_line_ends_are_read_too(tmp_path):
    assert rows_of(unpacked(tmp_path, zipped(csv(rows(3), newline="\n")))) == rows_of(
        unpacked(tmp_path, release_zip(rows(3)))
    )


def test_a_last_line_without_its_end_counts(tmp_path):
    assert len(rows_of(unpacked(tmp_path, zipped(csv(rows(3)).removesuffix(b"\r\n"))))) == 3


def test_other_members_that_are_no_tables_do_not_matter(tmp_path):
    unpacked(tmp_path, zipped_all([("README.txt", b"hello"), (MEMBER, csv(rows(2)))]))


def test_metadata_of_macos_is_no_second_table(tmp_path: Path) -> None:
    unpacked(tmp_path, zipped_all([(f"__MACOSX/._{MEMBER}", b"\0\5\x16\7Mac OS X"), (MEMBER, csv(rows(2)))]))


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_names_are_read_in_utf_8_and_in_windows_1252(tmp_path: Path, encoding: str) -> None:
    names = ("T\xfcrkiye", "C\xf4te d'Ivoire", "Cura\xe7ao \u2013 \u20ac\xa0area")
    lines = [row(code, country_name=f'"{name}"') for code, name in zip(("TU", "IV", "UC"), names, strict=True)]
    content = "".join(f"{line}\r\n" for line in (HEADER, *rows(20_000), *lines)).encode(encoding)
    read = rows_of(unpacked(tmp_path, zipped(content)))
    assert len(read) == 20_003
    assert tuple(line[3] for line in read[-3:]) == names


def test_each_row_is_read_in_its_own_encoding(tmp_path: Path) -> None:
    turkey = row("TU", country_name='"T\xfcrkiye"'), row("TV", country_name='"T\xfcrkiye"')
    content = csv([]) + f"{turkey[0]}\r\n".encode() + f"{turkey[1]}\r\n".encode("cp1252")
    assert [line[3] for line in rows_of(unpacked(tmp_path, zipped(content)))] == ["T\xfcrkiye", "T\xfcrkiye"]


@pytest.mark.parametrize("tail", [b"\r\n", b"\r\n\r\n", b"\x1a", b"\x1a\r\n", b"\r\n\x1a\x1a\x1a"], ids=repr)
@pytest.mark.parametrize("count", [3, 11_000], ids=["one chunk", "two chunks"])
def test_padding_after_the_last_row_loses_none(tmp_path: Path, tail: bytes, count: int) -> None:
    for content in (csv(rows(count)), csv(rows(count)).removesuffix(b"\r\n")):
        assert len(rows_of(unpacked(tmp_path, zipped(content + tail)))) == count
        (tmp_path / "release.parquet").unlink()


def test_a_byte_order_mark_is_no_part_of_the_header(tmp_path: Path) -> None:
    assert rows_of(unpacked(tmp_path, zipped(b"\xef\xbb\xbf" + csv(rows(3))))) == rows_of(
        unpacked(tmp_path, release_zip(rows(3)))
    )


def test_an_odd_row_is_named_wherever_chunks_meet(tmp_path: Path) -> None:
    whole = rows(12_000)
    for at in (*range(11_350, 11_420), 11_999):
        changed = [*whole[:at], "", *whole[at:]]
        (tmp_path / "release.zip").write_bytes(zipped(csv(changed), method=zipfile.ZIP_STORED))
        with pytest.raises(SnapshotError, match=f"row {at + 2} is empty"):
            unpack(tmp_path / "release.zip", MEMBER, tmp_path / "rows.parquet")


@pytest.mark.parametrize("month", GRAINS_MONTHS, ids=str)
def test_real_grains_releases_are_read_whole(shared_psd, tmp_path, month):
    contents = unpack(real_zip(GRAINS, month), f"{GRAINS}.csv", tmp_path / "rows.parquet")
    with zipfile.ZipFile(real_zip(GRAINS, month)) as archive:
        lines = archive.read(f"{GRAINS}.csv").count(b"\n")
    assert contents.row_count == lines - 1 > 500_000


def test_the_real_eu_file_is_read(shared_psd, tmp_path):
    contents = unpack(real_zip(EU_AREA, EU_AREA_MONTH), f"{EU_AREA}.csv", tmp_path / "rows.parquet")
    assert contents.row_count > 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged"),
        (b"PK\x03\x04", "damaged"),
        (b"<html>not today</html>", "damaged"),
        (zipped_all([]), "contains nothing"),
        (zipped(csv(rows(2)), member="readme.txt"), "it contains 'readme.txt'"),
        (zipped(csv(rows(2)), member=f"../{MEMBER}"), f"it contains '../{MEMBER}'"),
        (zipped(csv(rows(2)), member=f"/etc/{MEMBER}"), "must contain one table"),
        (zipped_all([(MEMBER, csv(rows(2))), ("more.csv", csv(rows(2)))]), "'more.csv'"),
        (encrypted(release_zip()), "encrypted"),
        (zipped(csv(rows(2)), method=zipfile.ZIP_LZMA), "packed in a way"),
        (zipped(csv(rows(2)), method=zipfile.ZIP_BZIP2), "packed in a way"),
        (claiming_size(release_zip(), 100), "damaged"),
        (claiming_size(release_zip(), 1 << 30), "damaged"),
        (zipped(b""), "row 1 is not PSD's header but ''"),
        (zipped(csv([])), "the table is empty"),
        (zipped(csv(rows(2), header=HEADER.replace("Value", "Values"))), "row 1 is not PSD's header"),
        (zipped(csv([line + ",1" for line in rows(2)], header=HEADER + ",Note")), "row 1 is not PSD's header"),
        (zipped(csv([*rows(2), row("ZZ") + ",1"])), "row 4: Expected Number of Columns: 12 Found: 13"),
        (zipped(csv([*rows(2), "0711100"])), "row 4: Expected Number of Columns: 12 Found: 1"),
        (zipped(csv([*rows(2), "", *rows(1)])), "row 4 is empty, and more rows follow"),
        (zipped(csv([*rows(2), "", *rows(1)], newline="\n")), "row 4 is empty, and more rows follow"),
        (zipped(csv(["", *rows(2)])), "row 2 is empty, and more rows follow"),
        (zipped(csv([*rows(2), "\x1a", *rows(1)])), "row 4 contains an end-of-file mark (Ctrl-Z) before further rows"),
        (zipped(csv([*rows(2), *rows(1)]).replace(b"\r\n", b"\r\r\n")), "row 1 contains a carriage return"),
        (zipped(csv([*rows(2), row("ZZ") + "\r", *rows(1)])), "row 4 contains a carriage return that is not"),
        (zipped(csv([*rows(2), row(country_name='"Bra\0zil"')])), "row 4 holds a NUL byte"),
        (zipped(csv([row("ZZ") + ",", *rows(2)], newline="\n")), "row 2 ends in an empty field"),
        (zipped(csv([*rows(2), row(country_name=f'"{"x" * 10_000_000}"')])), "row 4 is longer than"),
        (
            zipped(csv([*rows(2), row(country_name=f'"{"x" * 100_000}"'), *rows(2)])),
            "row 4: Maximum line size of 65536",
        ),
        (zipped(csv(rows(2)) + b"\r\n" * 100_000), "bytes of padding after row 3"),
        (zipped(csv([*rows(2), row(country_name='"C\x81te d\'Ivoire"')])), "row 4 is neither UTF-8 nor Windows-1252"),
        (zipped(csv([*rows(2), row(country_name='"\xef\xbb\xbfCuba"')])), "row 4: country_name is '\\ufeffCuba'"),
        (zipped(csv([*rows(2), row(country_name=f'"{"x" * 201}"')])), "not printable text of 1 to 200 characters"),
        (zipped(csv([*rows(2), row(country_name='"\xad"')])), "row 4: country_name is '\\xad', not printable text"),
        (zipped(csv([*rows(2), row(country_name='"Brazil')])), "row 4: Value with unterminated quote found."),
        (zipped(csv(rows(2)).replace(b"\r\n", b"\x1a\r\n", 1)), "row 1 contains an end-of-file mark"),
        (zipped(b"x" * 300), f"row 1 is not PSD's header but {'x' * 200!r}"),
        (zipped(csv([row(country_name='"Brazil'), *rows(20)])), "row 2: Value with unterminated quote found."),
        (zipped(csv([*rows(2), row(country_name='"Bra\nzil"')])), "row 4: country_name is 'Bra\\nzil'"),
        (
            zipped(csv([row("BR"), row("AO"), row("BR", "1.0000")])),
            "BR 2025 028 02 is in 2 rows, not one: rows 2, 4",
        ),
        (zipped(csv([row("BR")] * 5)), "is in 5 rows, not one: rows 2, 3, 4, 5, 6"),
        (zipped(csv([row("BR")] * 6)), "is in 6 rows, not one: rows 2, 3, 4, 5, 6, …"),
        (zipped(csv([*rows(2), row(commodity="711100")])), "row 4: commodity_code is '711100'"),
        (zipped(csv([*rows(2), row("B")])), "row 4: country_code is 'B'"),
        (zipped(csv([*rows(2), row("br")])), "row 4: country_code is 'br'"),
        (zipped(csv([*rows(2), row(market_year="25")])), "row 4: market_year is '25'"),
        (zipped(csv([*rows(2), row(month="13")])), "row 4: month is '13'"),
        (zipped(csv([*rows(2), row(month="6")])), "row 4: month is '6'"),
        (zipped(csv([*rows(2), row(attribute="28")])), "row 4: attribute_id is '28'"),
        (zipped(csv([*rows(2), row(unit="")])), "row 4: unit_id is None"),
        (zipped(csv([*rows(2), row(country_name='""')])), "row 4: country_name is"),
        *(
            (zipped(csv([*rows(2), row(value=value)])), "row 4: value is" if value else "row 4 ends in an empty field")
            for value in ("", "n/a", "1e5", "NaN", "inf", "1..5", "1.00001", " 1.0", "+1", "9" * 14)
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "zip",
)
def test_a_bad_file_is_refused_and_leaves_nothing(tmp_path, content, message):
    assert message in refusal(tmp_path, content)


def test_a_bomb_that_is_honest_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(psd_zip, "MAX_CSV_BYTES", 10_000)
    bomb = zipped(bytes(100_000_000))
    assert "would unpack to 0.1 GB" in refusal(tmp_path, bomb)
    table = csv(rows(2))
    monkeypatch.setattr(psd_zip, "MAX_CSV_BYTES", len(table))
    assert len(rows_of(unpacked(tmp_path, zipped(table)))) == 2


def test_a_zip_bomb_is_read_only_up_to_its_declared_size(tmp_path, monkeypatch):
    written = 0
    copy = psd_zip._copy_counting_lines

    def counting(source, target, zip_path):
        nonlocal written
        try:
            return copy(source, target, zip_path)
        finally:
            written = target.tell()

    monkeypatch.setattr(psd_zip, "_copy_counting_lines", counting)
    bomb = claiming_size(zipped(csv(rows(1)) + b"x\r\n" * 5_000_000), 50_000)
    assert "damaged" in refusal(tmp_path, bomb)
    assert written <= 50_000


def test_a_zip_without_a_date_has_none(tmp_path):
    (tmp_path / "release.zip").write_bytes(release_zip())
    dated = unpack(tmp_path / "release.zip", MEMBER, tmp_path / "rows.parquet")
    assert str(dated.written_on) == "2025-11-14"
    content = bytearray(release_zip())
    central = content.rindex(b"PK\x01\x02")
    content[10:14] = content[central + 12 : central + 16] = bytes(4)
    (tmp_path / "release.zip").write_bytes(content)
    assert unpack(tmp_path / "release.zip", MEMBER, tmp_path / "rows.parquet").written_on is None


def test_a_zip_cut_anywhere_is_refused(tmp_path):
    whole = release_zip(rows(200))
    for length in range(0, len(whole), 37):
        refusal(tmp_path, whole[:length])
    refusal(tmp_path, whole[:-1])


def test_a_flipped_bit_is_refused_or_changes_no_row(tmp_path):
    whole = release_zip(rows(200))
    right = rows_of(unpacked(tmp_path, whole))
    (tmp_path / "release.parquet").unlink()
    chance = random.Random(20251114)
    everywhere = [chance.randrange(len(whole) * 8) for _ in range(100)]
    in_headers = [*range(0, 30 * 8, 2), *range((len(whole) - 96) * 8, len(whole) * 8, 5)]
    refused = 0
    for bit in (*everywhere, *in_headers):
        spoiled = bytearray(whole)
        spoiled[bit // 8] ^= 1 << bit % 8
        try:
            path = unpacked(tmp_path, bytes(spoiled))
        except SnapshotError:
            refused += 1
        else:
            assert rows_of(path) == right
            path.unlink()
    assert refused > 100


def test_too_little_space_is_reported_before_unpacking(tmp_path, monkeypatch):
    """A quarter more than the CSV takes, for the Parquet beside it."""
    (tmp_path / "release.zip").write_bytes(zipped(bytes(4_000_000)))
    monkeypatch.setattr(shutil, "disk_usage", lambda directory: FULL)
    with pytest.raises(DiskSpaceError, match=r"unpacking release\.zip needs 5 MB"):
        unpack(tmp_path / "release.zip", MEMBER, tmp_path / "rows.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["release.zip"]


def test_a_missing_folder_for_the_rows_is_a_typed_error(tmp_path):
    (tmp_path / "release.zip").write_bytes(release_zip())
    with pytest.raises(LandingError, match="missing"):
        unpack(tmp_path / "release.zip", MEMBER, tmp_path / "missing" / "rows.parquet")


def test_a_disk_that_cannot_be_read_is_no_damage_of_the_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    (tmp_path / "release.zip").write_bytes(release_zip())
    monkeypatch.setattr(zipfile.ZipFile, "open", fail)
    with pytest.raises(LandingError, match="Input/output error"):
        unpack(tmp_path / "release.zip", MEMBER, tmp_path / "rows.parquet")


def test_too_little_memory_is_no_damage_of_the_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = duckdb.connect
    (tmp_path / "release.zip").write_bytes(release_zip())
    monkeypatch.setattr(duckdb, "connect", lambda: connect(config={"memory_limit": "1MB"}))
    with pytest.raises(LandingError, match=r"rows\.parquet can't be written: Out of Memory Error"):
        unpack(tmp_path / "release.zip", MEMBER, tmp_path / "rows.parquet")


def test_a_read_of_the_zip_is_limited_however_it_is_asked_for(tmp_path: Path) -> None:
    most = psd_zip._MAX_READ_BYTES
    path = tmp_path / "file"
    path.write_bytes(bytes(most))
    for size in (None, -1, most, most + 1):
        with psd_zip._BoundedReads(path) as file:
            assert len(file.read(size)) == most
            assert file.read(size) == b""
    with psd_zip._BoundedReads(path) as file:
        assert len(file.read(5)) == 5
    path.write_bytes(bytes(most + 1))
    for size in (None, -1, most + 1, 10 * most):
        with psd_zip._BoundedReads(path) as file, pytest.raises(zipfile.BadZipFile, match="too large for a release"):
            file.read(size)
