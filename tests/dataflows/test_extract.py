import json
import logging
from datetime import UTC, date, datetime

import pytest

from dataflows import driver, extract
from dataflows.errors import ArchiveError, DiskSpaceError, NotPostedError, SnapshotError
from dataflows.landing.local import LocalLanding
from dataflows.landing.snapshot import Snapshot
from dataflows.source import archive
from dataflows.source.release import Month
from tests.dataflows.conftest import MONTH, POSTED_AT, tree
from tests.support.faulty_archive import Fault
from tests.support.psd_files import DATASET, MEMBER, csv, release_zip, row, rows, zipped


def test_the_newest_posted_release_is_landed(coffee, extracted, landing):
    coffee.post(MONTH.back(1), release_zip(rows(10)), POSTED_AT)
    coffee.post(MONTH.back(2), release_zip(rows(20)), POSTED_AT)
    found = extracted()
    assert found.is_new
    assert (found.snapshot.month, found.snapshot.row_count) == (MONTH.back(1), 10)
    assert landing.snapshots() == (found.snapshot,)
    assert landing.zip_path(found.snapshot.key).read_bytes() == release_zip(rows(10))


def test_the_month_and_three_back_are_asked_for_and_no_more(coffee, extracted):
    with pytest.raises(NotPostedError) as missing:
        extracted(Month(2026, 2))
    asked = {request.path for request in coffee.requests}
    months = [Month(2026, 2), Month(2026, 1), Month(2025, 12), Month(2025, 11)]
    assert asked == {coffee.path(month) for month in months}
    for month in months:
        assert f"{month}: not posted (HTTP 404)" in str(missing.value)


def test_unchanged_etag_downloads_nothing(coffee, extracted, landing):
    coffee.post(MONTH.back(1), release_zip(), POSTED_AT)
    first = extracted()
    before = tree(landing.root)
    coffee.forget_requests()
    again = extracted()
    assert (again.snapshot, again.is_new) == (first.snapshot, False)
    assert [request.method for request in coffee.requests] == ["HEAD"] * 4
    assert sum(request.body_bytes for request in coffee.requests) == 0
    assert tree(landing.root) == before


def test_the_leftovers_of_a_run_that_died_after_landing_are_deleted(coffee, extracted, landing):
    coffee.post(MONTH, release_zip(), POSTED_AT)
    extracted()
    before = tree(landing.root)
    for ending in ("zip", "zip.validators", "parquet"):
        (landing.workspace / f"{DATASET}-{MONTH}.{ending}").write_bytes(b"left")
    assert not extracted().is_new
    assert tree(landing.root) == before


def test_the_probes_are_under_way_side_by_side(coffee, extracted, monkeypatch):
    import threading

    together = threading.Barrier(4, timeout=10)
    take = coffee.take_fault

    def meeting(path, method):
        if method == "HEAD":
            together.wait()
        return take(path, method)

    monkeypatch.setattr(coffee, "take_fault", meeting)
    coffee.post(MONTH, release_zip(), POSTED_AT)
    assert extracted().is_new


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(html=True), "a web page in its place"),
        (Fault(body=b"<!DOCTYPE html><html>maintenance</html>"), "a web page in its place"),
        (Fault(body=b""), "no zip"),
        (Fault(body=b"PK"), "no zip"),
        (Fault(status=410), "HTTP 410"),
    ],
)
def test_a_file_that_is_no_zip_counts_as_not_posted(coffee, extracted, landing, fault, message):
    coffee.post(MONTH, release_zip(), POSTED_AT)
    coffee.misbehave(MONTH, fault, times=None)
    with pytest.raises(NotPostedError, match=message):
        extracted()
    coffee.post(MONTH.back(3), release_zip(rows(3)), POSTED_AT)
    assert extracted().snapshot.month == MONTH.back(3)


def test_a_release_that_is_replaced_is_one_more_snapshot(coffee, extracted, landing):
    coffee.post(MONTH, release_zip(rows(5)), POSTED_AT)
    first = extracted().snapshot
    coffee.post(MONTH, release_zip(rows(5, "13.0000")), POSTED_AT.replace(day=18))
    second = extracted()
    assert second.is_new
    assert set(landing.snapshots()) == {first, second.snapshot}
    assert {snapshot.month for snapshot in landing.snapshots()} == {MONTH}


def test_a_correction_comes_after_what_it_corrects_and_before_the_next_month(coffee, extracted, landing):
    for back in range(2):
        packed = zipped(csv(rows(5 + back)), date=(2025, 11 - back, 14, 12, 0, 0))
        coffee.post(MONTH.back(back), packed, POSTED_AT)
        extracted(only=MONTH.back(back))
    corrected = zipped(csv(rows(6, "13.0000")), date=(2025, 12, 1, 9, 0, 0))
    coffee.post(MONTH.back(1), corrected, POSTED_AT.replace(month=12))
    found = extracted(only=MONTH.back(1))
    assert found.is_new
    october, correction, november = landing.snapshots()
    assert correction == found.snapshot
    assert (october.month, correction.month, november.month) == (MONTH.back(1), MONTH.back(1), MONTH)
    # 2025-10 has no release day in USDA's calendar.
    assert correction.released_on == date(2025, 10, 12)


def test_the_marker_holds_what_is_promised(coffee, extracted, landing):
    import hashlib

    content = release_zip(rows(7))
    url = coffee.post(MONTH, content, POSTED_AT, etag='"abc-1"')
    extracted()
    sha256 = hashlib.sha256(content).hexdigest()
    key = f"2025-11-{sha256[:16]}"
    assert json.loads((landing.root / "psd" / f"{key}.json").read_text()) == {
        "dataset": "psd_coffee",
        "url": url,
        "etag": '"abc-1"',
        "last_modified": "Fri, 14 Nov 2025 17:00:00 GMT",
        "release_year": 2025,
        "release_month": 11,
        "released_on": "2025-11-14",
        "size_bytes": len(content),
        "sha256": sha256,
        "member": MEMBER,
        "row_count": 7,
        "landed_at": "2025-11-15T00:00:00+00:00",
        "key": key,
        "published_at": "2025-11-14T12:00:00",
        "newest_stamp": "2024-06",
        "form": 2,
    }
    assert set(tree(landing.root)) == {
        f"psd/{key}.zip",
        f"psd/{key}.json",
        f"raw/psd_coffee/released_on=2025-11-14/key={key}/rows.parquet",
    }


@pytest.mark.parametrize(
    ("last_modified", "inner_date", "released_on"),
    [
        ("Wed, 12 Nov 2025 16:00:00 GMT", (2025, 11, 13, 0, 0, 0), date(2025, 11, 13)),
        ("Thu, 01 Jan 1970 00:00:00 GMT", (2025, 12, 5, 0, 0, 0), date(2025, 12, 5)),
        ("Wed, 12 Nov 2025 16:00:00 GMT", (2025, 12, 6, 0, 0, 0), date(2025, 11, 12)),
        ("Wed, 12 Nov 2025 16:00:00 -0000", (1980, 1, 1, 0, 0, 0), date(2025, 11, 12)),
        ("Wed, 12 Nov 2025 22:00:00 -0500", (1980, 1, 1, 0, 0, 0), date(2025, 11, 12)),
        ("Fri, 01 May 2026 16:00:00 GMT", (1980, 1, 1, 0, 0, 0), date(2025, 11, 14)),
        ("yesterday", (1980, 1, 1, 0, 0, 0), date(2025, 11, 14)),
    ],
)
def test_a_release_is_dated_by_zip_then_header_then_calendar(coffee, extracted, last_modified, inner_date, released_on):
    coffee.post(MONTH, zipped(csv(rows(2)), date=inner_date), POSTED_AT)
    coffee.misbehave(MONTH, Fault(last_modified=last_modified), times=None)
    assert extracted().snapshot.released_on == released_on


def test_a_newer_stamp_than_the_address_is_the_release_month(coffee, extracted):
    coffee.post(MONTH.back(1), zipped(csv([*rows(2), row("ZZ", calendar_year="2025", month="11")])), POSTED_AT)
    found = extracted().snapshot
    assert (found.month, found.newest_stamp, found.released_on) == (MONTH, "2025-11", date(2025, 11, 14))


def test_a_stamp_later_than_every_other_date_is_treated_as_a_typing_error(coffee, extracted):
    coffee.post(MONTH, zipped(csv([*rows(2), row("ZZ", calendar_year="2052", month="11")])), POSTED_AT)
    assert (found := extracted().snapshot).month == MONTH and found.newest_stamp == "2024-06"


def test_no_date_of_a_server_makes_an_older_month_newer(coffee, extracted, landing):
    for back, last_modified in enumerate(["Wed, 12 Nov 2025 16:00:00 GMT", "Fri, 01 May 2026 17:00:00 GMT", "never"]):
        coffee.post(MONTH.back(back), release_zip(rows(2 + back)), POSTED_AT)
        coffee.misbehave(MONTH.back(back), Fault(last_modified=last_modified), times=None)
        extracted(only=MONTH.back(back))
    assert [snapshot.row_count for snapshot in landing.snapshots()] == [4, 3, 2]


def test_the_same_bytes_under_other_headers_are_the_same_snapshot(coffee, extracted, landing):
    coffee.post(MONTH, release_zip(), POSTED_AT, etag='"one"')
    first = extracted().snapshot
    coffee.post(MONTH, release_zip(), POSTED_AT.replace(year=2026, month=5), etag='"two"')
    again = extracted()
    assert (again.is_new, again.snapshot, landing.snapshots()) == (False, first, (first,))


ETAGS = ['"0x8DC:1"', 'W/"weak"', "bare", '"a/../../b"', '"' + "x" * 300 + '"', '""', '"\xe9"', '".."', '"a b"']


@pytest.mark.parametrize("etag", ETAGS)
def test_any_etag_is_known_again(coffee, extracted, landing, etag):
    coffee.post(MONTH, release_zip(), POSTED_AT, etag=etag)
    found = extracted()
    assert found.snapshot.etag == etag
    assert landing.zip_path(found.snapshot.key).parent == landing.root / "psd"
    coffee.forget_requests()
    assert not extracted().is_new
    assert {request.method for request in coffee.requests} == {"HEAD"}


def test_without_an_etag_date_and_length_tell_the_file(coffee, extracted, landing):
    coffee.post(MONTH, release_zip(rows(5)), POSTED_AT)
    coffee.misbehave(MONTH, Fault(etag=""), times=None)
    first = extracted()
    assert first.is_new and first.snapshot.etag is None
    coffee.forget_requests()
    assert extracted().snapshot == first.snapshot
    assert {request.method for request in coffee.requests} == {"HEAD"}
    coffee.post(MONTH, release_zip(rows(6)), POSTED_AT)
    assert extracted().is_new


def test_without_etag_and_date_the_bytes_tell_the_file(coffee, extracted, landing):
    coffee.post(MONTH, release_zip(rows(5)), POSTED_AT)
    coffee.misbehave(MONTH, Fault(etag="", last_modified=""), times=None)
    first = extracted()
    before = tree(landing.root)
    again = extracted()
    assert (first.is_new, again.is_new) == (True, False)
    assert again.snapshot == first.snapshot
    assert tree(landing.root) == before


@pytest.mark.parametrize("etag", ['"same"', 'W/"same"'])
def test_one_etag_for_different_files_keeps_both(coffee, extracted, landing, etag):
    for back in range(2):
        coffee.post(MONTH.back(back), release_zip(rows(5 + back)), POSTED_AT, etag=etag)
        assert extracted(only=MONTH.back(back)).is_new
    for back in range(2):
        coffee.forget_requests()
        found = extracted(only=MONTH.back(back))
        assert (found.is_new, found.snapshot.row_count) == (False, 5 + back)
        assert sum(request.body_bytes for request in coffee.requests) == 0


def test_a_size_for_an_etag_does_not_hide_the_next_release(coffee, extracted):
    """Two releases may have one size, and then one ETag where a server makes it of the size."""
    stored = [zipped(csv(rows(5, value)), method=0) for value in ("12.5000", "13.0000")]
    assert len(stored[0]) == len(stored[1])
    for back, content in enumerate(stored):
        coffee.post(MONTH.back(back), content, POSTED_AT.replace(month=11 - back), etag=f'"{len(content)}"')
        assert extracted(only=MONTH.back(back)).is_new


def test_the_same_file_at_another_address_is_known(coffee, extracted):
    for back in range(2):
        coffee.post(MONTH.back(back), release_zip(), POSTED_AT, etag='"same"')
    assert extracted(only=MONTH.back(1)).is_new
    assert not extracted(only=MONTH).is_new


def test_evidence_is_never_overwritten(coffee, extracted, landing):
    """An ETag that a server uses twice hides neither file."""
    coffee.post(MONTH, release_zip(rows(5)), POSTED_AT, etag='"one"')
    first = extracted().snapshot
    before = tree(landing.root)
    coffee.post(MONTH, release_zip(rows(6)), POSTED_AT, etag='"one"')
    coffee.misbehave(MONTH, Fault(etag='"two"', method="HEAD"), times=None)
    second = extracted()
    assert second.is_new and second.snapshot.key != first.key
    assert before.items() <= tree(landing.root).items()


@pytest.mark.parametrize(
    "content",
    [
        release_zip()[:-30],
        zipped(csv(rows(2)), member="other.csv"),
        zipped(csv([])),
        zipped(csv(rows(2), header="a,b")),
        zipped(csv([row(), row()])),
        zipped(csv([row(value="many")])),
    ],
    ids=["cut", "no member", "no rows", "header", "twice", "value"],
)
def test_a_bad_release_changes_nothing_in_the_landing_and_the_next_run_succeeds(coffee, extracted, landing, content):
    coffee.post(MONTH.back(1), release_zip(rows(3)), POSTED_AT.replace(month=10))
    extracted(only=MONTH.back(1))
    before = tree(landing.root)
    coffee.post(MONTH, content, POSTED_AT, etag='"bad"')
    for _ in range(2):
        with pytest.raises(SnapshotError, match=r"psd_coffee-2025-11\.zip"):
            extracted()
        assert tree(landing.root) == before
    coffee.post(MONTH, release_zip(rows(4)), POSTED_AT, etag='"bad"')
    assert extracted().snapshot.row_count == 4


def test_a_candidate_that_cannot_be_asked_is_named_and_stops_no_other(coffee, extracted, landing):
    coffee.post(MONTH.back(1), release_zip(), POSTED_AT)
    coffee.misbehave(MONTH, Fault(status=500), times=None)
    found = extracted()
    assert found.is_new and found.snapshot.month == MONTH.back(1)
    (problem,) = found.problems
    assert problem.startswith("2025-11: could not be asked: HTTP 500")


def test_there_is_work_while_something_posted_is_not_landed(coffee, extracted):
    def has_work() -> bool:
        return extracted(live_url=coffee.live_url, final="has_work")

    assert not has_work(), "nothing is posted"
    coffee.post(MONTH, release_zip(), POSTED_AT)
    assert has_work()
    extracted(live_url=coffee.live_url)
    assert not has_work()
    coffee.post(None, release_zip(rows(3)), POSTED_AT)
    assert has_work(), "the current file"
    extracted(live_url=coffee.live_url)
    assert not has_work()
    coffee.misbehave(None, Fault(status=500), times=None)
    assert not has_work(), "the current file cannot be asked"


def test_403_for_what_is_not_posted_is_no_problem(coffee, extracted, caplog):
    caplog.set_level(logging.INFO)
    coffee.post(MONTH.back(1), release_zip(), POSTED_AT)
    for month in (MONTH, MONTH.back(2), MONTH.back(3)):
        coffee.misbehave(month, Fault(status=403), times=None)
    found = extracted()
    assert (found.snapshot.month, found.problems) == (MONTH.back(1), ())
    named = [record.getMessage()[:7] for record in caplog.records if "taken for not posted" in record.getMessage()]
    assert named == ["2025-11", "2025-09", "2025-08"]


def test_403_for_everything_names_the_user_agent(coffee, extracted, landing):
    for back in range(4):
        coffee.misbehave(MONTH.back(back), Fault(status=403), times=None)
    with pytest.raises(ArchiveError, match=f"PSD_USER_AGENT .*{coffee.path(MONTH)}") as refused:
        extracted()
    assert not isinstance(refused.value, NotPostedError) and "not posted" not in str(refused.value)
    assert tree(landing.root) == {}


def test_a_refused_partial_get_does_not_count_as_not_posted(coffee, extracted):
    coffee.post(MONTH, release_zip(), POSTED_AT)
    coffee.misbehave(MONTH, Fault(status=403, method="GET"), times=None)
    with pytest.raises(ArchiveError, match="2025-11: could not be asked: HTTP 403") as refused:
        extracted()
    assert not isinstance(refused.value, NotPostedError)


def test_a_packed_body_is_refused_and_leaves_nothing(coffee, extracted, landing):
    coffee.post(MONTH, release_zip(), POSTED_AT)
    coffee.misbehave(MONTH, Fault(gzip=True, method="GET"), times=None)
    with pytest.raises(ArchiveError, match="Content-Encoding gzip"):
        extracted()
    assert tree(landing.root) == {}


def test_an_endless_body_is_stopped_and_leaves_nothing_to_resume(coffee, extracted, landing, monkeypatch):
    monkeypatch.setattr(archive, "MAX_ZIP_BYTES", 2 << 20)
    coffee.post(MONTH, release_zip(), POSTED_AT)
    coffee.misbehave(MONTH, Fault(endless=True, method="GET"), times=None)
    with pytest.raises(ArchiveError, match="sends more than 2 MiB"):
        extracted()
    assert tree(landing.root) == {}
    coffee.behave()
    assert extracted().is_new


def test_an_announced_flood_is_refused_unread(coffee, extracted, landing, monkeypatch):
    monkeypatch.setattr(archive, "MAX_ZIP_BYTES", 1000)
    coffee.post(MONTH, release_zip(rows(1000)), POSTED_AT)
    with pytest.raises(ArchiveError, match="sends more than"):
        extracted()
    assert tree(landing.root) == {}


def test_a_full_disk_is_reported_before_the_download(coffee, extracted, landing, monkeypatch):
    import shutil

    full = shutil._ntuple_diskusage(10**9, 10**9, 10**7)
    monkeypatch.setattr(shutil, "disk_usage", lambda directory: full)
    coffee.post(MONTH, release_zip(), POSTED_AT)
    with pytest.raises(DiskSpaceError, match="downloading http"):
        extracted()
    assert landing.snapshots() == ()


def test_a_failing_node_is_reported_once_and_without_its_inputs(coffee, extracted, caplog):
    with pytest.raises(NotPostedError):
        extracted()
    assert [record for record in caplog.records if record.name.startswith("hamilton")] == []


def test_the_dataflow_has_the_steps_of_its_description():
    names = {node.name for node in driver.build(extract).list_available_variables()}
    steps = ["candidates", "probes", "newest_posted", "landed_already", "download", "contents", "snapshot"]
    assert set(steps) <= names


def test_a_snapshot_reads_what_it_wrote():
    snapshot = Snapshot(
        dataset="psd_coffee",
        url="http://127.0.0.1/x",
        etag=None,
        last_modified=None,
        release_year=2025,
        release_month=11,
        released_on=date(2025, 11, 14),
        size_bytes=1,
        sha256="0" * 64,
        member=MEMBER,
        row_count=1,
        landed_at=datetime(2025, 11, 15, 1, 2, 3, tzinfo=UTC),
        key="k",
    )
    assert Snapshot.from_json(snapshot.to_json(), "here") == snapshot


def test_a_landing_that_does_not_exist_yet_is_empty(tmp_path):
    landing = LocalLanding(tmp_path / "nowhere")
    assert (landing.snapshots(), landing.find("x")) == ((), None)
