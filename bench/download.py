"""What a download costs: wall time against curl for the same large file, and how much memory it takes.

The archive server runs in a process of its own, so that neither its time nor its memory is counted as ours.
`uv run python -m bench.download` prints the figures as JSON.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

SIZE_BYTES = 200_000_000
ROUNDS = 5
DATASET = "psd_alldata"

_SERVING = """
import sys
from datetime import datetime, timezone
from pathlib import Path
from dataflows.source.release import Month
from ops.demo.archive_server import ArchiveServer
with ArchiveServer(sys.argv[1]) as server:
    moment = datetime(2025, 11, 14, tzinfo=timezone.utc)
    server.post(Month(2025, 11), Path(sys.argv[2]), moment, etag='"large"')
    print(server.url, flush=True)
    sys.stdin.read()
"""

_DOWNLOADING = """
import json, resource, sys, time
from pathlib import Path
from dataflows.source.archive import Archive
from dataflows.source.release import Month, release_of

def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

archive = Archive()
wanted = release_of(sys.argv[1], sys.argv[2], Month(2025, 11))
archive.probe(wanted)
idle_bytes, started_s = peak_bytes(), time.perf_counter()
done = archive.download(wanted, Path(sys.argv[3]))
wall_s = time.perf_counter() - started_s
print(json.dumps({"wall_s": wall_s, "above_idle_bytes": peak_bytes() - idle_bytes, "size_bytes": done.size_bytes}))
"""


def measure(size_bytes: int = SIZE_BYTES, rounds: int = ROUNDS) -> dict[str, float]:
    """Seconds of a download by curl and by us (medians, in turns), their ratio, and our peak memory above idle.

    Both write the file to the disk; ours is timed without Python's start-up, curl's with its own.
    """
    with tempfile.TemporaryDirectory() as folder:
        large = Path(folder) / "large.zip"
        _fill(large, size_bytes)
        with _serving(large) as url:
            pairs = [(_by_curl(url, Path(folder)), _by_us(url, Path(folder), size_bytes)) for _ in range(rounds)]
    curl_s = median(curl for curl, _ in pairs)
    ours_s = median(ours["wall_s"] for _, ours in pairs)
    return {
        "size_mb": size_bytes / 1e6,
        "curl_s": round(curl_s, 3),
        "materia_s": round(ours_s, 3),
        "ratio": round(median(ours["wall_s"] / curl for curl, ours in pairs), 2),
        "peak_above_idle_mb": round(max(ours["above_idle_bytes"] for _, ours in pairs) / 1e6, 1),
    }


def _fill(path: Path, size_bytes: int) -> None:
    block = os.urandom(1 << 20)
    with path.open("wb") as target:
        for start in range(0, size_bytes, len(block)):
            target.write(block[: size_bytes - start])


@contextmanager
def _serving(file: Path) -> Iterator[str]:
    command = [sys.executable, "-c", _SERVING, DATASET, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin and server.stdout
        try:
            yield server.stdout.readline().strip()
        finally:
            server.stdin.close()
            server.wait(timeout=30)


def _by_curl(url: str, folder: Path) -> float:
    target = folder / "curl.zip"
    address = f"{url}/2025/11/{DATASET}_csv.zip"
    started_s = time.perf_counter()
    subprocess.run(["curl", "--silent", "--fail", "--output", str(target), address], check=True, timeout=120)
    wall_s = time.perf_counter() - started_s
    target.unlink()
    return wall_s


def _by_us(url: str, folder: Path, size_bytes: int) -> dict[str, float]:
    target = folder / "materia.zip"
    command = [sys.executable, "-c", _DOWNLOADING, url, DATASET, str(target)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    target.unlink()
    figures = json.loads(done.stdout)
    if figures["size_bytes"] != size_bytes:
        raise RuntimeError(f"{figures['size_bytes']} of {size_bytes} bytes arrived")
    return figures


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
