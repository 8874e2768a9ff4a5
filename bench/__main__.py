"""Every promise of the main job beside its bar: `just bench [--quick] [--json FILE]`."""

import argparse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bench import download, pipelines, r2, reader
from bench.rows import Row, as_json, as_table


def reader_rows(quick: bool) -> Iterator[Row]:
    """What the swap-aware reader adds to a query, and what its answers are worth under swaps."""
    measured = reader.measure()
    overhead, swaps = measured["overhead"], measured["swaps"]
    yield Row("reader, added to a bare cursor at p99", overhead["reader_adds_p99_us"], "µs", 50)
    wrong = sum(swaps[what] for what in ("errors", "stale", "backwards", "mixed"))
    note = f"{swaps['swaps']} swaps under {swaps['threads']} threads"
    yield Row("reader, errors, stale, mixed or backward answers", wrong, "", 0, note)


def download_rows(quick: bool) -> Iterator[Row]:
    """What a download costs against curl."""
    measured = download.measure(rounds=3 if quick else download.ROUNDS)
    note = f"{measured['size_mb']:.0f} MB in {measured['materia_s']:.2f} s; curl {measured['curl_s']:.2f} s"
    yield Row("download against curl", measured["ratio"], "x", 1.2, note)
    yield Row("download, memory above idle", measured["peak_above_idle_mb"], "MB", 64)


def r2_rows(quick: bool) -> Iterator[Row]:
    """What object storage costs: files against bare boto3, memory, and the probe that finds nothing new."""
    measured = r2.measure(rounds=2 if quick else r2.ROUNDS)
    for way in ("upload", "download"):
        note = f"{measured[f'{way}_mib_s']} MiB/s of {measured['size_mib']} MiB"
        yield Row(f"R2, {way} of bare boto3", measured[f"{way}_of_bare"], "x", 0.8, note, at_least=True)
    yield Row("R2, memory that 8 times the file adds", measured["peak_growth_mib"], "MB", 8)
    yield Row("R2, requests of the probe beyond local", len(measured["probe_requests"]), "", 1)


def pipeline_rows(quick: bool) -> Iterator[Row]:
    """What the main job costs."""
    yield from pipelines.rows(releases=4 if quick else 24, facts=50_000 if quick else 535_000)


ROOMS: Mapping[str, Callable[[bool], Iterator[Row]]] = {
    "reader": reader_rows,
    "download": download_rows,
    "r2": r2_rows,
    "pipelines": pipeline_rows,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="just bench", description=__doc__)
    parser.add_argument("rooms", nargs="*", choices=[*ROOMS, []], help="what to measure; everything by default")
    parser.add_argument("--quick", action="store_true", help="a short history of small releases")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON, too")
    given = parser.parse_args()
    rows = [row for room in given.rooms or ROOMS for row in ROOMS[room](given.quick)]
    print(as_table(rows))
    if given.json:
        given.json.write_text(as_json(rows))
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
