"""Files to and from object storage, through connections that break and from processes that are killed."""

import hashlib
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dataflows.errors import LostRaceError, ObjectDamagedError, ObjectMissingError, ObjectStoreError
from dataflows.objects import transfer
from dataflows.objects.store import ObjectStore
from dataflows.objects.transfer import download, upload
from tests.support.faulty_proxy import Fault, FaultyProxy
from tests.support.object_server import ObjectServer

HELD_TIMEOUT_S = 60

TRANSFER = """
import sys
from pathlib import Path
from dataflows.objects.store import Bucket, ObjectStore
from dataflows.objects.transfer import download, upload
what, endpoint, name, path, size, sha256 = sys.argv[1:]
access_key, secret_key = sys.stdin.read().split()
store = ObjectStore(Bucket(endpoint, name, access_key, secret_key))
if what == "upload":
    upload(store, Path(path), "big")
else:
    download(store, "big", Path(path), size_bytes=int(size), sha256=sha256)
"""


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def md5_of(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def fetch(store: ObjectStore, source: Path, target: Path) -> None:
    download(store, "big", target, size_bytes=source.stat().st_size, sha256=sha256_of(source))


def kill_while(what: str, store: ObjectStore, path: Path, source: Path, fault: Fault) -> None:
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


def test_a_file_comes_back_as_it_was(store: ObjectStore, big_file: Path, tmp_path: Path) -> None:
    assert upload(store, big_file, "big") is True
    assert store.head("big").content_md5 == md5_of(big_file)
    fetch(store, big_file, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == big_file.read_bytes()
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_an_empty_file_comes_back(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert upload(store, tmp_path / "empty", "big") is True
    fetch(store, tmp_path / "empty", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b""


def test_the_same_file_is_not_sent_twice(store: ObjectStore, proxy: FaultyProxy, big_file: Path) -> None:
    upload(store, big_file, "big")
    sent = len(proxy.requests("PUT"))
    assert upload(store, big_file, "big") is False
    assert len(proxy.requests("PUT")) == sent


@pytest.mark.parametrize("size_bytes", [10, 10_000_000])
def test_another_file_is_never_overwritten(store: ObjectStore, tmp_path: Path, size_bytes: int) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"1" * size_bytes)
    second.write_bytes(b"2" * size_bytes)
    upload(store, first, "file")
    with pytest.raises(LostRaceError, match=f"s3://{store.bucket.name}/file"):
        upload(store, second, "file")
    assert store.head("file").content_md5 == md5_of(first)


def test_a_file_that_another_machine_writes_meanwhile_is_not_overwritten(
    store: ObjectStore, other_store: ObjectStore, proxy: FaultyProxy, big_file: Path
) -> None:
    held = proxy.misbehave(Fault("PUT", "/big", hold=True))
    with ThreadPoolExecutor(1) as pool:
        uploading = pool.submit(upload, store, big_file, "big")
        assert held.held.wait(HELD_TIMEOUT_S)
        other_store.put_if_absent("big", b"another machine's")
        held.released.set()
        with pytest.raises(LostRaceError, match=f"s3://{store.bucket.name}/big"):
            uploading.result()
    assert store.read("big").data == b"another machine's"


def test_two_uploads_of_one_file_make_one_object_and_both_succeed(
    store: ObjectStore, other_store: ObjectStore, big_file: Path
) -> None:
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda each: upload(each, big_file, "big"), [store, other_store]))
    assert any(both), "the second one may find the object there already, but one of them has written it"
    assert store.head("big").content_md5 == md5_of(big_file)
    assert [each.key for each in store.list("")] == ["big"]


def test_an_object_that_another_tool_uploaded_in_parts_is_compared_by_its_bytes(
    server: ObjectServer, store: ObjectStore, big_file: Path
) -> None:
    """Its ETag is not the MD5 of its bytes."""
    server.client.upload_file(str(big_file), store.bucket.name, "big")
    assert store.head("big").content_md5 is None
    assert upload(store, big_file, "big") is False
    big_file.write_bytes(big_file.read_bytes()[::-1])
    with pytest.raises(LostRaceError):
        upload(store, big_file, "big")


def test_an_upload_killed_midway_leaves_nothing_and_the_next_one_succeeds(
    server: ObjectServer, store: ObjectStore, other_store: ObjectStore, proxy: FaultyProxy, big_file: Path
) -> None:
    held = proxy.misbehave(Fault("PUT", "/big", hold=True, cut_request_after_bytes=1_000_000))
    kill_while("upload", store, big_file, big_file, held)
    proxy.behave()
    assert list(other_store.list("")) == []
    assert not server.client.list_multipart_uploads(Bucket=store.bucket.name).get("Uploads")
    assert upload(store, big_file, "big") is True
    assert store.head("big").content_md5 == md5_of(big_file)


def test_an_upload_survives_a_disconnect_and_slow_down(store: ObjectStore, proxy: FaultyProxy, big_file: Path) -> None:
    for fault in (Fault("PUT", "/big", cut_request_after_bytes=100_000), Fault("PUT", "/big", status=503)):
        proxy.misbehave(fault)
        assert upload(store, big_file, "big") is True
        assert store.head("big").content_md5 == md5_of(big_file)
        store.delete("big")


def test_a_lost_answer_is_no_lost_race(store: ObjectStore, proxy: FaultyProxy, big_file: Path) -> None:
    proxy.misbehave(Fault("PUT", "/big", lose_answer=True))
    upload(store, big_file, "big")
    assert store.head("big").content_md5 == md5_of(big_file)


def test_a_file_too_large_for_one_request_is_refused_before_it_is_sent(
    store: ObjectStore, proxy: FaultyProxy, tmp_path: Path
) -> None:
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(transfer.MAX_UPLOAD_BYTES + 1)
    with pytest.raises(ObjectStoreError, match=r"5,363,466,241 bytes .*MATERIA_GATEWAY=ducklake"):
        upload(store, huge, "huge")
    assert proxy.seen == []


def test_a_download_continues_after_a_disconnect(
    store: ObjectStore, proxy: FaultyProxy, big_file: Path, tmp_path: Path
) -> None:
    upload(store, big_file, "big")
    proxy.misbehave(Fault("GET", "/big", status=503))
    proxy.misbehave(Fault("GET", "/big", cut_answer_after_bytes=4_000_000))
    ranges = watch_ranges(store)
    fetch(store, big_file, tmp_path / "back")
    assert sha256_of(tmp_path / "back") == sha256_of(big_file)
    (continued,) = {each for each in ranges if each}
    assert 0 < int(continued.removeprefix("bytes=").removesuffix("-")) <= 4_000_000


def watch_ranges(store: ObjectStore) -> list[str | None]:
    """The Range of each GetObject that the client sends from now on."""
    ranges: list[str | None] = []

    def note(params: dict[str, str], **_: object) -> None:
        ranges.append(params.get("Range"))

    store.client.meta.events.register("before-parameter-build.s3.GetObject", note)
    return ranges


def test_a_download_killed_midway_shows_nothing_and_the_next_one_succeeds(
    store: ObjectStore, proxy: FaultyProxy, big_file: Path, tmp_path: Path
) -> None:
    upload(store, big_file, "big")
    target = tmp_path / "back"
    proxy.misbehave(Fault("GET", "/big", cut_answer_after_bytes=4_000_000))
    held = proxy.misbehave(Fault("GET", "/big", hold=True))
    kill_while("download", store, target, big_file, held)
    assert not target.exists()
    assert [path.name for path in tmp_path.glob(".*")] == [".back.arriving"]
    proxy.behave()
    fetch(store, big_file, target)
    assert sha256_of(target) == sha256_of(big_file)
    assert list(tmp_path.glob(".*")) == []


def test_a_connection_that_keeps_breaking_is_an_error_that_names_the_object(
    store: ObjectStore, proxy: FaultyProxy, big_file: Path, tmp_path: Path
) -> None:
    upload(store, big_file, "big")
    proxy.misbehave(Fault("GET", "/big", times=None, cut_answer_after_bytes=10))
    with pytest.raises(ObjectStoreError, match=r"IncompleteReadError, 2 attempts.*s3://.*/big.*R2_ENDPOINT"):
        fetch(store, big_file, tmp_path / "back")
    assert len(proxy.requests("GET", "/big")) == store.limits.attempts
    assert [path.name for path in tmp_path.iterdir()] == ["big"]


def test_other_bytes_than_recorded_are_never_shown(store: ObjectStore, big_file: Path, tmp_path: Path) -> None:
    upload(store, big_file, "big")
    target, size_bytes = tmp_path / "back", big_file.stat().st_size
    with pytest.raises(ObjectDamagedError, match=f"s3://{store.bucket.name}/big"):
        download(store, "big", target, size_bytes=size_bytes, sha256="0" * 64)
    for wrong_bytes in (size_bytes + 1, size_bytes - 1):
        with pytest.raises(ObjectDamagedError, match=f"not the recorded {wrong_bytes:,}"):
            download(store, "big", target, size_bytes=wrong_bytes, sha256=sha256_of(big_file))
    with pytest.raises(ObjectMissingError):
        download(store, "none", target, size_bytes=10, sha256="0" * 64)
    assert [path.name for path in tmp_path.iterdir()] == ["big"]
