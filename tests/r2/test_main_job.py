"""The main job on object storage, on machines that exist only while they work, and without leaking a secret."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from dataflows.errors import MateriaError
from dataflows.serving import ServingReader
from ops.config.settings import Settings
from ops.demo.generator import GeneratedRelease, generate
from ops.demo.history import HistorySpec
from ops.pipelines.job import Request
from ops.pipelines.run import run
from tests.r2.test_object_store import WRONG_SECRET
from tests.support.faulty_archive import FaultyArchive
from tests.support.faulty_proxy import Fault, FaultyProxy
from tests.support.object_server import CANARY, CANARY_ID, READER, WRITER, Identity, ObjectServer

DATASET = "psd_coffee"
MATERIA = Path(sys.executable).with_name("materia")
TIMEOUT_S = 120


@pytest.fixture
def releases() -> list[GeneratedRelease]:
    return list(generate(HistorySpec(dataset=DATASET, rows=500, releases=2)))


@pytest.fixture
def posted(archive: FaultyArchive, releases: list[GeneratedRelease]) -> FaultyArchive:
    post(archive, releases[0])
    return archive


def post(archive: FaultyArchive, release: GeneratedRelease) -> None:
    archive.post(release.month, release.zip_bytes, release.published_at, etag=release.etag, dataset=DATASET)


def environ_of(host: Path, archive: FaultyArchive, endpoint: str, bucket: str, identity: Identity) -> dict[str, str]:
    return {
        "MATERIA_DATA_DIR": str(host),
        "PSD_DATASET": DATASET,
        "PSD_ARCHIVE_URL": archive.url,
        "R2_ENDPOINT": endpoint,
        "R2_BUCKET": bucket,
        "R2_ACCESS_KEY": identity.access_key,
        "R2_SECRET_KEY": identity.secret_key,
    }


def materia(environ: Mapping[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [MATERIA, *arguments],
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )


@contextmanager
def watched_process_list() -> Iterator[set[str]]:
    """Collect the command lines of all processes that run meanwhile."""
    seen: set[str] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(path.read_bytes().decode(errors="replace"))
                except (FileNotFoundError, ProcessLookupError):
                    continue  # ended since the listing

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()


def assert_no_secret_in(directory: Path) -> None:
    """Search logs, journals, markers and databases."""
    looked_at = [path for path in directory.rglob("*") if path.is_file()]
    assert looked_at
    for path in looked_at:
        data = path.read_bytes()
        assert CANARY.encode() not in data, path
        assert CANARY_ID.encode() not in data, path


def test_the_main_job_runs_on_machines_that_are_deleted_afterwards(
    server: ObjectServer,
    bucket_name: str,
    proxy: FaultyProxy,
    posted: FaultyArchive,
    releases: list[GeneratedRelease],
    tmp_path: Path,
) -> None:
    first, second = (str(release.month) for release in releases)
    hosts = {name: tmp_path / name for name in "abcd"}
    environ = {name: environ_of(host, posted, proxy.url, bucket_name, WRITER) for name, host in hosts.items()}
    messages = []

    def on(host: str, *arguments: str) -> str:
        done = materia(environ[host], *arguments)
        messages.append(done.stdout + done.stderr)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with watched_process_list() as process_list:
        assert "landed" in on("a", "pipeline", "run", "extract", "--as-of", first)
        assert_no_secret_in(hosts["a"])
        shutil.rmtree(hosts["a"])
        assert "generation 1 serves" in on("b", "run-all", "--as-of", first)
        assert_no_secret_in(hosts["b"])
        shutil.rmtree(hosts["b"])
        assert "served as generation 1" in on("c", "serving", "pull")
        post(posted, releases[1])
        assert "generation 2 serves" in on("d", "run-all", "--as-of", second)
        assert "nothing new" in on("c", "run-all", "--as-of", second)

    with ServingReader(hosts["c"] / "serving.duckdb") as reader:
        answer = reader.query("SELECT facts_new FROM serving.agg_release_summary")
        served = reader.query("SELECT released_on FROM serving.dim_release ORDER BY 1").table.to_pylist()
    assert answer.generation.number == 2
    assert [row["released_on"] for row in served] == [release.published_at.date() for release in releases]
    before = len(proxy.seen)
    settings = Settings.from_environ(environ["c"])
    assert "nothing new" in run("extract", settings, Request(as_of=releases[1].month))
    asked = [(seen.method, seen.path.partition("?")[2].partition("&")[0]) for seen in proxy.seen[before:]]
    assert asked == [("GET", "list-type=2")]
    assert_no_secret_in(hosts["c"])
    assert_no_secret_in(hosts["d"])
    for text in (*messages, *process_list):
        assert CANARY not in text
        assert CANARY_ID not in text


@pytest.mark.parametrize(
    ("identity", "bucket", "message"),
    [
        (WRONG_SECRET, None, "R2_SECRET_KEY"),
        (READER, None, "permission to read and write"),
        (WRITER, "no-such-bucket", "R2_BUCKET"),
    ],
    ids=["wrong key", "read-only key", "missing bucket"],
)
def test_a_refused_run_says_why_and_shows_no_secret(
    server: ObjectServer,
    bucket_name: str,
    posted: FaultyArchive,
    releases: list[GeneratedRelease],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    identity: Identity,
    bucket: str | None,
    message: str,
) -> None:
    environ = environ_of(tmp_path / "host", posted, server.endpoint, bucket or bucket_name, identity)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(MateriaError, match=message) as failure:
        run("extract", Settings.from_environ(environ), Request(as_of=releases[0].month))
    assert f"s3://{bucket or bucket_name}/psd/" in str(failure.value)
    assert_no_secret_in(tmp_path / "host")


def test_a_broken_connection_is_reported_without_a_secret(
    bucket_name: str, proxy: FaultyProxy, posted: FaultyArchive, releases: list[GeneratedRelease], tmp_path: Path
) -> None:
    environ = environ_of(tmp_path / "host", posted, proxy.url, bucket_name, WRITER)
    proxy.misbehave(Fault("PUT", ".zip", times=None, cut_request_after_bytes=100))
    with watched_process_list() as process_list:
        done = materia(environ, "--debug", "pipeline", "run", "extract", "--as-of", str(releases[0].month))
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert f"s3://{bucket_name}/psd/" in done.stderr
    assert "R2_ENDPOINT" in done.stderr
    for text in (done.stdout, done.stderr, *process_list):
        assert CANARY not in text
        assert CANARY_ID not in text
    assert_no_secret_in(tmp_path / "host")


def test_some_but_not_all_settings_are_an_error(tmp_path: Path) -> None:
    done = materia({"MATERIA_DATA_DIR": str(tmp_path), "R2_BUCKET": "raw", "R2_SECRET_KEY": CANARY}, "landing", "list")
    assert done.returncode == 2
    assert "R2_ENDPOINT, R2_ACCESS_KEY missing" in done.stderr
    assert CANARY not in done.stderr
    done = materia({"MATERIA_DATA_DIR": str(tmp_path)}, "landing", "sync")
    assert done.returncode == 2
    assert "R2_ENDPOINT, R2_BUCKET, R2_ACCESS_KEY" in done.stderr


LOCAL = """
import sys
from dataflows.source.release import Month
from ops.pipelines.job import Request
from ops.pipelines.run import run
from ops.config.settings import Settings
print(run("extract", Settings.from_environ(), Request(as_of=Month.parse(sys.argv[1]))))
print(sorted({"boto3", "botocore"} & {name.partition(".")[0] for name in sys.modules}))
"""


def test_without_settings_everything_is_local_and_boto3_is_not_imported(
    posted: FaultyArchive, releases: list[GeneratedRelease], tmp_path: Path
) -> None:
    environ = environ_of(tmp_path, posted, "", "", Identity("", "", "", ()))
    done = subprocess.run(
        [sys.executable, "-c", LOCAL, str(releases[0].month)],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
    assert len(list((tmp_path / "landing" / "psd").glob("*.zip"))) == 1
