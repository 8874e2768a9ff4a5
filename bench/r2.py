"""Cost of Materia's transfers compared with bare boto3, on a real object server on loopback.

`uv run python -m bench.r2` prints the figures as JSON.
"""

import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from dataflows.landing.bucket import R2Landing
from dataflows.landing.local import LocalLanding
from dataflows.objects.store import ObjectStore
from dataflows.objects.transfer import download, upload
from ops.config.settings import Settings
from ops.demo.generator import generate
from ops.demo.history import HistorySpec
from ops.pipelines.job import Request
from ops.pipelines.run import run
from tests.support.faulty_archive import FaultyArchive
from tests.support.faulty_proxy import FaultyProxy
from tests.support.object_server import ObjectServer

ROUNDS = 5
SIZE_MIB = 256
SMALL_MIB, LARGE_MIB = 32, 256
DATASET = "psd_coffee"


def measure(rounds: int = ROUNDS) -> dict[str, Any]:
    """Ratios of throughput (ours ÷ bare boto3; the bar is 0.8), memory by file size, and what the probe asks."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with ObjectServer(directory / "weed") as server:
            return {
                **_throughput(server, directory, rounds),
                **_memory(server, directory),
                **_probe(server, directory),
                **_rows(server, directory),
            }


def _throughput(server: ObjectServer, directory: Path, rounds: int) -> dict[str, Any]:
    """Ours and bare boto3 in turns, so that both run under the same noise; the median of the rounds' ratios."""
    store, bare_client = ObjectStore(server.bucket()), _bare_client(server)
    source, target = _random_file(directory / "source", SIZE_MIB), directory / "target"
    sha256, size_bytes = _sha256(source), source.stat().st_size
    ups, downs, rates = [], [], []
    for number in range(rounds + 1):
        ours, bare = f"ours-{number}", f"bare-{number}"
        steps: list[Callable[[], Any]] = [
            partial(bare_client.upload_file, str(source), store.bucket.name, bare),
            partial(upload, store, source, ours),
            partial(bare_client.download_file, store.bucket.name, bare, str(target)),
            partial(download, store, ours, target, size_bytes=size_bytes, sha256=sha256),
        ]
        bare_up, our_up, bare_down, our_down = (_seconds_on_a_settled_disk(step) for step in steps)
        store.delete(ours)
        store.delete(bare)
        if number > 0:  # the first round warms connections and caches
            ups.append(bare_up / our_up)
            downs.append(bare_down / our_down)
            rates.append((SIZE_MIB / our_up, SIZE_MIB / our_down))
    return {
        "size_mib": SIZE_MIB,
        "upload_of_bare": round(median(ups), 2),
        "download_of_bare": round(median(downs), 2),
        "upload_mib_s": round(median(up for up, _ in rates)),
        "download_mib_s": round(median(down for _, down in rates)),
    }


def _bare_client(server: ObjectServer) -> Any:
    """A boto3 client with its own transfer settings, and like ours without trailing checksums, which R2 lacks."""
    import boto3
    from botocore.config import Config

    bucket = server.bucket()
    return boto3.client(
        "s3",
        endpoint_url=bucket.endpoint,
        region_name="auto",
        aws_access_key_id=bucket.access_key,
        aws_secret_access_key=bucket.secret_key,
        config=Config(
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"},
        ),
    )


def _memory(server: ObjectServer, directory: Path) -> dict[str, Any]:
    """Peak memory of a fresh process that sends and fetches a file, in MiB, for a small and a large one."""
    peaks = {}
    for size_mib in (SMALL_MIB, LARGE_MIB):
        path = _random_file(directory / f"file-{size_mib}", size_mib)
        bucket = server.bucket()
        order = json.dumps([bucket.endpoint, bucket.name, bucket.access_key, bucket.secret_key, str(path)])
        child = subprocess.run(
            [sys.executable, "-m", "bench.r2", "child"], input=order, capture_output=True, text=True, check=True
        )
        peaks[f"peak_mib_with_{size_mib}_mib"] = int(child.stdout)
        path.unlink()
    growth_mib = peaks[f"peak_mib_with_{LARGE_MIB}_mib"] - peaks[f"peak_mib_with_{SMALL_MIB}_mib"]
    return {**peaks, "peak_growth_mib": growth_mib}


def _child() -> None:
    from dataflows.objects.store import Bucket

    *bucket, name = json.load(sys.stdin)
    path, store = Path(name), ObjectStore(Bucket(*bucket))
    upload(store, path, path.name)
    back = path.with_suffix(".back")
    download(store, path.name, back, size_bytes=path.stat().st_size, sha256=_sha256(path))
    back.unlink()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def _probe(server: ObjectServer, directory: Path) -> dict[str, Any]:
    """Requests to the bucket, and seconds, of an extract that finds nothing new."""
    release = next(generate(HistorySpec(dataset=DATASET, rows=500, releases=1)))
    with FaultyArchive(DATASET) as archive, FaultyProxy(server.endpoint) as proxy:
        archive.post(release.month, release.zip_bytes, release.published_at)
        local = {
            "MATERIA_DATA_DIR": str(directory / "local"),
            "PSD_DATASET": DATASET,
            "PSD_ARCHIVE_URL": archive.url,
        }
        bucket = server.bucket(endpoint=proxy.url)
        remote = local | {
            "MATERIA_DATA_DIR": str(directory / "remote"),
            "R2_ENDPOINT": bucket.endpoint,
            "R2_BUCKET": bucket.name,
            "R2_ACCESS_KEY": bucket.access_key,
            "R2_SECRET_KEY": bucket.secret_key,
        }
        request = Request(as_of=release.month)
        settings = [Settings.from_environ(environ) for environ in (local, remote)]
        for each in settings:
            run("extract", each, request)
        before = len(proxy.seen)
        run("extract", settings[1], request)
        asked = [seen.method for seen in proxy.seen[before:]]
        local_s, r2_s = (
            median(_seconds(partial(run, "extract", each, request)) for _ in range(3)) for each in settings
        )
    return {
        "probe_requests": asked,
        "probe_local_s": round(local_s, 3),
        "probe_r2_s": round(r2_s, 3),
    }


def _rows(server: ObjectServer, directory: Path) -> dict[str, Any]:
    """Seconds until a snapshot's rows are in the cache: from their copy, and from the zip."""
    from tests.r2.snapshots import prepared

    release = next(prepared(rows=50_000))
    store = ObjectStore(server.bucket())
    landing = R2Landing(store, LocalLanding(directory / "landing"))
    landing.land(release.snapshot, *release.files(landing.workspace))
    took = {}
    for name in ("copy", "zip"):
        cache = LocalLanding(directory / f"from-{name}")
        took[f"rows_from_{name}_s"] = round(_seconds(partial(R2Landing(store, cache).ready_rows, DATASET)), 3)
        for listed in list(store.list("raw/")):
            store.delete(listed.key)
    store.delete(landing.marker_key(release.snapshot.key))
    store.delete(landing.zip_key(release.snapshot.key))
    return took


def _random_file(path: Path, size_mib: int) -> Path:
    with path.open("wb") as file:
        for _ in range(size_mib):
            file.write(os.urandom(1 << 20))
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _seconds_on_a_settled_disk(step: Callable[[], Any]) -> float:
    """Flush first, so that the second of two uploads does not wait for the writes of the first."""
    os.sync()
    return _seconds(step)


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    _child() if sys.argv[1:] == ["child"] else print(json.dumps(measure(), indent=2))
