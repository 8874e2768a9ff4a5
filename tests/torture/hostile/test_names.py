"""ETags and dates that an archive may send: whatever they hold, files stay in their place, under names of their own."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows import driver, extract
from dataflows.landing.local import LocalLanding
from dataflows.source.archive import Archive
from dataflows.source.release import Month, release_of
from dataflows.source.release_dates import last_modified_time
from tests.support.faulty_archive import Fault, FaultyArchive
from tests.support.psd_files import DATASET, csv, release_zip, rows, zipped
from tests.support.torture import count

MONTH = Month(2025, 11)
POSTED_AT = datetime(2025, 11, 14, 17, tzinfo=UTC)
LANDED_AT = datetime(2025, 11, 15, tzinfo=UTC)
ETAGS = (
    '"../../../../etc/passwd"',
    '".."',
    '"."',
    '""',
    '"/"',
    '"a/b"',
    '"a\\b"',
    '"%2e%2e%2f"',
    '"~root"',
    '"-rf"',
    '".partial"',
    '"$(touch x)"',
    "`id`",
    '"\';DROP TABLE x;--"',
    "W/",
    'W/"\'"',
    '"nul"',
    '"C:"',
    '"a:b"',
    '"' + "A" * 120 + '"',
    '"' + "A" * 121 + '"',
    '"' + "a" * 10_000 + '"',
    '"\u00e9"',
    '"{key}"',
    '"*"',
    '"noetag-' + "0" * 24 + '"',
    '"x-0123456789abcdef"',
)
LANDED = count(ETAGS[:3], ETAGS)
CLIENT = Archive()


def landed(folder: Path, archive: FaultyArchive, landed_at: datetime = LANDED_AT) -> extract.Extracted:
    """Land the archive's only release under `folder`."""
    given = {"candidates": (release_of(archive.url, DATASET, MONTH),), "live": None}
    inputs = {"archive": CLIENT, "landing": LocalLanding(folder / "landing"), "landed_at": landed_at}
    return driver.execute(extract, "snapshot", inputs, overrides=given)


def test_every_etag_lands_one_snapshot_in_its_place_and_is_known_again(tmp_path: Path) -> None:
    seen = set()
    with FaultyArchive(DATASET) as archive:
        for number, etag in enumerate(LANDED):
            archive.post(MONTH, release_zip(rows(2 + number)), POSTED_AT)
            archive.misbehave(MONTH, Fault(etag=etag), times=None)
            found = landed(tmp_path, archive)
            assert found.is_new and not landed(tmp_path, archive).is_new
            seen.add(found.snapshot.key)
            archive.behave()
    assert len(seen) == len(LANDED)
    assert [path.name for path in tmp_path.iterdir()] == ["landing"]
    kept = {path.relative_to(tmp_path / "landing" / "psd").as_posix() for path in (tmp_path / "landing/psd").iterdir()}
    assert kept == {f"{key}.{ending}" for key in seen for ending in ("zip", "json")}


@pytest.mark.parametrize(
    ("last_modified", "released_on"),
    [
        ("Fri, 31 Dec 9999 23:59:59 GMT", date(2025, 11, 13)),
        ("Fri, 31 Dec 9999 23:59:59 -2359", date(2025, 11, 13)),
        ("Thu, 14 Nov 2125 17:00:00 GMT", date(2025, 11, 13)),
        ("Sat, 01 Jan 0000 00:00:00 GMT", date(2025, 11, 13)),
        ("Sat, 01 Jan 0001 00:00:00 +2359", date(2025, 11, 13)),
        ("Mon, 32 Nov 2025 17:00:00 GMT", date(2025, 11, 13)),
        ("x" * 50_000, date(2025, 11, 13)),
        ("\x80\xff", date(2025, 11, 13)),
        ("1763139600", date(2025, 11, 13)),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_date_that_cannot_be_is_not_believed(tmp_path: Path, last_modified: str, released_on: date) -> None:
    with FaultyArchive(DATASET) as archive:
        archive.post(MONTH, zipped(csv(rows(2)), date=(2025, 11, 13, 0, 0, 0)), POSTED_AT)
        archive.misbehave(MONTH, Fault(last_modified=last_modified), times=None)
        assert landed(tmp_path, archive).snapshot.released_on == released_on


def test_a_zip_from_the_next_century_is_dated_by_usdas_calendar(tmp_path: Path) -> None:
    with FaultyArchive(DATASET) as archive:
        archive.post(MONTH, zipped(csv(rows(2)), date=(2107, 12, 31, 0, 0, 0)), POSTED_AT)
        archive.misbehave(MONTH, Fault(last_modified=""), times=None)
        assert landed(tmp_path, archive).snapshot.released_on == date(2025, 11, 14)


def test_a_clock_that_is_behind_dates_nothing_differently(tmp_path: Path) -> None:
    with FaultyArchive(DATASET) as archive:
        archive.post(MONTH, release_zip(), POSTED_AT)
        found = landed(tmp_path, archive, landed_at=datetime(2019, 1, 1, tzinfo=UTC))
        assert found.snapshot.released_on == date(2025, 11, 14)


@settings(max_examples=count(200, 20_000))
@given(st.text(max_size=80) | st.from_regex(r"\w{3}, \d{1,5} \w{3} \d{1,9} \d+:\d+:\d+ [-+]?\w{1,9}", fullmatch=True))
def test_any_text_for_a_date_is_a_moment_or_none(text: str) -> None:
    assert last_modified_time(text).tzinfo is UTC
