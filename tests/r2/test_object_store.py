"""Small objects, conditional writes and listings on a real server, and the errors for its refusals."""

import logging
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from dataflows.errors import (
    LostRaceError,
    ObjectStoreError,
    SettingsError,
)
from dataflows.objects.store import ObjectStore
from tests.r2.conftest import QUICK
from tests.support.faulty_proxy import Fault, FaultyProxy
from tests.support.object_server import CANARY, CANARY_ID, READER, WRITER, Identity, ObjectServer

WRONG_SECRET = Identity("wrong", CANARY_ID, CANARY + "wrong", ())
UNKNOWN = Identity("unknown", CANARY_ID + "wrong", CANARY, ())


def assert_no_secret(*texts: str) -> None:
    for text in texts:
        assert CANARY not in text
        assert CANARY_ID not in text


def act(store: ObjectStore, action: str) -> None:
    {
        "read": lambda: store.read("key"),
        "head": lambda: store.head("key"),
        "put": lambda: store.put_if_absent("key", b"1"),
        "list": lambda: list(store.list("")),
    }[action]()


def test_one_of_two_writers_creates_the_object(store: ObjectStore, other_store: ObjectStore) -> None:
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(store.put_if_absent, "key", b"1")
        second = pool.submit(other_store.put_if_absent, "key", b"2")
    assert first.result() != second.result()
    assert store.read("key").data == (b"1" if first.result() else b"2")


def test_a_change_since_it_was_read_is_not_overwritten(store: ObjectStore, other_store: ObjectStore) -> None:
    store.put_if_absent("pointer", b"1")
    seen = store.read("pointer")
    other_store.replace("pointer", b"2", seen.etag)
    with pytest.raises(LostRaceError, match=f"s3://{store.bucket.name}/pointer"):
        store.replace("pointer", b"3", seen.etag)
    assert store.read("pointer").data == b"2"


def test_a_replacement_with_a_lost_answer_succeeds(store: ObjectStore, proxy: FaultyProxy) -> None:
    store.put_if_absent("pointer", b"1")
    proxy.misbehave(Fault("PUT", "/pointer", lose_answer=True))
    store.replace("pointer", b"2", store.read("pointer").etag)
    assert store.read("pointer").data == b"2"


def test_a_missing_object_is_none(store: ObjectStore) -> None:
    assert store.read("nothing") is None
    assert store.head("nothing") is None
    assert list(store.list("")) == []
    store.delete("nothing")


def test_a_listing_reads_all_pages(store: ObjectStore, proxy: FaultyProxy) -> None:
    for number in range(8):
        store.put_if_absent(f"page/{number}", b"x")
    store.put_if_absent("other", b"x")
    assert [each.key for each in store.list("page/")] == [f"page/{number}" for number in range(8)]
    assert len(proxy.requests("GET", "list-type=2")) == 3, "pages of three"


def test_a_large_object_is_not_read_as_a_document(store: ObjectStore) -> None:
    store.put_if_absent("long", b"x" * (1 << 20) + b"y")
    with pytest.raises(ObjectStoreError, match=f"s3://{store.bucket.name}/long"):
        store.read("long")


@pytest.mark.parametrize(
    ("identity", "bucket", "refused", "message"),
    [
        (WRONG_SECRET, None, ("read", "head", "put", "list"), "R2_ACCESS_KEY and R2_SECRET_KEY"),
        (UNKNOWN, None, ("read", "head", "put", "list"), "R2_ACCESS_KEY and R2_SECRET_KEY"),
        (READER, None, ("put",), "permission to read and write objects"),
        (WRITER, "no-such-bucket", ("read", "put", "list"), "R2_BUCKET"),
    ],
    ids=["wrong secret", "unknown key", "read-only key", "missing bucket"],
)
def test_a_refusal_names_the_object_and_the_setting(
    server: ObjectServer,
    bucket_name: str,
    identity: Identity,
    bucket: str | None,
    refused: tuple[str, ...],
    message: str,
) -> None:
    reached = server.bucket(identity, name=bucket or bucket_name)
    store = ObjectStore(reached, QUICK)
    for action in refused:
        with pytest.raises(ObjectStoreError) as refusal:
            act(store, action)
        assert f"s3://{reached.name}/" in str(refusal.value)
        assert message in str(refusal.value)
        assert_no_secret("".join(traceback.format_exception(refusal.value)))


def test_a_wrong_clock_is_named(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    import botocore.auth

    now = botocore.auth.get_current_datetime
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *given: now(*given) - timedelta(hours=1))
    for action in ("read", "head", "put", "list"):
        with pytest.raises(ObjectStoreError, match="clock") as refusal:
            act(store, action)
        assert_no_secret("".join(traceback.format_exception(refusal.value)))


@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 500, "code": "InternalError"}, {"lose_answer": True}])
def test_a_transient_failure_is_retried(store: ObjectStore, proxy: FaultyProxy, fault: dict[str, object]) -> None:
    store.put_if_absent("key", b"1")
    proxy.misbehave(Fault("GET", "/key", **fault))
    assert store.read("key").data == b"1"


def test_a_lasting_failure_is_reported_after_a_few_attempts(store: ObjectStore, proxy: FaultyProxy) -> None:
    proxy.misbehave(Fault("GET", "/key", times=None, status=503))
    with pytest.raises(ObjectStoreError, match=rf"SlowDown, 2 attempts: could not read s3://{store.bucket.name}/key"):
        store.read("key")
    assert len(proxy.requests("GET", "/key")) == QUICK.attempts


def test_an_endpoint_that_does_not_answer_is_named(store: ObjectStore) -> None:
    gone = ObjectStore(replace(store.bucket, endpoint="http://127.0.0.1:9"), QUICK)
    with pytest.raises(ObjectStoreError, match="R2_ENDPOINT") as failure:
        gone.read("key")
    assert_no_secret("".join(traceback.format_exception(failure.value)))


def test_invalid_settings_are_named(store: ObjectStore) -> None:
    with pytest.raises(SettingsError, match="R2_ENDPOINT"):
        ObjectStore(replace(store.bucket, endpoint="nowhere"), QUICK)
    with pytest.raises(SettingsError, match="R2_BUCKET"):
        ObjectStore(replace(store.bucket, name="no bucket"), QUICK).read("key")


def test_no_repr_and_no_log_shows_a_secret(store: ObjectStore, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        store.put_if_absent("key", b"1")
    assert_no_secret(repr(store), repr(store.bucket), repr(vars(store)), caplog.text)


def test_aws_settings_of_the_machine_are_ignored(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "of-something-else")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere/at/all")
    assert ObjectStore(store.bucket, QUICK).put_if_absent("key", b"1")
