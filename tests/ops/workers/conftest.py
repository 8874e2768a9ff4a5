"""A loopback Hetzner, and what a worker's order looks like."""

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest

from dataflows.source.release import Month
from ops.demo.generator import generate
from ops.demo.history import HistorySpec
from ops.workers.code import committed_code
from ops.workers.labels import Labels
from ops.workers.provider import Offer, Order, Provider
from ops.workers.providers import hetzner as module
from tests.support.fake_hetzner import FakeHetzner
from tests.support.faulty_archive import FaultyArchive
from tests.support.needs import require_tool
from tests.support.object_server import BUCKET, WRITER, ObjectServer
from tests.support.worker_world import WorkerWorld

PAUSE_S = 0.001
_seeds = itertools.count(1)


@pytest.fixture
def fake() -> Iterator[FakeHetzner]:
    with FakeHetzner() as server:
        yield server
        assert server.violations == []


@pytest.fixture
def hetzner(fake: FakeHetzner) -> Provider:
    return module.provider(fake.values(), pause_s=PAUSE_S)


def an_order(name: str = "materia-box-abc123-extract", host_key: str = "k1", run_id: int | None = 7) -> Order:
    labels = Labels("box-abc123", run_id, datetime.now(UTC).replace(microsecond=0), timedelta(hours=2), host_key)
    return Order(
        name=name,
        labels=labels,
        public_key=f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{host_key}",
        user_data="#cloud-config\n{}\n",
        ssh_port=22,
        ssh_from=("0.0.0.0/0", "::/0"),
    )


AN_OFFER = Offer("cpx22", "fsn1", 2, 8.0, 0.013, True)


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The settings of a real object store; its secret key is the canary."""
    with ObjectServer(tmp_path_factory.mktemp("weed")) as server:
        yield {
            "R2_ENDPOINT": server.endpoint,
            "R2_BUCKET": BUCKET,
            "R2_ACCESS_KEY": WRITER.access_key,
            "R2_SECRET_KEY": WRITER.secret_key,
            "PSD_DATASET": "psd_coffee",
        }


bundled_once = cache(committed_code)
"""The same commit for every test of a session; each worker installs it for itself all the same."""


@pytest.fixture
def world(
    tmp_path: Path, storage: dict[str, str], archive: FaultyArchive, monkeypatch: pytest.MonkeyPatch
) -> Iterator[WorkerWorld]:
    """A fake provider whose machines are real OpenSSH servers."""
    require_tool("sshd", "pkill", "git")
    monkeypatch.setattr("ops.workers.lifecycle.committed_code", bundled_once)
    # A release that no other test landed in the shared bucket: without work no machine is created.
    release = next(iter(generate(HistorySpec(dataset="psd_coffee", rows=500, releases=2, seed=next(_seeds)))))
    month = Month.of(datetime.now(UTC).date())
    archive.post(month, release.zip_bytes, datetime.now(UTC), etag='"posted"', dataset="psd_coffee")
    with WorkerWorld(tmp_path / "world", {**storage, "PSD_ARCHIVE_URL": archive.url}) as started:
        yield started
        assert started.hetzner.violations == []
