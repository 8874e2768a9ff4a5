"""What the main job costs: a first release, one more, and the news that there is nothing new.

`uv run python -m bench.pipelines` prints the rows; `--releases` and `--rows` set the length and size of the generated
history.
"""

import argparse
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench import scale
from bench.processes import materia, median_wall_s, python, weigh
from bench.rows import Row, as_table
from dataflows.source.release import Month
from ops.demo.archive_server import ArchiveServer
from ops.demo.generator import generate
from ops.demo.history import HistorySpec
from tests.support.real_files import GRAINS, real_zip

REAL_MONTH = Month(2021, 8)
REAL_ZIP = real_zip(GRAINS, REAL_MONTH)
REPEATS = 3

_IMPORTS = "import hamilton.driver, sqlmesh"


def rows(releases: int = 24, facts: int = 535_000) -> Iterator[Row]:
    """Every row of this module; a first release of real grains where these are at hand, generated ones otherwise."""
    with TemporaryDirectory() as folder, ArchiveServer(GRAINS) as server:
        zip_path, month = _post_first(server, Path(folder))
        environ = _environ(server, Path(folder) / "data")
        yield from first_release(Path(folder), zip_path, month, environ)
        yield from nothing_new(month, environ)
        yield status(environ)
    yield from one_more_release(releases, facts)


def first_release(folder: Path, zip_path: Path, month: Month, environ: Mapping[str, str]) -> Iterator[Row]:
    """Landing to published, against the bare script and the two imports, in turns."""
    ours, bare, imports = [], [], []
    for repeat in range(REPEATS):
        here = {**environ, "MATERIA_DATA_DIR": str(folder / f"first-{repeat}")}
        weigh(materia("backfill", "--from", str(month), "--to", str(month), "--land-only"), here)
        ours.append(weigh(materia("pipeline", "run", "export_serving"), here).wall_s)
        bare.append(weigh(python("-m", "bench.bare", str(folder / "bare.duckdb"), str(zip_path))).wall_s)
        imports.append(weigh(python("-c", _IMPORTS)).wall_s)
    ratios = [a / (b + c) for a, b, c in zip(ours, bare, imports, strict=True)]
    note = f"{median(ours):.1f} s; bare script {median(bare):.1f} s + imports {median(imports):.1f} s"
    yield Row("first release, landing to published", median(ratios), "x", 1.5, note)


def nothing_new(month: Month, environ: Mapping[str, str]) -> Iterator[Row]:
    """A run that finds the ETag unchanged, against importing Hamilton."""
    command = materia("run-all", "--as-of", str(month))
    weigh(command, environ)
    ratios, ours, hamilton = [], [], []
    for _ in range(5):
        ours.append(weigh(command, environ).wall_s)
        hamilton.append(weigh(python("-c", "import hamilton.driver")).wall_s)
        ratios.append(ours[-1] / hamilton[-1])
    note = f"{median(ours):.2f} s; importing hamilton {median(hamilton):.2f} s"
    yield Row("nothing new", median(ratios), "x", 1.5, note)


def status(environ: Mapping[str, str]) -> Row:
    """`materia status --json`, whole; it exits with 3 on data as old as this, which is no failure here."""
    command = ["sh", "-c", '"$0" status --json; test $? -eq 3 -o $? -eq 0', *materia()]
    return Row("status --json", 1000 * median_wall_s(command, environ, times=9), "ms", 300)


def one_more_release(releases: int, facts: int) -> Iterator[Row]:
    """A generated history, release by release: what the last costs against the second."""
    spec = HistorySpec(GRAINS, rows=facts, releases=releases, first_month=Month(2023, 1), compress_level=1)
    with TemporaryDirectory() as folder:
        yield from scale.rows(scale.measure(spec, Path(folder)))


def _post_first(server: ArchiveServer, folder: Path) -> tuple[Path, Month]:
    if REAL_ZIP.exists():
        noon = datetime.combine(datetime(2021, 8, 12), time(16), UTC)
        server.post(REAL_MONTH, REAL_ZIP, noon)
        return REAL_ZIP, REAL_MONTH
    release = next(generate(HistorySpec(GRAINS, rows=535_000, releases=1, first_month=REAL_MONTH)))
    server.post(release.month, release.zip_bytes, release.published_at, release.etag)
    path = folder / release.file_name
    path.write_bytes(release.zip_bytes)
    return path, release.month


def _environ(server: ArchiveServer, data_dir: Path) -> dict[str, str]:
    return {"PSD_ARCHIVE_URL": server.url, "PSD_DATASET": GRAINS, "MATERIA_DATA_DIR": str(data_dir)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--releases", type=int, default=24)
    parser.add_argument("--rows", type=int, default=535_000)
    arguments = parser.parse_args()
    print(as_table(rows(arguments.releases, arguments.rows)))
