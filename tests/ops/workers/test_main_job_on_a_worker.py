"""The whole main job on a worker, by one command: sshd on loopback, a fake provider, a real S3 server, the real uv."""

import json
import time
from pathlib import Path

import pytest

from dataflows.serving import ServingReader
from ops.demo.generator import GeneratedRelease, generate
from ops.demo.history import HistorySpec
from ops.journal.journal import Journal
from ops.journal.run import RunStatus
from tests.support.command_line import materia
from tests.support.faulty_archive import FaultyArchive
from tests.support.object_server import CANARY, CANARY_ID
from tests.support.seen_secrets import secrets_in_processes
from tests.support.worker_world import WorkerWorld


@pytest.fixture
def posted(archive: FaultyArchive) -> GeneratedRelease:
    """A release that the archive has."""
    release = next(iter(generate(HistorySpec(dataset="psd_coffee", rows=500, releases=2))))
    archive.post(release.month, release.zip_bytes, release.published_at, etag=release.etag, dataset="psd_coffee")
    return release


def test_one_command_extracts_transforms_and_publishes_on_a_worker_that_is_gone_afterwards(
    world: WorkerWorld, archive: FaultyArchive, posted: GeneratedRelease
):
    world.storage = {**world.storage, "PSD_ARCHIVE_URL": archive.url}
    world.real_code()
    seen_running: set[str] = set()
    leaks: set[str] = set()
    process = world.spawn("pipeline", "run", "run-all", "--on", "hetzner", "--as-of", str(posted.month))
    journal = Journal(world.settings.journal_path)
    while process.poll() is None:
        # What the console would draw meanwhile.
        for run in journal.runs(5):
            if run.status is RunStatus.RUNNING:
                seen_running |= {run.pipeline, *(step.name for step in journal.steps(run.id))}
        leaks |= secrets_in_processes((CANARY, CANARY_ID), process.pid)
        time.sleep(0.2)
    message, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "generation 1 serves" in message
    assert world.left() == []
    assert leaks == set()

    runs = {run.pipeline: run for run in journal.runs()}
    assert set(runs) == {"run-all", "extract", "transform", "export_serving"}
    assert {run.status for run in runs.values()} == {RunStatus.DONE}
    assert {run.worker for run in runs.values()} == {runs["run-all"].worker}
    assert {"extract", "transform", "export_serving", "worker_created", "code_sent"} <= seen_running
    assert "snapshot" in {step.name for step in journal.steps(runs["extract"].id)}
    assert "generation" in {step.name for step in journal.steps(runs["export_serving"].id)}
    assert "step=" in Path(runs["transform"].log_path).read_text()

    with ServingReader(world.settings.serving_path) as reader:
        answer = reader.query("SELECT count(*) AS facts FROM serving.fct_psd")
    assert answer.table.to_pylist()[0]["facts"] > 400
    for secret in (CANARY, CANARY_ID):
        assert secret not in message + errors
        assert not [path for path in world.root.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
        assert not any(secret in each for each in world.user_data)
    listed = materia(world.data_dir, "worker", "list", "--json", **world.environ)
    assert json.loads(listed.stdout) == []
