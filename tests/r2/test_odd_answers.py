"""Answers of proxies instead of object storage, and conflicts that are retried, in front of a real server."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from dataflows.errors import LandingError, ObjectDamagedError, ObjectStoreError
from dataflows.lakehouse.sync import LakehouseSync
from dataflows.landing.bucket import R2Landing
from dataflows.landing.local import LocalLanding
from dataflows.objects.store import ObjectStore
from dataflows.objects.transfer import download, upload
from dataflows.serving.remote import RemoteGenerations
from tests.r2.snapshots import DATASET, Prepared, prepared
from tests.support.faulty_proxy import Fault, FaultyProxy

PAGE = b"<!DOCTYPE html><html><body>Access to this site is blocked.</body></html>"
TEXT = {"Content-Type": "text/plain"}
HTML = {
    "Content-Type": "text/html; charset=utf-8",
    "ETag": f'"{hashlib.md5(PAGE).hexdigest()}"',
    "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
}
ETAG = {"Content-Type": "text/plain", "ETag": '"0123456789abcdef0123456789abcdef"'}


@pytest.fixture
def landing(store: ObjectStore, tmp_path: Path) -> R2Landing:
    return R2Landing(store, LocalLanding(tmp_path / "here"))


@pytest.fixture(scope="module")
def releases() -> list[Prepared]:
    return list(prepared(3))


def fetch(store: ObjectStore, folder: Path) -> None:
    download(store, "key", folder / "fetched", size_bytes=1, sha256=hashlib.sha256(b"1").hexdigest())


def send(store: ObjectStore, folder: Path) -> None:
    (folder / "small").write_bytes(b"2")
    upload(store, folder / "small", "new")


ACTIONS: dict[str, Callable[[ObjectStore, Path], object]] = {
    "read": lambda store, folder: store.read("key"),
    "look at": lambda store, folder: store.head("key"),
    "list": lambda store, folder: list(store.list("")),
    "write": lambda store, folder: store.put_if_absent("new", b"2"),
    "replace": lambda store, folder: store.replace("key", b"2", hashlib.md5(b"1").hexdigest()),
    "delete": lambda store, folder: store.delete("key"),
    "download": fetch,
    "upload": send,
    "newest generation": lambda store, folder: RemoteGenerations(store, DATASET).newest(),
    "current lakehouse": lambda store, folder: lakehouse(store, folder).pull(),
}


def lakehouse(store: ObjectStore, folder: Path) -> LakehouseSync:
    return LakehouseSync(store, DATASET, folder / "lakehouse.duckdb", folder / "lakehouse-state.duckdb")


@pytest.mark.parametrize("headers", [HTML, TEXT], ids=["html", "text"])
@pytest.mark.parametrize("action", ACTIONS)
def test_a_web_page_is_an_error_and_changes_nothing(
    store: ObjectStore,
    other_store: ObjectStore,
    proxy: FaultyProxy,
    tmp_path: Path,
    action: str,
    headers: dict[str, str],
) -> None:
    store.put_if_absent("key", b"1")
    proxy.misbehave(Fault(times=None, page=PAGE, headers=headers))
    with pytest.raises(ObjectStoreError, match="not an answer of object storage"):
        ACTIONS[action](store, tmp_path)
    assert [each.key for each in other_store.list("")] == ["key"]
    assert other_store.read("key").data == b"1"


@pytest.mark.parametrize("action", ACTIONS)
def test_a_transient_web_page_is_retried(store: ObjectStore, proxy: FaultyProxy, tmp_path: Path, action: str) -> None:
    store.put_if_absent("key", b"1")
    proxy.misbehave(Fault(page=PAGE))
    ACTIONS[action](store, tmp_path)


def test_another_document_is_not_a_listing(store: ObjectStore, proxy: FaultyProxy) -> None:
    store.put_if_absent("key", b"1")
    for page in (b"", b"<?xml version='1.0'?><Portal/>", b"<ListPartsResult></ListPartsResult>"):
        fault = proxy.misbehave(
            Fault("GET", "list-type=2", None, page=page, headers={"Content-Type": "application/xml"})
        )
        with pytest.raises(ObjectStoreError, match="not an answer of object storage"):
            list(store.list(""))
        fault.times = 0
    assert [each.key for each in store.list("")] == ["key"]


def test_bytes_that_differ_from_their_etag_are_an_error(store: ObjectStore, proxy: FaultyProxy) -> None:
    store.put_if_absent("key", b"1")
    proxy.misbehave(Fault("GET", "/key", page=PAGE, headers=ETAG))
    with pytest.raises(ObjectDamagedError, match="the ETag is"):
        store.read("key")
    proxy.misbehave(Fault("PUT", "/new", page=b"", headers=ETAG))
    with pytest.raises(ObjectDamagedError, match="the object has the MD5"):
        store.put_if_absent("new", b"2")


@pytest.mark.parametrize("good_listings", [0, 1])
def test_a_web_page_instead_of_a_listing_keeps_the_cache(
    landing: R2Landing, proxy: FaultyProxy, releases: list[Prepared], good_listings: int
) -> None:
    cached = filled(landing, releases)
    proxy.misbehave(Fault("GET", "list-type=2", times=None, skip=good_listings, page=PAGE))
    with pytest.raises(ObjectStoreError):
        R2Landing(landing.store, landing.cache).ready_rows(DATASET)
        R2Landing(landing.store, landing.cache).ready_rows(DATASET)
    assert files(landing) == cached


def test_an_empty_listing_keeps_the_cache(
    landing: R2Landing, other_store: ObjectStore, releases: list[Prepared]
) -> None:
    cached = filled(landing, releases)
    for each in list(other_store.list("")):
        other_store.delete(each.key)
    with pytest.raises(LandingError, match=r"lists no snapshot of psd_coffee, and 3 are cached .* R2_BUCKET"):
        landing.ready_rows(DATASET)
    assert files(landing) == cached


def test_an_incomplete_listing_keeps_the_cache(
    landing: R2Landing, proxy: FaultyProxy, releases: list[Prepared]
) -> None:
    cached = filled(landing, releases)
    answer = landing.store.client.list_objects_v2(Bucket=landing.store.bucket.name, Prefix="psd/")
    kept = next(each for each in answer["Contents"] if each["Key"] == landing.marker_key(releases[0].snapshot.key))
    entry = f"<Key>{kept['Key']}</Key><Size>{kept['Size']}</Size><ETag>{kept['ETag']}</ETag>"
    dated = f"<LastModified>{kept['LastModified'].isoformat()}</LastModified>"
    page = f"<ListBucketResult><IsTruncated>false</IsTruncated><Contents>{entry}{dated}</Contents></ListBucketResult>"
    proxy.misbehave(Fault("GET", "prefix=psd", page=page.encode(), headers={"Content-Type": "application/xml"}))
    with pytest.raises(LandingError, match=r"incomplete listing: .*; nothing was removed"):
        landing.ready_rows(DATASET)
    assert files(landing) == cached


def filled(landing: R2Landing, releases: list[Prepared]) -> list[str]:
    """Land the releases; return the files of the cache."""
    for each in releases:
        landing.land(each.snapshot, *each.files(landing.workspace))
    landing.ready_rows(DATASET)
    return files(landing)


def files(landing: R2Landing) -> list[str]:
    kept = sorted(str(path) for path in landing.cache.root.rglob("*") if path.suffix in (".json", ".parquet"))
    assert kept
    return kept


@pytest.mark.parametrize("code", ["ConditionalRequestConflict", "OperationAborted"])
def test_a_transient_conflict_is_retried(
    store: ObjectStore, proxy: FaultyProxy, tmp_path: Path, big_file: Path, code: str
) -> None:
    proxy.misbehave(Fault("PUT", "/new", status=409, code=code))
    assert store.put_if_absent("new", b"2")
    proxy.misbehave(Fault("PUT", "/new", status=409, code=code))
    store.replace("new", b"3", hashlib.md5(b"2").hexdigest())
    assert store.read("new").data == b"3"
    proxy.misbehave(Fault("PUT", "/big", status=409, code=code))
    assert upload(store, big_file, "big")
    assert store.head("big").size_bytes == big_file.stat().st_size


def test_a_lasting_conflict_is_not_reported_as_another_object(
    store: ObjectStore, proxy: FaultyProxy, tmp_path: Path
) -> None:
    proxy.misbehave(Fault("PUT", "/new", times=None, status=409, code="ConditionalRequestConflict"))
    for action in ("write", "upload"):
        with pytest.raises(ObjectStoreError, match="ConditionalRequestConflict, 2 attempts"):
            ACTIONS[action](store, tmp_path)
    assert store.head("new") is None
