"""What a release costs on each kind of lakehouse: `uv run python -m bench.scaling --rows 535000 --releases 3`.

The same generated releases, one after the other, on the file, on a DuckLake of one host, on one in PostgreSQL and on
Spark with all cores of this host. Processor seconds are what compares on a busy machine; wall seconds and sizes stand
beside them. `just bench spark` compares the file and Spark on larger and larger releases.
"""

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZIP_DEFLATED, ZipFile

from bench.processes import Weighed, materia, weigh
from bench.rows import Row, as_table
from dataflows.lakehouse.ducklake import DuckLake
from dataflows.source.release import Month
from ops.config.lakehouse import environ_of
from ops.demo.archive_server import ArchiveServer
from ops.demo.generator import generate
from ops.demo.history import HistorySpec
from tests.support.postgres_server import PostgresServer

DATASET = "psd_alldata"
STORES = ("file", "sqlite", "postgres", "spark")
SPARK_FACTS = (535_000, 2_100_000)
"""Facts a release: USDA's grains, and all of PSD."""
SPARK_BAR = 40.0
"""Spark's fixed cost against a small release in one file."""


def rows(releases: int, facts: int, stores: tuple[str, ...] = STORES) -> Iterator[Row]:
    """A row per kind of store: the processor seconds of its last release against the file's."""
    copies = -(-facts // SPARK_FACTS[-1])
    spec = HistorySpec(DATASET, rows=facts // copies, releases=releases, first_month=Month(2024, 1), compress_level=1)
    with TemporaryDirectory() as folder, ArchiveServer(DATASET) as server:
        for release in generate(spec):
            server.post(release.month, repeat_rows(release.zip_bytes, copies), release.published_at, release.etag)
        ours = 0.0
        for store in stores:
            here = Path(folder) / store
            with settings_of(store, here) as settings:
                environ = {"PSD_ARCHIVE_URL": server.url, "MATERIA_DATA_DIR": str(here / "data"), **settings}
                costs = [weigh(materia("run-all", "--as-of", str(month)), environ) for month in spec.months]
                first, last = costs[0], costs[-1]
            ours = ours or last.cpu_s
            bar = SPARK_BAR if store == "spark" else 2.0
            note = describe(first, last, costs, size_mb(here))
            yield Row(f"{store}, {facts:,} facts", last.cpu_s / ours, "x", bar, note)


def repeat_rows(zip_bytes: bytes, copies: int) -> bytes:
    """A release with every row so many times (at most three), each time of a commodity with another first digit."""
    if copies == 1:
        return zip_bytes
    with ZipFile(BytesIO(zip_bytes)) as archive:
        name = archive.namelist()[0]
        header, _, rows = archive.read(name).partition(b"\n")
    buffer = BytesIO()
    with ZipFile(buffer, "w", ZIP_DEFLATED, compresslevel=1) as archive, archive.open(name, "w") as member:
        member.write(header + b"\n")
        for first_digits in (b"024", b"135", b"678")[:copies]:
            changed = bytes.maketrans(b"024", first_digits)
            member.writelines(row[:1].translate(changed) + row[1:] for row in rows.splitlines(keepends=True))
    return buffer.getvalue()


def spark_rows(quick: bool) -> Iterator[Row]:
    """The file and Spark side by side, on larger and larger releases."""
    for facts in (50_000,) if quick else SPARK_FACTS:
        yield from rows(2, facts, ("file", "spark"))


@contextmanager
def settings_of(store: str, folder: Path) -> Iterator[Mapping[str, str]]:
    """The settings for that kind of store."""
    if store == "postgres":
        with PostgresServer() as server:
            yield environ_of(DuckLake(server.new_catalog(), str(folder / "lake")))
    elif store == "sqlite":
        catalog = f"sqlite:{folder}/lake.sqlite"
        yield {"MATERIA_GATEWAY": "ducklake", "DUCKLAKE_CATALOG": catalog, "DUCKLAKE_DATA": str(folder / "lake")}
    else:
        yield {"MATERIA_GATEWAY": "spark"} if store == "spark" else {}


def size_mb(folder: Path) -> float:
    """The tables of the lakehouse, without catalog and state."""
    parquet = (path for path in folder.rglob("*.parquet") if not {"landing", "exported"} & set(path.parts))
    kept = [*(folder / "data").glob("lakehouse.duckdb"), *parquet]
    return sum(path.stat().st_size for path in kept) / 1e6


def describe(first: Weighed, last: Weighed, costs: list[Weighed], size: float) -> str:
    peak = max(cost.peak_mb for cost in costs)
    cpu, wall = f"{first.cpu_s:.1f} → {last.cpu_s:.1f} s processor", f"{first.wall_s:.1f} → {last.wall_s:.1f} s wall"
    return f"{cpu}, {wall}, peak {peak:.0f} MB, tables {size:.0f} MB"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--releases", type=int, default=3)
    parser.add_argument("--rows", type=int, default=535_000)
    parser.add_argument("--stores", nargs="*", default=STORES, choices=STORES)
    arguments = parser.parse_args()
    print(as_table(rows(arguments.releases, arguments.rows, tuple(arguments.stores))))
