"""The loopback archive answers correctly, except for injected faults."""

import gzip
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from dataflows.source.release import Month
from ops.demo.archive_server import ArchiveServer
from ops.demo.generator import generate
from ops.demo.history import HistorySpec
from tests.support.faulty_archive import HTML_PAGE, Fault, FaultyArchive
from tests.support.real_files import post_real_eu_area, post_real_grains

MONTH = Month(2025, 11)
CONTENT = bytes(range(256)) * 4_000
POSTED = datetime(2025, 11, 14, 16, tzinfo=UTC)
ETAG = '"0123abcd:0"'
LAST_MODIFIED = "Fri, 14 Nov 2025 16:00:00 GMT"


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=10) as client:
        yield client


@pytest.fixture
def url(archive: FaultyArchive) -> str:
    return archive.post(MONTH, CONTENT, POSTED, etag=ETAG)


def test_a_posted_month_is_served_whole(archive: FaultyArchive, client: httpx.Client, url: str) -> None:
    assert url == f"{archive.url}/2025/11/psd_alldata_csv.zip"
    response = client.get(url)
    assert response.status_code == 200
    assert response.content == CONTENT
    assert {name: response.headers[name] for name in ("ETag", "Last-Modified", "Content-Type")} == {
        "ETag": ETAG,
        "Last-Modified": LAST_MODIFIED,
        "Content-Type": "application/x-zip-compressed",
    }
    assert response.headers["Accept-Ranges"] == "bytes"


def test_head_has_the_headers_of_get_and_no_body(archive: FaultyArchive, client: httpx.Client, url: str) -> None:
    response = client.head(url, headers={"Range": "bytes=5-"})
    assert response.status_code == 200
    assert response.content == b""
    assert response.headers["Content-Length"] == str(len(CONTENT))
    assert archive.requests[-1].body_bytes == 0


def test_an_unposted_file_is_404(archive: FaultyArchive, client: httpx.Client, url: str) -> None:
    assert client.get(f"{archive.url}/2025/12/psd_alldata_csv.zip").status_code == 404
    assert client.get(url.replace("alldata", "coffee")).status_code == 404
    archive.remove(MONTH)
    assert client.head(url).status_code == 404


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("bytes=0-9", 0, 10), ("bytes=100-", 100, None), ("bytes=-7", -7, None), ("bytes=5-99999999", 5, None)],
)
def test_a_range_is_answered_in_part(client: httpx.Client, url: str, asked: str, start: int, stop: int | None) -> None:
    response = client.get(url, headers={"Range": asked})
    assert response.status_code == 206
    assert response.content == CONTENT[start:stop]
    first = start % len(CONTENT)
    last = first + len(response.content) - 1
    assert response.headers["Content-Range"] == f"bytes {first}-{last}/{len(CONTENT)}"


@pytest.mark.parametrize("asked", ["bytes=1-2,5-6", "bytes=9-3", "lines=1-2", "bytes=", "bytes=a-b", "bytes=--4"])
def test_a_range_that_makes_no_sense_is_ignored(client: httpx.Client, url: str, asked: str) -> None:
    response = client.get(url, headers={"Range": asked})
    assert (response.status_code, len(response.content)) == (200, len(CONTENT))


@pytest.mark.parametrize("asked", [f"bytes={len(CONTENT)}-", f"bytes={len(CONTENT) + 5}-{len(CONTENT) + 9}"])
def test_a_range_beyond_the_end_is_416(client: httpx.Client, url: str, asked: str) -> None:
    response = client.get(url, headers={"Range": asked})
    assert response.status_code == 416
    assert response.headers["Content-Range"] == f"bytes */{len(CONTENT)}"


@pytest.mark.parametrize(
    ("validator", "status"),
    [(ETAG, 206), (LAST_MODIFIED, 206), ('"another"', 200), ("Thu, 13 Nov 2025 16:00:00 GMT", 200)],
)
def test_if_range_gives_the_part_only_of_the_same_file(
    client: httpx.Client, url: str, validator: str, status: int
) -> None:
    response = client.get(url, headers={"Range": "bytes=1000-", "If-Range": validator})
    assert response.status_code == status
    assert response.content == (CONTENT[1000:] if status == 206 else CONTENT)


def test_a_weak_etag_allows_no_range(archive: FaultyArchive, client: httpx.Client) -> None:
    url = archive.post(MONTH, CONTENT, POSTED, etag='W/"weak"')
    response = client.get(url, headers={"Range": "bytes=1000-", "If-Range": 'W/"weak"'})
    assert response.status_code == 200


@pytest.mark.parametrize("known", [ETAG, f"W/{ETAG}", f'"other", {ETAG}', "*"])
def test_a_known_etag_is_304_without_a_body(archive: FaultyArchive, client: httpx.Client, url: str, known: str) -> None:
    response = client.get(url, headers={"If-None-Match": known})
    assert (response.status_code, response.content) == (304, b"")
    assert archive.requests[-1].body_bytes == 0
    assert client.get(url, headers={"If-None-Match": '"other"'}).status_code == 200


def test_a_month_can_be_replaced_while_the_server_runs(archive: FaultyArchive, client: httpx.Client, url: str) -> None:
    archive.post(MONTH, b"second", POSTED)
    response = client.get(url)
    assert response.content == b"second"
    assert response.headers["ETag"] != ETAG


def test_requests_are_recorded_with_what_was_sent(archive: FaultyArchive, client: httpx.Client, url: str) -> None:
    client.head(url)
    client.get(url, headers={"Range": "bytes=0-99"})
    assert [(r.method, r.status, r.body_bytes) for r in archive.requests] == [
        ("HEAD", 200, 0),
        ("GET", 206, 100),
    ]
    assert archive.requests[1].headers["Range"] == "bytes=0-99"
    archive.forget_requests()
    assert archive.requests == ()


def test_four_clients_are_served_side_by_side(archive: FaultyArchive, url: str) -> None:
    """A dripping answer to one client keeps no other waiting: all four must be under way at once."""
    archive.misbehave(MONTH, Fault(drip_bytes_per_s=len(CONTENT)), times=4)
    under_way = threading.Barrier(4, timeout=20)
    sizes = []

    def download() -> None:
        with httpx.stream("GET", url, timeout=20) as response:
            chunks = response.iter_raw()
            size = len(next(chunks))
            under_way.wait()
            sizes.append(size + sum(map(len, chunks)))

    threads = [threading.Thread(target=download) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes == [len(CONTENT)] * 4


def test_closing_frees_the_port_though_a_client_stays_connected(client: httpx.Client) -> None:
    with ArchiveServer("psd_coffee") as server:
        url = server.post(MONTH, CONTENT, POSTED)
        assert client.get(url).status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_generated_releases_are_posted_as_they_are(archive: FaultyArchive, client: httpx.Client) -> None:
    for release in generate(HistorySpec(rows=500, releases=2)):
        url = archive.post(release.month, release.zip_bytes, release.published_at, release.etag)
        response = client.get(url)
        assert response.content == release.zip_bytes
        assert response.headers["ETag"] == release.etag
        assert response.headers["Last-Modified"] == release.last_modified


def test_real_files_are_posted_with_their_own_day(
    archive: FaultyArchive, client: httpx.Client, shared_psd: Path
) -> None:
    urls = [*post_real_grains(archive), post_real_eu_area(archive)]
    heads = [client.head(url) for url in urls]
    assert [head.headers["Last-Modified"][5:] for head in heads] == [
        "12 Aug 2021 16:00:00 GMT",
        "09 Mar 2022 16:00:00 GMT",
        "14 Nov 2025 16:00:00 GMT",
        "14 Nov 2025 16:00:00 GMT",
    ]
    assert len({head.headers["ETag"] for head in heads}) == 4
    whole = (shared_psd / "psd_eu_area_prod_csv-2025-11.zip").read_bytes()
    assert client.get(urls[-1]).content == whole


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_fault_is_used_up(archive: FaultyArchive, client: httpx.Client, url: str, status: int) -> None:
    archive.misbehave(MONTH, Fault(status=status, retry_after="3"), times=2)
    answers = [client.get(url) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [status, status, 200]
    assert answers[0].headers["Retry-After"] == "3"


def test_a_permanent_fault_lasts_until_it_is_cleared(archive: FaultyArchive, client: httpx.Client, url: str) -> None:
    archive.misbehave(MONTH, Fault(html=True), times=None)
    for _ in range(3):
        assert client.get(url).content == HTML_PAGE
    archive.behave()
    assert client.get(url).content == CONTENT


def test_head_can_be_refused_alone(archive: FaultyArchive, client: httpx.Client, url: str) -> None:
    archive.misbehave(MONTH, Fault(status=405, method="HEAD"), times=None)
    assert client.head(url).status_code == 405
    assert client.get(url).status_code == 200


def test_headers_can_be_spoiled(archive: FaultyArchive, client: httpx.Client, url: str) -> None:
    weird = "W/" + '"' + "a:/b" * 75 + '"'
    archive.misbehave(MONTH, Fault(etag=""))
    archive.misbehave(MONTH, Fault(etag=weird, last_modified=""))
    archive.misbehave(MONTH, Fault(redirect_to="http://127.0.0.1:1/elsewhere"))
    bare, odd, redirect = (client.get(url) for _ in range(3))
    assert "ETag" not in bare.headers
    assert bare.content == odd.content == CONTENT
    assert (odd.headers["ETag"], "Last-Modified" in odd.headers) == (weird, False)
    assert (redirect.status_code, redirect.headers["Location"]) == (302, "http://127.0.0.1:1/elsewhere")


def test_a_body_can_be_cut_off(archive: FaultyArchive, client: httpx.Client, url: str) -> None:
    archive.misbehave(MONTH, Fault(truncate_after_bytes=1000))
    with pytest.raises(httpx.RemoteProtocolError):
        client.get(url)
    assert archive.requests[-1].body_bytes == 1000
    rest = client.get(url, headers={"Range": "bytes=1000-", "If-Range": ETAG})
    assert (rest.status_code, rest.content) == (206, CONTENT[1000:])


def test_a_length_can_be_wrong(archive: FaultyArchive, client: httpx.Client, url: str) -> None:
    archive.misbehave(MONTH, Fault(content_length=len(CONTENT) + 10))
    with pytest.raises(httpx.RemoteProtocolError):
        client.get(url)
    archive.misbehave(MONTH, Fault(content_length=len(CONTENT) - 10))
    assert client.get(url).content == CONTENT[:-10]


def test_a_range_can_be_ignored_and_a_body_replaced(archive: FaultyArchive, client: httpx.Client, url: str) -> None:
    archive.misbehave(MONTH, Fault(ignore_range=True))
    assert client.get(url, headers={"Range": "bytes=5-"}).status_code == 200
    archive.misbehave(MONTH, Fault(body=b"forged"))
    response = client.get(url)
    assert (response.content, response.headers["ETag"]) == (b"forged", ETAG)


def test_a_body_can_come_compressed(archive: FaultyArchive, url: str) -> None:
    archive.misbehave(MONTH, Fault(gzip=True))
    with httpx.stream("GET", url) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(b"".join(response.iter_raw())) == CONTENT


def test_an_endless_body_ends_when_the_client_leaves(archive: FaultyArchive, url: str) -> None:
    archive.misbehave(MONTH, Fault(endless=True))
    seen = 0
    with httpx.stream("GET", url) as response:
        assert "Content-Length" not in response.headers
        for chunk in response.iter_raw():
            seen += len(chunk)
            if seen > 3 * len(CONTENT):
                break
    assert archive.requests[-1].body_bytes >= 3 * len(CONTENT)


def test_a_drip_ends_with_the_archive() -> None:
    with FaultyArchive() as archive:
        url = archive.post(MONTH, CONTENT, POSTED)
        archive.misbehave(MONTH, Fault(drip_bytes_per_s=2_000))
        with httpx.stream("GET", url) as response:
            assert len(next(response.iter_raw())) <= 1_000
            archive.closing.set()
            deadline = time.monotonic() + 10
            while not archive.requests and time.monotonic() < deadline:
                time.sleep(0.01)
            assert 0 < archive.requests[-1].body_bytes < len(CONTENT)
