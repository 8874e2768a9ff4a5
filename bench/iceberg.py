"""What publishing to Iceberg costs: the first generation, one more release, and nothing changed; bytes and memory.

`uv run python -m bench.iceberg` prints the figures as JSON; `--rows` sets the size of the generated releases.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.processes import Weighed, materia, weigh
from dataflows.serving.store import ServingStore
from ops.journal.journal import Journal
from tests.support.lake import Lake
from tests.support.object_server import ObjectServer

ROWS = 535_000
RELEASES = 4
"""The demo serves three generations of them: with one, with all but one, and with all."""


def measure(rows: int = ROWS) -> dict[str, Any]:
    """Seconds, bytes and peak MB of each publish, from generated releases of so many facts."""
    with TemporaryDirectory() as name, ObjectServer(Path(name) / "weed") as server:
        data_dir = Path(name) / "data"
        weigh(materia("demo", "--rows", str(rows), "--releases", str(RELEASES), "--keep", str(data_dir)), {})
        return {"facts": rows, **dict(_publishes(data_dir, Lake.of(server)))}


def _publishes(data_dir: Path, lake: Lake) -> Iterator[tuple[str, Any]]:
    store, journal = ServingStore(data_dir / "serving.duckdb"), Journal(data_dir / "runs.sqlite")
    environ = {"MATERIA_DATA_DIR": str(data_dir), **lake.environ}
    for what, number in (("first", 2), ("one_more", 3), ("nothing", 3)):
        store.rollback(number)
        cost = weigh(materia("iceberg", "publish"), environ)
        yield what, {**_figures(cost), "bytes": _written_bytes(journal)}


def _figures(cost: Weighed) -> dict[str, float]:
    return {"wall_s": round(cost.wall_s, 2), "peak_mb": round(cost.peak_mb)}


def _written_bytes(journal: Journal) -> int:
    """As the steps of the newest publish tell them."""
    newest = journal.last_by_pipeline()["publish_iceberg"]
    size_texts = (re.search(r"([\d,]+) bytes", step.detail) for step in journal.steps(newest.id))
    return sum(int(found[1].replace(",", "")) for found in size_texts if found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=ROWS)
    json.dump(measure(parser.parse_args().rows), sys.stdout, indent=2)
    print()
