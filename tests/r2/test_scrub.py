"""The scrub reads the objects in the bucket, and repairs restore damaged ones from the other copy."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ops.config.settings import Settings
from ops.demo.generator import generate
from ops.demo.history import HistorySpec
from ops.health.status import take_status
from ops.integrity.record import read_record
from ops.journal.run import utc_now
from tests.r2.test_main_job import DATASET, environ_of, materia, post
from tests.support.faulty_archive import FaultyArchive
from tests.support.object_server import WRITER, ObjectServer

BUCKET = "scrubbed"


@dataclass
class Host:
    """A machine that has run everything, and its bucket."""

    environ: dict[str, str]
    server: ObjectServer
    bucket: str
    month: str

    def run(self, *arguments: str, exit_code: int = 0) -> str:
        done = materia(self.environ, *arguments)
        assert done.returncode == exit_code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def problem(self, key: str) -> str | None:
        found = take_status(Settings.from_environ(self.environ), utc_now()).problems
        return next((each.next_step for each in found if each.key == key), None)

    def spoil(self, ending: str, change: Callable[[bytes], bytes]) -> str:
        """Change the newest object whose key has that ending; returns its key."""
        listed = self.server.client.list_objects_v2(Bucket=self.bucket)["Contents"]
        key = max(each["Key"] for each in listed if each["Key"].endswith(ending) and "lakehouse" not in each["Key"])
        content = self.server.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        self.server.client.put_object(Bucket=self.bucket, Key=key, Body=change(content))
        return key


@pytest.fixture(scope="module")
def host(server: ObjectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A machine that has published two releases, shared by all tests: each repairs what it damages."""
    releases = list(generate(HistorySpec(dataset=DATASET, rows=500, releases=2)))
    server.client.create_bucket(Bucket=BUCKET)
    with FaultyArchive() as archive:
        environ = environ_of(tmp_path_factory.mktemp("host"), archive, server.endpoint, BUCKET, WRITER)
        found = Host(environ, server, BUCKET, str(releases[-1].month))
        for release in releases:
            post(archive, release)
            found.run("run-all", "--as-of", str(release.month))
        assert "all match their records" in found.run("scrub")
        yield found


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("has_local_copy", [True, False], ids=["from the local folder", "from USDA"])
def test_a_damaged_zip_in_the_bucket_is_found_and_restored(host: Host, has_local_copy: bool) -> None:
    for local in Path(host.environ["MATERIA_DATA_DIR"]).glob("landing/psd/*.zip"):
        local.unlink()
    if has_local_copy:
        host.run("landing", "sync")
    key = host.spoil(".zip", flip)
    assert key in host.run("scrub", exit_code=1)
    next_step = host.problem("landing-damaged")
    assert next_step is not None and next_step.startswith("materia landing repair")
    origin = "the local folder" if has_local_copy else "USDA's archive"
    assert f"restored from {origin}" in host.run("landing", "repair")
    assert host.problem("landing-damaged") is None
    assert "all match their records" in host.run("scrub")


def test_a_damaged_local_zip_is_restored_from_the_bucket(host: Host) -> None:
    host.run("landing", "sync")
    path = max(Path(host.environ["MATERIA_DATA_DIR"]).glob("landing/psd/*.zip"))
    path.write_bytes(flip(path.read_bytes()))
    host.run("scrub", exit_code=1)
    assert "restored from the bucket" in host.run("landing", "repair")
    assert "all match their records" in host.run("scrub")


def test_a_damaged_generation_in_the_bucket_is_uploaded_again(host: Host) -> None:
    key = host.spoil(".duckdb", flip)
    report = json.loads(host.run("scrub", "--json", exit_code=1))
    assert [each["where"].endswith(key) for each in report["damage"]] == [True]
    next_step = host.problem("bucket-damaged")
    assert next_step is not None and next_step.startswith("materia run-all")
    host.run("run-all", "--as-of", host.month)
    assert host.problem("bucket-damaged") is None
    assert "all match their records" in host.run("scrub")


@pytest.mark.parametrize("part", ["database file", "sidecar"])
def test_a_damaged_older_generation_in_the_bucket_is_found_and_repaired(host: Host, part: str) -> None:
    listed = host.server.client.list_objects_v2(Bucket=host.bucket, Prefix="serving/")["Contents"]
    ending = ".duckdb" if part == "database file" else ".json"
    key = min(each["Key"] for each in listed if each["Key"].endswith(ending))
    assert "000001" in key
    host.spoil(key, flip if part == "database file" else lambda _: b'{"number": ')
    host.run("scrub", exit_code=1)
    next_step = host.problem("bucket-damaged")
    assert next_step is not None and next_step.startswith("materia run-all")
    host.run("run-all", "--as-of", host.month)
    assert host.problem("bucket-damaged") is None
    assert "all match their records" in host.run("scrub")


def test_a_bucket_that_does_not_answer_is_neither_damaged_nor_verified(host: Host) -> None:
    verified_at = read_record(Settings.from_environ(host.environ)).verified_at
    refused = {**host.environ, "R2_BUCKET": "no-such-bucket"}
    assert materia(refused, "scrub").returncode == 1
    record = read_record(Settings.from_environ(host.environ))
    assert (record.damage, record.verified_at) == ((), verified_at) and "no-such-bucket" in record.error
    assert host.problem("scrub-failed") == "materia scrub; the supervisor retries it"
    host.run("scrub")
    assert host.problem("scrub-failed") is None
