"""What one more release costs after many: time, sizes and memory, release by release.

`just bench scale [--releases N] [--facts N] [--into DIR]`. Every release's line is printed and kept in
`DIR/releases.jsonl` as it is measured; the same command resumes a stopped run.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from bench.processes import materia, watched, weigh
from bench.rows import Row
from dataflows.source.release import Month
from ops.demo.archive_server import ArchiveServer
from ops.demo.generator import GeneratedRelease, generate
from ops.demo.history import HistorySpec
from ops.integrity.quarantine import FOLDER

FULL_FACTS = 2_100_000
"""The number of facts in `psd_alldata`."""
RELEASES = 24
BARS = {24: 1.1, 120: 1.25}
"""What a release may cost against the second, up to the number of releases."""
WINDOW = 3
"""The number of releases whose median is taken, because a single run is affected by other processes."""


@dataclass(frozen=True)
class Measured:
    """One release from its posting to its serving."""

    number: int
    month: str
    facts: int
    wall_s: float
    cpu_s: float
    """Of all processes."""
    transform_cpu_s: float
    """Of SQLMesh's process alone."""
    pipeline_peak_mb: float
    transform_peak_mb: float
    verify_peak_mb: float
    lakehouse_mb: float
    serving_mb: float
    landing_mb: float
    all_peak_mb: float = 0.0
    """Of all processes together, at one moment; 0 in lines that an older version kept."""


def measure(spec: HistorySpec, into: Path) -> list[Measured]:
    """Post and serve a generated history, release by release; continues after those recorded in `into`."""
    into.mkdir(parents=True, exist_ok=True)
    kept_path, data_dir = into / "releases.jsonl", into / "data"
    kept = [Measured(**json.loads(line)) for line in kept_path.open()] if kept_path.exists() else []
    with ArchiveServer(spec.dataset) as server:
        environ = {"PSD_ARCHIVE_URL": server.url, "PSD_DATASET": spec.dataset, "MATERIA_DATA_DIR": str(data_dir)}
        for number, release in enumerate(generate(spec), start=1):
            if number <= len(kept):
                continue
            server.post(release.month, release.zip_bytes, release.published_at, release.etag)
            kept.append(_served(number, release, data_dir, environ))
            server.remove(release.month)  # a long history's zips would fill this process
            with kept_path.open("a") as file:
                file.write(json.dumps(asdict(kept[-1])) + "\n")
            print(_line(kept[-1]), file=sys.stderr, flush=True)
    return kept


def _served(number: int, release: GeneratedRelease, data_dir: Path, environ: dict[str, str]) -> Measured:
    with watched() as tree:
        whole = weigh(materia("run-all", "--as-of", str(release.month)), environ)
    if (data_dir / FOLDER).exists():
        raise RuntimeError(f"a file was called damaged in release {number}; see the logs in {data_dir / 'logs'}")
    transform = tree.share("dataflows.lakehouse.child")
    return Measured(
        number=number,
        month=str(release.month),
        facts=release.row_count,
        wall_s=round(whole.wall_s, 2),
        cpu_s=round(whole.cpu_s, 2),
        transform_cpu_s=round(transform.cpu_s, 2),
        pipeline_peak_mb=round(tree.share("run-all").peak_mb),
        transform_peak_mb=round(transform.peak_mb),
        verify_peak_mb=round(tree.share("dataflows.serving.verify").peak_mb),
        all_peak_mb=round(tree.peak_mb),
        lakehouse_mb=_mb(data_dir / "lakehouse.duckdb"),
        serving_mb=_mb((data_dir / "serving.duckdb").resolve()),
        landing_mb=round(sum(_mb(path) for path in (data_dir / "landing").rglob("*") if path.is_file()), 2),
    )


def _mb(path: Path) -> float:
    return round(path.stat().st_size / 1e6, 2)


def _line(release: Measured) -> str:
    shown = "  ".join(f"{name} {value}" for name, value in asdict(release).items())
    return f"{shown}"


def rows(measured: Sequence[Measured]) -> Iterator[Row]:
    """The ratios of the last releases to the second and those after it, beside their bars.

    A history of years also grows: each May brings a market year. `facts` of the note says by how much.
    """
    window = min(WINDOW, len(measured) // 2)
    first, early, late = measured[0], measured[1 : 1 + window], measured[-window:]
    bar = next((each for number, each in BARS.items() if len(measured) <= number), max(BARS.values()))
    scale = f"{early[0].facts:,} → {late[-1].facts:,} facts"

    def ratio(name: str) -> tuple[float, str]:
        before, after = (median(getattr(each, name) for each in some) for some in (early, late))
        return after / before, f"{before:.1f} → {after:.1f}"

    for name, what, unit in (
        ("wall_s", "wall seconds", "s"),
        ("cpu_s", "processor seconds", "s"),
        ("transform_peak_mb", "peak memory of the transform", "MB"),
        ("pipeline_peak_mb", "peak memory of the pipeline", "MB"),
    ):
        times, note = ratio(name)
        yield Row(f"release {len(measured)} against release 2, {what}", times, "x", bar, f"{note} {unit}; {scale}")
    most = max(each.all_peak_mb for each in measured)
    yield Row("memory of all processes of run-all", most, "MB", 1000, f"{late[-1].facts:,} facts")
    growth = 100 * (late[-1].lakehouse_mb - first.lakehouse_mb) / first.lakehouse_mb / (len(measured) - 1)
    sizes = f"{first.lakehouse_mb:.1f} → {late[-1].lakehouse_mb:.1f} MB"
    yield Row("lakehouse, growth a release of the first", growth, "%", 5, sizes)


def scale(releases: int, facts: int, into: Path) -> Iterator[Row]:
    """The whole room."""
    spec = HistorySpec("psd_alldata", rows=facts, releases=releases, first_month=Month(2016, 1), compress_level=1)
    yield from rows(measure(spec, into))
