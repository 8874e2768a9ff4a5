"""A new bucket on the real object server for each test."""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataflows.objects.store import Limits, ObjectStore
from tests.support.faulty_proxy import FaultyProxy
from tests.support.object_server import ObjectServer

QUICK = Limits(attempts=2, connect_timeout_s=3, read_timeout_s=10, page_size=3)

_numbers = itertools.count(1)


@pytest.fixture
def bucket_name(server: ObjectServer) -> str:
    name = f"bucket-{next(_numbers)}"
    server.client.create_bucket(Bucket=name)
    return name


@pytest.fixture
def proxy(server: ObjectServer) -> Iterator[FaultyProxy]:
    with FaultyProxy(server.endpoint) as running:
        yield running


@pytest.fixture
def store(server: ObjectServer, proxy: FaultyProxy, bucket_name: str) -> ObjectStore:
    """An empty bucket, reached through the proxy."""
    return ObjectStore(server.bucket(endpoint=proxy.url, name=bucket_name), QUICK)


@pytest.fixture
def other_store(server: ObjectServer, bucket_name: str) -> ObjectStore:
    """The same bucket for another machine, without the proxy."""
    return ObjectStore(server.bucket(name=bucket_name), QUICK)


@pytest.fixture
def big_file(tmp_path: Path) -> Path:
    """Ten chunks and a bit of random bytes."""
    path = tmp_path / "big"
    path.write_bytes(random.Random(5).randbytes(10_498_105))
    return path
