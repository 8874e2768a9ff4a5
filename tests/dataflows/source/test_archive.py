import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dataflows.errors import ArchiveError, DiskSpaceError, LandingError
from dataflows.files import disk_errors
from dataflows.source import archive as archive_module
from dataflows.source.archive import Archive, Identity, Probe, Verdict
from dataflows.source.http import RetryPolicy, Stopped
from dataflows.source.release import release_of
from tests.dataflows.conftest import HASTE, MONTH, POSTED_AT
from tests.support.faulty_archive import Fault
from tests.support.psd_files import DATASET

BODY = b"PK\x03\x04" + random.Random(1).randbytes(3_000_000)
OTHER_BODY = b"PK\x03\x04" + random.Random(2).randbytes(3_100_000)


@pytest.fixture
def fetch(coffee, tmp_path):
    """Download the month from `coffee` to `part.zip`."""
    coffee.post(MONTH, BODY, POSTED_AT, etag='"one"')

    def download(attempts: int = 4, retry_policy: RetryPolicy = HASTE, **options):
        archive = Archive(replace(retry_policy, attempts=attempts), **options)
        try:
            return archive.download(release_of(coffee.url, DATASET, MONTH), tmp_path / "part.zip")
        finally:
            archive.close()

    return download


def sent(coffee) -> list[int]:
    """The body bytes of each GET."""
    return [request.body_bytes for request in coffee.requests if request.method == "GET"]


def test_a_download_is_complete_and_has_the_archives_headers(coffee, fetch, tmp_path):
    seen = []
    done = fetch(progress=lambda received, total: seen.append((received, total)))
    assert done.path.read_bytes() == BODY
    assert (done.size_bytes, done.etag, done.last_modified) == (len(BODY), '"one"', "Fri, 14 Nov 2025 17:00:00 GMT")
    assert seen == sorted(seen) and seen[-1] == (len(BODY), len(BODY))
    assert [path.name for path in tmp_path.iterdir()] == ["part.zip"]


def test_a_broken_download_continues_where_it_broke(coffee, fetch):
    coffee.misbehave(MONTH, Fault(truncate_after_bytes=1_000_000))
    assert fetch().path.read_bytes() == BODY
    first, second = coffee.requests
    assert "Range" not in first.headers
    assert (second.headers["Range"], second.headers["If-Range"]) == ("bytes=1000000-", '"one"')
    assert sent(coffee) == [1_000_000, len(BODY) - 1_000_000]


def test_a_later_run_continues_a_download(coffee, fetch):
    coffee.misbehave(MONTH, Fault(truncate_after_bytes=1_000_000))
    with pytest.raises(ArchiveError, match="1 times in a row"):
        fetch(attempts=1)
    assert fetch().path.read_bytes() == BODY
    assert sent(coffee)[1] == len(BODY) - 1_000_000


def test_a_file_replaced_meanwhile_is_downloaded_from_the_start(coffee, fetch):
    coffee.misbehave(MONTH, Fault(truncate_after_bytes=1_000_000))
    with pytest.raises(ArchiveError):
        fetch(attempts=1)
    coffee.post(MONTH, OTHER_BODY, POSTED_AT, etag='"two"')
    done = fetch()
    assert (done.path.read_bytes(), done.etag) == (OTHER_BODY, '"two"')
    assert coffee.requests[-1].status == 200


def test_the_rest_of_another_file_is_not_appended(coffee, fetch, monkeypatch):
    """A server that honours Range and ignores If-Range."""
    from ops.demo import archive_answers

    monkeypatch.setattr(archive_answers, "_range_applies", lambda file, if_range: True)
    coffee.misbehave(MONTH, Fault(truncate_after_bytes=1_000_000))
    with pytest.raises(ArchiveError):
        fetch(attempts=1)
    coffee.post(MONTH, OTHER_BODY, POSTED_AT, etag='"two"')
    assert fetch().path.read_bytes() == OTHER_BODY


def test_a_file_that_became_shorter_is_downloaded_from_the_start(coffee, fetch, monkeypatch):
    from ops.demo import archive_answers

    monkeypatch.setattr(archive_answers, "_range_applies", lambda file, if_range: True)
    coffee.misbehave(MONTH, Fault(truncate_after_bytes=1_000_000))
    with pytest.raises(ArchiveError):
        fetch(attempts=1)
    coffee.post(MONTH, BODY[:500_000], POSTED_AT, etag='"two"')
    assert fetch().path.read_bytes() == BODY[:500_000]


def test_a_server_that_ignores_ranges_sends_it_all_again(coffee, fetch):
    coffee.misbehave(MONTH, Fault(truncate_after_bytes=1_000_000))
    coffee.misbehave(MONTH, Fault(ignore_range=True))
    assert fetch().path.read_bytes() == BODY
    assert sent(coffee) == [1_000_000, len(BODY)]


@pytest.mark.parametrize(
    ("etag", "last_modified", "resumes"),
    [('W/"weak"', None, False), ("", None, True), ("", "", False), ('"\xe9"', None, False), ('"a:b/c"', None, True)],
)
def test_only_a_strong_validator_lets_a_download_resume(coffee, fetch, etag, last_modified, resumes):
    spoiled = {"etag": etag, "last_modified": last_modified}
    coffee.misbehave(MONTH, Fault(truncate_after_bytes=1_000_000, **spoiled))
    coffee.post(MONTH, BODY, POSTED_AT, etag=etag or '"hidden"')
    coffee.misbehave(MONTH, Fault(**spoiled), times=None)
    assert fetch().path.read_bytes() == BODY
    assert sent(coffee)[1] == (len(BODY) - 1_000_000 if resumes else len(BODY))


def test_a_partial_file_of_unknown_origin_is_not_continued(coffee, fetch, tmp_path):
    (tmp_path / "part.zip").write_bytes(b"x" * 1000)
    assert fetch().path.read_bytes() == BODY
    for note in ("", "{}", "[]", '{"url": 1}', '{"url": "x", "etag": "y", "last_modified": null}'):
        (tmp_path / "part.zip").write_bytes(b"x" * 1000)
        (tmp_path / "part.zip.validators").write_text(note)
        assert fetch().path.read_bytes() == BODY


def test_an_interrupted_restart_leaves_no_old_bytes_under_new_validators(coffee, fetch, tmp_path):
    coffee.misbehave(MONTH, Fault(truncate_after_bytes=1_000_000))
    with pytest.raises(ArchiveError):
        fetch(attempts=1)
    coffee.post(MONTH, OTHER_BODY, POSTED_AT, etag='"two"')
    coffee.misbehave(MONTH, Fault(truncate_after_bytes=0))
    with pytest.raises(ArchiveError):
        fetch(attempts=1)
    assert json.loads((tmp_path / "part.zip.validators").read_text())["etag"] == '"two"'
    assert (tmp_path / "part.zip").stat().st_size == 0
    assert fetch().path.read_bytes() == OTHER_BODY


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=503, retry_after="0"),
        Fault(status=429, retry_after="1"),
        Fault(status=429, retry_after="Fri, 14 Nov 2025 17:00:00 GMT"),
        Fault(status=500, retry_after="\xb2"),
        Fault(status=408),
    ],
    ids=lambda fault: f"{fault.status} {fault.retry_after}",
)
def test_a_transient_error_is_retried(coffee, fetch, fault):
    coffee.misbehave(MONTH, fault, times=2)
    assert fetch().path.read_bytes() == BODY
    assert len(coffee.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 304])
def test_a_permanent_failure_is_not_retried(coffee, fetch, status):
    coffee.misbehave(MONTH, Fault(status=status), times=None)
    with pytest.raises(ArchiveError, match=f"HTTP {status}"):
        fetch()
    assert len(coffee.requests) == 1


def test_the_error_names_the_number_of_attempts(coffee, fetch):
    coffee.misbehave(MONTH, Fault(status=503), times=None)
    with pytest.raises(ArchiveError, match=r"HTTP 503, 4 times in a row \(.*\); try again later"):
        fetch()
    assert len(coffee.requests) == 4


def test_a_pause_respects_retry_after_up_to_a_limit():
    retry_policy = RetryPolicy(first_pause_s=1, longest_pause_s=8)
    assert 0.5 <= retry_policy.pause_s(0, None) <= 1.5
    assert retry_policy.pause_s(0, 5) == 5
    assert retry_policy.pause_s(0, 1e9) == retry_policy.pause_s(30, None) == 8


def test_a_refused_connection_is_an_archive_error(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(ArchiveError, match="4 times in a row"):
        Archive(HASTE).probe(release_of(url, DATASET, MONTH))


@pytest.mark.parametrize(
    "url", ["http://[", "http://", "ftp://127.0.0.1", "http://127.0.0.1:99999", "http://a b/", "http://\x7f/", "x"]
)
def test_an_invalid_address_is_an_archive_error(url):
    with pytest.raises(ArchiveError):
        Archive(HASTE).probe(release_of(url, DATASET, MONTH))


def test_a_wrong_content_length_is_retried_or_limits_the_body(coffee, fetch):
    coffee.misbehave(MONTH, Fault(content_length=len(BODY) + 10), times=2)
    assert fetch().path.read_bytes() == BODY
    coffee.misbehave(MONTH, Fault(content_length=len(BODY) - 10))
    assert fetch().path.read_bytes() == BODY[:-10]


def test_an_answer_shorter_than_its_content_range_does_not_count_as_complete(coffee, fetch):
    coffee.misbehave(MONTH, Fault(truncate_after_bytes=1_000_000, method="GET"))
    # Its length is honest and its range is not: HTTP itself sees nothing wrong.
    coffee.misbehave(MONTH, Fault(content_length=500_000, method="GET"))
    assert fetch().path.read_bytes() == BODY
    assert [each.headers.get("Range") for each in coffee.requests] == [None, "bytes=1000000-", "bytes=1500000-"]


def test_answers_shorter_than_their_content_range_are_reported(coffee, fetch):
    coffee.misbehave(MONTH, Fault(truncate_after_bytes=1_000_000, method="GET"))
    coffee.misbehave(MONTH, Fault(content_length=1000, method="GET"), times=None)
    with pytest.raises(ArchiveError, match=rf"ended after 1003000 of {len(BODY)} bytes, 4 times"):
        fetch()


def test_a_refused_head_is_followed_by_a_get(coffee, fetch):
    for status in (400, 401, 403, 405, 500, 501, 503):
        coffee.misbehave(MONTH, Fault(status=status, method="HEAD"))
        probe = Archive(HASTE).probe(release_of(coffee.url, DATASET, MONTH))
        assert (probe.posted, probe.method) == (True, "GET")
        assert (probe.identity.etag, probe.identity.size_bytes) == ('"one"', len(BODY))
    assert max(request.body_bytes for request in coffee.requests) <= 4


def test_a_redirect_within_the_host_is_followed(coffee, fetch):
    coffee.post(MONTH.back(1), OTHER_BODY, POSTED_AT)
    coffee.misbehave(MONTH, Fault(redirect_to=coffee.path(MONTH.back(1))))
    assert fetch().path.read_bytes() == OTHER_BODY


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.2:1/evil.zip",
        "//example.com/evil.zip",
        "http://127.0.0.1:1/evil.zip",
        "ftp://127.0.0.1/evil.zip",
        "file:///etc/passwd",
        "http://[",
    ],
)
def test_a_redirect_elsewhere_is_refused(coffee, fetch, location):
    coffee.misbehave(MONTH, Fault(redirect_to=location), times=None)
    with pytest.raises(ArchiveError, match=r"redirected to .*, another host or port or a less safe scheme"):
        fetch()
    assert len(coffee.requests) == 1


@pytest.mark.parametrize("fault", [Fault(redirect_to="http://127.0.0.2:1/evil.zip"), Fault(status=403)])
def test_an_error_names_the_setting_of_its_own_archive(coffee, fetch, fault):
    coffee.misbehave(MONTH, fault, times=None)
    with pytest.raises(ArchiveError, match="MATERIA_WASDE_URL"):
        fetch(setting="MATERIA_WASDE_URL")


def test_a_redirect_loop_ends(coffee, fetch):
    coffee.misbehave(MONTH, Fault(redirect_to=coffee.path(MONTH)), times=None)
    with pytest.raises(ArchiveError, match="redirected more than 3 times"):
        fetch()
    assert len(coffee.requests) == 4


def test_the_deadline_ends_a_slow_download_and_keeps_its_bytes(coffee, fetch, tmp_path):
    coffee.misbehave(MONTH, Fault(drip_bytes_per_s=20_000))
    with pytest.raises(ArchiveError, match="took longer than"):
        fetch(retry_policy=replace(HASTE, download_s=0.5))
    kept = (tmp_path / "part.zip").stat().st_size
    assert 0 < kept < 200_000
    assert fetch().path.read_bytes() == BODY
    assert len(BODY) - kept in sent(coffee)


def test_a_slow_answer_without_length_does_not_count_as_complete(coffee, fetch):
    coffee.misbehave(MONTH, Fault(drip_bytes_per_s=20_000, endless=True))
    with pytest.raises(ArchiveError, match="took longer than"):
        fetch(retry_policy=replace(HASTE, download_s=0.5))


@pytest.fixture
def loris():
    """A server that sends its headers one byte at a time and never ends them."""
    listener = socket.create_server(("127.0.0.1", 0))
    closing = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection:
            try:
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                while not closing.wait(0.05):
                    connection.sendall(b"z")
            except OSError:
                return

    def accept() -> None:
        while not closing.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=drip, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    closing.set()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


def test_the_deadline_ends_headers_that_never_end(loris):
    with pytest.raises(ArchiveError, match="took longer than"):
        Archive(replace(HASTE, probe_s=0.4)).probe(release_of(loris, DATASET, MONTH))


@pytest.mark.parametrize("kind", ["drip", "headers", "pause"])
def test_stop_interrupts_any_wait(coffee, loris, tmp_path, kind):
    coffee.post(MONTH, BODY, POSTED_AT)
    faults = {"drip": Fault(drip_bytes_per_s=1000), "pause": Fault(status=503)}
    if kind in faults:
        coffee.misbehave(MONTH, faults[kind], times=None)
    archive = Archive(RetryPolicy(first_pause_s=300, longest_pause_s=300))
    wanted = release_of(loris if kind == "headers" else coffee.url, DATASET, MONTH)
    outcome: list[BaseException] = []

    def work() -> None:
        try:
            archive.download(wanted, tmp_path / "part.zip")
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.3)
    assert thread.is_alive()
    archive.stop()
    thread.join(10)
    assert [type(error) for error in outcome] == [Stopped]
    with pytest.raises(Stopped):
        archive.probe(wanted)


DOWNLOADING = """
import sys
from pathlib import Path
from dataflows.source import archive as archive_module
from dataflows.source.archive import Archive, Identity, Probe, Verdict
from dataflows.source.release import Month, release_of
Archive().download(release_of(sys.argv[1], sys.argv[2], Month(2025, 11)), Path(sys.argv[3]))
"""


def test_the_next_run_continues_a_killed_download(coffee, fetch, tmp_path):
    coffee.misbehave(MONTH, Fault(drip_bytes_per_s=2_000_000))
    part = tmp_path / "part.zip"
    child = subprocess.Popen([sys.executable, "-c", DOWNLOADING, coffee.url, DATASET, str(part)])
    try:
        deadline = time.monotonic() + 30
        while not (part.exists() and part.stat().st_size > 500_000):
            assert time.monotonic() < deadline and child.poll() is None
            time.sleep(0.01)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait(10)
    kept = part.stat().st_size
    assert 500_000 < kept < len(BODY)
    assert fetch().path.read_bytes() == BODY
    assert len(BODY) - kept in sent(coffee)


def test_a_disk_error_during_a_download_is_a_typed_error(coffee, fetch, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(LandingError, match=r"part\.zip: File too large"):
            fetch()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(coffee.requests) == 1
    assert fetch().path.read_bytes() == BODY


def test_a_full_disk_is_named(tmp_path):
    with pytest.raises(DiskSpaceError, match="the disk is full"), disk_errors(tmp_path):
        Path("/dev/full").write_bytes(b"x")
    with pytest.raises(LandingError, match="missing"), disk_errors(tmp_path):
        (tmp_path / "missing" / "x").write_text("x")


@pytest.mark.parametrize(
    ("size_bytes", "message"),
    [
        ((1 << 30) + 1, "sends more than 1024 MiB; that is no PSD release"),
        (1 << 30, "without sending complete message body"),
    ],
)
def test_a_gibibyte_is_the_largest_release(coffee, fetch, size_bytes, message):
    coffee.misbehave(MONTH, Fault(content_length=size_bytes), times=None)
    with pytest.raises(ArchiveError, match=message):
        fetch(attempts=1)


def test_a_body_that_grows_beyond_the_limit_is_removed(coffee, fetch, tmp_path, monkeypatch):
    monkeypatch.setattr(archive_module, "MAX_ZIP_BYTES", len(BODY) + 1_000_000)
    coffee.misbehave(MONTH, Fault(endless=True))
    with pytest.raises(ArchiveError, match="no PSD release"):
        fetch(attempts=1)
    assert list(tmp_path.iterdir()) == []


def test_the_space_that_a_download_needs_is_that_of_the_rest_and_a_margin(coffee, fetch, monkeypatch):
    needed = []
    monkeypatch.setattr(
        archive_module, "require_space", lambda folder, needed_bytes, purpose: needed.append(needed_bytes)
    )
    coffee.misbehave(MONTH, Fault(truncate_after_bytes=1_000_000))
    fetch()
    assert needed == [len(BODY) + (64 << 20), len(BODY) - 1_000_000 + (64 << 20)]


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (404, Verdict.NOT_POSTED),
        (410, Verdict.NOT_POSTED),
        (401, Verdict.REFUSED),
        (403, Verdict.REFUSED),
        (402, None),
        (409, None),
    ],
)
def test_a_status_is_a_verdict_or_an_error(coffee, fetch, status, verdict):
    coffee.misbehave(MONTH, Fault(status=status), times=None)
    wanted = release_of(coffee.url, DATASET, MONTH)
    if verdict is None:
        with pytest.raises(ArchiveError, match=f"HTTP {status}"):
            Archive(HASTE).probe(wanted)
    else:
        probe = Archive(HASTE).probe(wanted)
        assert (probe.verdict, f"HTTP {status}" in probe.reason) == (verdict, True)


@pytest.mark.parametrize("status", [400, 401, 403, 405, 406, 416, 501])
def test_a_piece_is_read_from_the_start_where_ranges_are_refused(coffee, fetch, status):
    coffee.misbehave(MONTH, Fault(refuse_range=status))
    piece = Archive(HASTE).piece(release_of(coffee.url, DATASET, MONTH), 2, 4)
    assert piece is not None
    assert (piece.start_bytes, piece.data) == (0, BODY[:4])


def test_a_piece_of_an_error_page_is_an_error(coffee, fetch):
    coffee.misbehave(MONTH, Fault(status=409), times=None)
    with pytest.raises(ArchiveError, match="HTTP 409"):
        Archive(HASTE).piece(release_of(coffee.url, DATASET, MONTH), 0, 4)


@pytest.mark.parametrize(("verdict", "is_zip"), [(Verdict.NOT_POSTED, None), (Verdict.POSTED, True)])
def test_the_first_bytes_are_read_once_and_only_of_a_posted_file(coffee, fetch, verdict, is_zip):
    probe = Probe(release_of(coffee.url, DATASET, MONTH), verdict, "", is_zip=is_zip)
    assert Archive(HASTE).sniffed(probe) is probe
    assert not coffee.requests


@pytest.mark.parametrize(
    ("first", "second", "agree"),
    [
        (Identity('"a"', None, 1), Identity('"a"', None, 1), True),
        (Identity('"a"', None, 1), Identity('"a"', None, 2), False),
        (Identity('"a"', None, 1), Identity('"a"', None, None), True),
        (Identity('"a"', None, None), Identity('W/"a-gzip"', None, 2), True),
        (Identity('"a"', "Mon", 1), Identity('"b"', "Mon", 1), True),
        (Identity('"a"', "Mon", 1), Identity('"b"', "Tue", 1), False),
        (Identity(None, None, 1), Identity(None, None, 1), False),
        (Identity('"a"', None, 1), Identity(None, None, 1), False),
    ],
)
def test_two_answers_agree_by_size_and_by_date_or_etag(first, second, agree):
    assert first.agrees_with(second) is agree
    assert second.agrees_with(first) is agree


@pytest.mark.parametrize(
    ("content_range", "message"),
    [
        ("bytes 0-3/4", None),
        ("bytes 2-5/6", "Content-Range 'bytes 2-5/6' for a request from byte 0 on"),
        ("bytes 0-3/*", "Content-Range 'bytes 0-3/\\*'"),
        ("", "Content-Range ''"),
    ],
)
def test_a_partial_answer_to_a_whole_request_is_taken_only_from_the_first_byte_on(tmp_path, content_range, message):
    answer = f"HTTP/1.1 206 Partial Content\r\nContent-Length: 4\r\nContent-Range: {content_range}\r\n\r\nPK\x03\x04"
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer.encode())

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        archive = Archive(replace(HASTE, attempts=1))
        wanted = release_of(f"http://127.0.0.1:{listener.getsockname()[1]}", DATASET, MONTH)
        if message is None:
            assert archive.download(wanted, tmp_path / "part.zip").size_bytes == 4
        else:
            with pytest.raises(ArchiveError, match=message):
                archive.download(wanted, tmp_path / "part.zip")
        thread.join(10)
