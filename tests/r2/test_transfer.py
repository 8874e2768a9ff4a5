"""Files to and from object storage, over lines that break and in processes that are killed."""

import hashlib
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from dataflows.errors import LostRaceError, ObjectDamagedError, ObjectMissingError, ObjectUnavailableError
from dataflows.objects.download import download
from dataflows.objects.store import ObjectStore
from dataflows.objects.upload import clean_unfinished, file_etag, upload
from tests.r2.conftest import PART_BYTES
from tests.support.faulty_proxy import Fault, FaultyProxy

PARTS = 3
HELD_TIMEOUT_S = 60

TRANSFER = """
import sys
from pathlib import Path
from dataflows.objects.store import Bucket, Limits, ObjectStore
from dataflows.objects.download import download
from dataflows.objects.upload import upload
what, endpoint, name, path, size, sha256 = sys.argv[1:]
access_key, secret_key = sys.stdin.read().split()
store = ObjectStore(Bucket(endpoint, name, access_key, secret_key), Limits(part_bytes=5 << 20, parallel=1))
if what == "upload":
    upload(store, Path(path), "big")
else:
    download(store, "big", Path(path), size_bytes=int(size), sha256=sha256)
"""


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fetch(store: ObjectStore, source: Path, target: Path) -> None:
    download(store, "big", target, size_bytes=source.stat().st_size, sha256=sha256_of(source))


def killed_while(what: str, store: ObjectStore, path: Path, source: Path, fault: Fault) -> None:
    """Run a transfer in a process of its own and kill it with SIGKILL where the proxy holds it."""
    size, sha256 = str(source.stat().st_size), sha256_of(source)
    command = [sys.executable, "-c", TRANSFER, what, store.bucket.endpoint, store.bucket.name, str(path), size, sha256]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
    try:
        process.stdin.write(f"{store.bucket.access_key} {store.bucket.secret_key}")
        process.stdin.close()
        assert fault.held.wait(HELD_TIMEOUT_S)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL


def unfinished(store: ObjectStore) -> int:
    return len(store.client.list_multipart_uploads(Bucket=store.bucket.name).get("Uploads", ()))


def test_a_file_comes_back_as_it_went(store: ObjectStore, big_file: Path, tmp_path: Path) -> None:
    assert upload(store, big_file, "big") is True
    assert store.head("big").etag == file_etag(big_file, PART_BYTES)
    fetch(store, big_file, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == big_file.read_bytes()
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_the_same_file_is_not_sent_twice(store: ObjectStore, proxy: FaultyProxy, big_file: Path) -> None:
    upload(store, big_file, "big")
    sent = len(proxy.requests("PUT"))
    assert upload(store, big_file, "big") is False
    assert len(proxy.requests("PUT")) == sent


@pytest.mark.parametrize("size_bytes", [10, 2 * PART_BYTES])
def test_another_file_is_never_overwritten(store: ObjectStore, tmp_path: Path, size_bytes: int) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"1" * size_bytes)
    second.write_bytes(b"2" * size_bytes)
    upload(store, first, "file")
    with pytest.raises(LostRaceError, match=f"s3://{store.bucket.name}/file"):
        upload(store, second, "file")
    assert store.head("file").etag == file_etag(first, PART_BYTES)
    assert unfinished(store) == 0


def test_two_uploads_of_one_file_make_one_object_and_both_succeed(
    store: ObjectStore, other_store: ObjectStore, big_file: Path
) -> None:
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda each: upload(each, big_file, "big"), [store, other_store]))
    assert any(both), "whoever comes second may find it there already, but somebody has sent it"
    assert store.head("big").etag == file_etag(big_file, PART_BYTES)
    assert [each.key for each in store.list("")] == ["big"]


def test_an_upload_killed_midway_is_invisible_and_resumed(
    store: ObjectStore, other_store: ObjectStore, proxy: FaultyProxy, big_file: Path
) -> None:
    held = proxy.misbehave(Fault("PUT", "partNumber=", skip=2, hold=True))
    killed_while("upload", store, big_file, big_file, held)
    assert list(other_store.list("")) == []
    assert unfinished(other_store) == 1
    proxy.behave()
    before = len(proxy.requests("PUT", "partNumber="))
    assert upload(store, big_file, "big") is True
    # Two parts were there; the third that was held may have gone through when the proxy let go of it.
    assert len(proxy.requests("PUT", "partNumber=")) - before <= PARTS - 2
    assert store.head("big").etag == file_etag(big_file, PART_BYTES)
    assert unfinished(store) == 0


def test_parts_that_nobody_takes_up_again_are_cleaned_up(
    store: ObjectStore, proxy: FaultyProxy, big_file: Path
) -> None:
    proxy.misbehave(Fault("PUT", "partNumber=3", times=None, status=503))
    with pytest.raises(ObjectUnavailableError):
        upload(store, big_file, "big")
    assert clean_unfinished(store, "") == 0, "young ones may be at work"
    assert clean_unfinished(store, "", older_than=timedelta(0)) == 1
    assert unfinished(store) == 0


def test_parts_of_another_file_are_not_joined(store: ObjectStore, proxy: FaultyProxy, big_file: Path) -> None:
    proxy.misbehave(Fault("PUT", "partNumber=2", times=None, status=503))
    with pytest.raises(ObjectUnavailableError):
        upload(store, big_file, "big")
    proxy.behave()
    big_file.write_bytes(big_file.read_bytes()[::-1])
    assert upload(store, big_file, "big") is True
    assert store.head("big").etag == file_etag(big_file, PART_BYTES)


def test_an_upload_survives_a_disconnect_and_slow_down(store: ObjectStore, proxy: FaultyProxy, big_file: Path) -> None:
    proxy.misbehave(Fault("PUT", "partNumber=2", cut_request_after_bytes=100_000))
    proxy.misbehave(Fault("PUT", "partNumber=3", status=503))
    assert upload(store, big_file, "big") is True
    assert store.head("big").etag == file_etag(big_file, PART_BYTES)


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_an_answer_lost_on_the_way_is_no_lost_race(
    store: ObjectStore, proxy: FaultyProxy, big_file: Path, tmp_path: Path, method: str
) -> None:
    small = tmp_path / "small"
    small.write_bytes(b"small")
    source = small if method == "PUT" else big_file
    proxy.misbehave(Fault(method, "/big" if method == "PUT" else "uploadId=", lose_answer=True))
    upload(store, source, "big")
    assert store.head("big").etag == file_etag(source, PART_BYTES)


def test_a_download_survives_disconnects_and_slow_down(
    store: ObjectStore, proxy: FaultyProxy, big_file: Path, tmp_path: Path
) -> None:
    upload(store, big_file, "big")
    proxy.misbehave(Fault("GET", "/big", cut_answer_after_bytes=1_000_000))
    proxy.misbehave(Fault("GET", "/big", status=503))
    fetch(store, big_file, tmp_path / "back")
    assert sha256_of(tmp_path / "back") == sha256_of(big_file)


def test_a_download_killed_midway_shows_nothing_and_is_resumed(
    store: ObjectStore, proxy: FaultyProxy, big_file: Path, tmp_path: Path
) -> None:
    upload(store, big_file, "big")
    target = tmp_path / "back"
    held = proxy.misbehave(Fault("GET", "/big", skip=2, hold=True))
    killed_while("download", store, target, big_file, held)
    assert not target.exists()
    proxy.behave()
    before = len(proxy.requests("GET", "/big"))
    fetch(store, big_file, target)
    assert len(proxy.requests("GET", "/big")) - before == PARTS - 2
    assert sha256_of(target) == sha256_of(big_file)


def test_a_line_that_stays_down_is_told_and_what_arrived_is_kept(
    store: ObjectStore, proxy: FaultyProxy, big_file: Path, tmp_path: Path
) -> None:
    upload(store, big_file, "big")
    proxy.misbehave(Fault("GET", "/big", skip=1, times=None, cut_answer_after_bytes=10))
    with pytest.raises(ObjectUnavailableError, match=r"s3://.*/big.*R2_ENDPOINT"):
        fetch(store, big_file, tmp_path / "back")
    proxy.behave()
    before = len(proxy.requests("GET", "/big"))
    fetch(store, big_file, tmp_path / "back")
    assert len(proxy.requests("GET", "/big")) - before == PARTS - 1


def test_parts_of_an_older_version_are_forgotten(
    store: ObjectStore, proxy: FaultyProxy, big_file: Path, tmp_path: Path
) -> None:
    upload(store, big_file, "big")
    proxy.misbehave(Fault("GET", "/big", skip=1, times=None, status=503))
    with pytest.raises(ObjectUnavailableError):
        fetch(store, big_file, tmp_path / "back")
    proxy.behave()
    store.delete("big")
    big_file.write_bytes(big_file.read_bytes()[::-1])
    upload(store, big_file, "big")
    fetch(store, big_file, tmp_path / "back")
    assert sha256_of(tmp_path / "back") == sha256_of(big_file)
    assert list(tmp_path.glob(".back*")) == []


def test_other_bytes_than_promised_are_never_shown(store: ObjectStore, big_file: Path, tmp_path: Path) -> None:
    upload(store, big_file, "big")
    target, size_bytes = tmp_path / "back", big_file.stat().st_size
    with pytest.raises(ObjectDamagedError, match=f"s3://{store.bucket.name}/big"):
        download(store, "big", target, size_bytes=size_bytes, sha256="0" * 64)
    with pytest.raises(ObjectDamagedError):
        download(store, "big", target, size_bytes=size_bytes + 10 * PART_BYTES, sha256=sha256_of(big_file))
    with pytest.raises(ObjectMissingError):
        download(store, "none", target, size_bytes=10, sha256="0" * 64)
    assert not target.exists()


def test_parts_lost_in_a_power_cut_are_fetched_again(store: ObjectStore, big_file: Path, tmp_path: Path) -> None:
    upload(store, big_file, "big")
    name = f".back.{sha256_of(big_file)[:16]}"
    with (tmp_path / f"{name}.part").open("wb") as part:
        part.truncate(big_file.stat().st_size)
    (tmp_path / f"{name}.have").write_bytes(b"\1" + b"\0" * 2)
    fetch(store, big_file, tmp_path / "back")
    assert sha256_of(tmp_path / "back") == sha256_of(big_file)
