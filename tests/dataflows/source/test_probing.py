"""Probes of odd servers: no release is missed, and no unchanged file is downloaded twice."""

import json
from datetime import UTC, datetime

import pytest

from dataflows.source.archive import Archive, Identity
from dataflows.source.probe_memory import MAX_PER_ADDRESS, Known, LiveCheck, ProbeMemory
from dataflows.source.release import USER_AGENT
from tests.dataflows.conftest import HASTE, MONTH, POSTED_AT, tree
from tests.support.faulty_archive import Fault, FaultyArchive
from tests.support.psd_files import DATASET, csv, release_zip, row, rows, zipped

FEW_BYTES = 256
"""Limit for reading the end of a file whose headers are new."""


def body_bytes(archive: FaultyArchive) -> int:
    return sum(request.body_bytes for request in archive.requests)


def extract_again(archive: FaultyArchive, extracted, runs: int = 2) -> int:
    """Extract again; return the largest number of body bytes that one run received."""
    most = 0
    for _ in range(runs):
        archive.forget_requests()
        assert not extracted().is_new
        most = max(most, body_bytes(archive))
    return most


@pytest.mark.parametrize("status", [400, 403, 404, 405, 500])
def test_a_refused_head_hides_no_release(coffee, extracted, status):
    coffee.post(MONTH, release_zip(), POSTED_AT)
    for back in range(4):
        coffee.misbehave(MONTH.back(back), Fault(status=status, method="HEAD"), times=None)
    assert extracted().snapshot.month == MONTH
    assert extract_again(coffee, extracted) <= FEW_BYTES


@pytest.mark.parametrize("etag", ['W/"one"', '"one-gzip"', '"another"', ""])
def test_head_and_get_may_disagree_about_the_etag(coffee, extracted, landing, etag):
    coffee.post(MONTH, release_zip(), POSTED_AT, etag='"one"')
    coffee.misbehave(MONTH, Fault(etag=etag, method="HEAD"), times=None)
    assert extracted().is_new
    assert extract_again(coffee, extracted) <= FEW_BYTES
    assert len(landing.snapshots()) == 1


def test_an_etag_that_head_alone_marks_as_packed_costs_no_byte_from_then_on(coffee, extracted):
    coffee.post(MONTH, release_zip(), POSTED_AT, etag='"one"')
    coffee.misbehave(MONTH, Fault(etag='"one-gzip"', method="HEAD"), times=None)
    assert extracted().is_new
    coffee.forget_requests()
    assert not extracted().is_new
    assert {request.method for request in coffee.requests} == {"HEAD"}


def test_a_current_file_that_names_no_month_is_not_landed(coffee, extracted, landing):
    coffee.post(MONTH, release_zip(rows(3)), POSTED_AT)
    undated = zipped(csv([row(calendar_year="2025", month="00")]), date=(1980, 0, 0, 0, 0, 0))
    coffee.post(None, undated, POSTED_AT)
    coffee.misbehave(None, Fault(last_modified=""), times=None)
    found = extracted(live_url=coffee.live_url)
    assert len(found.landed) == 1 and "names no month" in found.problems[0]
    assert list(landing.workspace.iterdir()) == []


def test_the_etags_of_two_nodes_are_both_stored(coffee, extracted, landing):
    coffee.post(MONTH, release_zip(), POSTED_AT)
    for number in range(8):
        coffee.misbehave(MONTH, Fault(etag=f'"node{number % 2}"', method="HEAD"))
    assert extracted().is_new
    assert extract_again(coffee, extracted) <= FEW_BYTES
    # Now both are known, and no byte is read.
    assert extract_again(coffee, extracted) == 0


def test_validators_that_always_change_cost_a_few_bytes_and_no_body(coffee, extracted, landing):
    coffee.post(MONTH, release_zip(), POSTED_AT)
    assert extracted().is_new
    for number in range(MAX_PER_ADDRESS + 4):
        moment = datetime(2026, 1, 1, 12, number, tzinfo=UTC)
        coffee.misbehave(MONTH, Fault(etag=f'"{number}"', last_modified=f"{moment:%a, %d %b %Y %H:%M:%S GMT}"), 2)
        coffee.forget_requests()
        assert not extracted().is_new
        assert body_bytes(coffee) <= FEW_BYTES
        coffee.behave()
    assert len(landing.memory(DATASET).known) <= MAX_PER_ADDRESS
    assert len(landing.snapshots()) == 1


def test_another_file_of_the_same_size_is_landed(coffee, extracted, landing):
    """The end of the zip differs."""
    first, second = (zipped(csv([row("BR", value)]), method=0) for value in ("12.5000", "13.5000"))
    assert len(first) == len(second)
    coffee.post(MONTH, first, POSTED_AT, etag='"a"')
    assert extracted().is_new
    coffee.post(MONTH, second, POSTED_AT, etag='"b"')
    assert extracted().is_new
    assert len(landing.snapshots()) == 2


def test_a_node_that_is_behind_does_not_hide_a_correction(coffee, extracted):
    """HEAD is answered by a node with the new file, GET by one with the old file."""
    old, new = release_zip(rows(5)), release_zip(rows(6))
    coffee.post(MONTH, old, POSTED_AT, etag='"old"')
    extracted()
    coffee.post(MONTH, new, POSTED_AT.replace(day=18), etag='"new"')
    stale = Fault(body=old, etag='"old"', last_modified="Fri, 14 Nov 2025 17:00:00 GMT", method="GET")
    coffee.misbehave(MONTH, stale, times=None)
    assert not extracted().is_new
    coffee.behave()
    assert extracted().is_new


@pytest.mark.parametrize("encoding", ["", "none", "binary", "utf-8", "identity"])
def test_a_meaningless_content_encoding_is_ignored(coffee, extracted, encoding):
    coffee.post(MONTH, release_zip(), POSTED_AT)
    coffee.misbehave(MONTH, Fault(content_encoding=encoding), times=None)
    assert extracted().snapshot.month == MONTH


def test_a_refused_range_is_followed_by_a_plain_get(coffee, extracted):
    coffee.post(MONTH, release_zip(), POSTED_AT)
    coffee.misbehave(MONTH, Fault(refuse_range=403), times=None)
    assert extracted().snapshot.month == MONTH
    assert extract_again(coffee, extracted) == 0


def test_every_request_sends_the_user_agent(coffee):
    from dataflows.source.release import release_of

    coffee.post(MONTH, release_zip(), POSTED_AT)
    for agent in (USER_AGENT, "Mozilla/5.0 (mirror of Example)"):
        Archive(HASTE, agent).probe(release_of(coffee.url, DATASET, MONTH))
    assert [request.headers["User-Agent"] for request in coffee.requests] == [
        USER_AGENT,
        "Mozilla/5.0 (mirror of Example)",
    ]
    assert USER_AGENT.startswith("materia")


def test_the_current_file_is_a_release_between_two_months(coffee, extracted, landing):
    archived = zipped(csv([row(calendar_year="2025", month="10")]), date=(2025, 10, 10, 12, 0, 0))
    current = zipped(csv([row(value="13.0000", calendar_year="2025", month="11")]), date=(2025, 11, 20, 15, 2, 0))
    coffee.post(MONTH.back(1), archived, POSTED_AT)
    coffee.post(None, current, POSTED_AT)
    found = extracted(live_url=coffee.live_url)
    assert [(each.snapshot.month, str(each.snapshot.released_on), each.is_current_file) for each in found.landed] == [
        (MONTH.back(1), "2025-10-10", False),
        (MONTH, "2025-11-20", True),
    ]
    assert [each.snapshot.newest_stamp for each in found.landed] == ["2025-10", "2025-11"]
    assert found.snapshot == found.landed[0].snapshot, "the archive's"
    coffee.forget_requests()
    again = extracted(live_url=coffee.live_url)
    assert not again.is_new and len(again.landed) == 2 and body_bytes(coffee) == 0


def test_the_current_file_that_is_the_archives_is_landed_once(coffee, extracted, landing):
    for month in (MONTH, None):
        coffee.post(month, release_zip(), POSTED_AT)
    found = extracted(live_url=coffee.live_url)
    assert [each.is_new for each in found.landed] == [True, False]
    assert len(landing.snapshots()) == 1
    assert extract_again(coffee, lambda: extracted(live_url=coffee.live_url)) == 0


@pytest.mark.parametrize("fault", [Fault(status=500), Fault(status=404), Fault(html=True), Fault(body=b"PK no zip")])
def test_a_failure_of_the_current_file_is_reported_and_stops_nothing(coffee, extracted, landing, fault):
    coffee.post(MONTH, release_zip(), POSTED_AT)
    coffee.post(None, release_zip(rows(3)), POSTED_AT)
    coffee.misbehave(None, fault, times=None)
    found = extracted(live_url=coffee.live_url)
    assert found.is_new and found.snapshot.month == MONTH
    assert len(found.problems) == 1 and found.problems[0].startswith("current file: ")
    assert landing.live_check(DATASET) is None


def test_a_check_of_the_current_file_is_dated_in_washington(coffee, extracted, landing):
    coffee.post(None, release_zip(), POSTED_AT)
    before_midnight_there = datetime(2025, 11, 16, 3, tzinfo=UTC)
    found = extracted(live_url=coffee.live_url, landed_at=before_midnight_there)
    assert landing.live_check(DATASET) == LiveCheck(before_midnight_there.date().replace(day=15), found.snapshot.key)
    extracted(live_url=coffee.live_url, landed_at=datetime(2025, 11, 18, 12, tzinfo=UTC))
    assert landing.live_check(DATASET).checked_on.isoformat() == "2025-11-18"


def test_a_damaged_memory_is_an_empty_one(coffee, extracted, landing):
    coffee.post(MONTH, release_zip(), POSTED_AT, etag='"one"')
    coffee.misbehave(MONTH, Fault(etag='"two"', method="HEAD"), times=None)
    extracted()
    extracted()
    path = landing.root / "probes" / f"{DATASET}.json"
    assert json.loads(path.read_text())["known"]
    path.write_text("{")
    assert extract_again(coffee, extracted) <= FEW_BYTES
    assert landing.memory(DATASET).known


def test_memory_round_trips_through_json_and_drops_replaced_files():
    def known(key: str, etag: str) -> Known:
        return Known("http://x/a.zip", "HEAD", etag, None, 9, key)

    memory = ProbeMemory().with_known(known("old", '"1"')).with_known(known("new", '"2"'))
    assert ProbeMemory.from_json(memory.to_json()) == memory
    assert memory.find("http://x/a.zip", "HEAD", Identity('"1"', None, 9)) is None
    assert memory.find("http://x/a.zip", "HEAD", Identity('"2"', None, 9)) == "new"
    assert memory.find("http://x/a.zip", "GET", Identity('"2"', None, 9)) is None
    assert memory.find("http://x/a.zip", "HEAD", Identity(None, None, 9)) is None


def test_a_run_that_finds_nothing_new_writes_nothing(coffee, extracted, landing):
    coffee.post(MONTH, release_zip(), POSTED_AT)
    extracted()
    before = tree(landing.root)
    extracted()
    assert tree(landing.root) == before
