"""Every promise beside its bar: `just bench [--quick] [--json FILE]`."""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import (
    console_first_paint,
    download,
    grid,
    iceberg,
    logs,
    pipelines,
    r2,
    reader,
    release_day,
    scale,
    scaling,
    swaps,
)
from bench.rows import Row, as_json, as_table


def reader_rows(quick: bool) -> Iterator[Row]:
    """The overhead of the swap-aware reader, and the correctness of answers during swaps."""
    yield Row("reader, added to a bare cursor at p99", reader.measure()["reader_adds_p99_us"], "µs", 50)
    for what, load in (("publishes", swaps.publish_under_load), ("renames", swaps.replace_under_load)):
        with TemporaryDirectory() as directory:
            found = load(Path(directory), swaps=100 if quick else swaps.SWAPS)
        wrong = sum(found[kind] for kind in swaps.WRONG)
        note = f"{found['swaps']} {what} under {found['readers']} readers, {found['queries']:,} answers"
        yield Row(f"wrong answers and leaks under {what}", wrong, "", 0, note)


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


def iceberg_rows(quick: bool) -> Iterator[Row]:
    """What publishing to an Iceberg catalog costs: bytes and memory, on a real catalog on loopback."""
    measured = iceberg.measure(20_000 if quick else iceberg.ROWS)
    first, more, nothing = (measured[what] for what in ("first", "one_more", "nothing"))
    note = f"{more['bytes'] / 1e6:.2f} of {first['bytes'] / 1e6:.2f} MB, of three releases; {measured['facts']:,} facts"
    yield Row("Iceberg, one more release against all before", more["bytes"] / first["bytes"], "x", 1.25, note)
    yield Row("Iceberg, written when nothing changed", nothing["bytes"], "B", 0, f"{nothing['wall_s']:.1f} s")
    yield Row("Iceberg, peak memory of a first publish", first["peak_mb"], "MB", 600, f"{first['wall_s']:.1f} s")


def pipeline_rows(quick: bool) -> Iterator[Row]:
    """What the main job costs."""
    yield from pipelines.rows(releases=4 if quick else 24, facts=50_000 if quick else 535_000)


def console_rows(quick: bool) -> Iterator[Row]:
    """How the console feels: first paint, keys, idling, ten million rows, logs of gigabytes."""
    first = console_first_paint.measure()
    seconds = f"{first['console_first_paint_s']:.2f} s; bare app {first['bare_first_paint_s']:.2f} s"
    yield Row("console, first paint", first["ratio"], "x", 1.25, seconds)
    # The same bar: the status is what an operator waits for.
    yield Row("console, status shown", first["status_ratio"], "x", 1.25, f"{first['status_s']:.2f} s")
    yield Row("console, memory at first paint", first["console_rss_mb"], "MB", 60)
    yield Row("console, key to paint p95", first["key_ms_p95"], "ms", 25, f"p50 {first['key_ms_p50']:.0f} ms")
    yield Row("console, idle output, of six screens", first["idle_bytes_per_s"], "B/s", 50)
    yield Row("console, idle processor, of six screens", first["idle_cpu_percent"], "%", 0.5)
    yield Row("console, overview of 10,000 runs", first["overview_10000_runs_ms"], "ms", 100)
    rows = grid.measure()
    yield Row("grid of 10 million rows, memory", rows["grid_memory_mb"], "MB", 400)
    yield Row("grid of 10 million rows, page down p95", rows["page_down_p95_ms"], "ms", 60)
    sorting = f"{rows['busy_keys']} keys in {rows['busy_query_s']} s"
    yield Row("key to paint p95 while 5 million rows are sorted", rows["busy_key_to_paint_p95_ms"], "ms", 50, sorting)
    yield Row("longest stall, swap in a long query", rows["long_swap_longest_stall_ms"], "ms", 50)
    yield Row("new data seen after publish", rows["live_seen_max_ms"], "ms", 1000)
    # In a process of its own, without the state that the other benchmarks left in this one.
    command = [sys.executable, "-m", "bench.logs", *([] if quick else ["--5gb"])]
    log = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    size = f"{log['size_bytes'] / logs.GB:.0f} GB"
    yield Row("log, tail", log["tail_ms"], "ms", 200, size)
    yield Row("log, index", log["index_s"], "s", 6, f"{size}; the bar is for 5 GB")
    yield Row("log, memory growth", log["memory_growth_mb"], "MB", 50, size)
    yield Row("log, search of 1 GB", log["search_s_per_gb"], "s", 1.5, size)
    yield Row("log, longest stall of a search", log["search_stall_max_ms"], "ms", 20)
    yield Row("log, key to drawn p95 while indexing", log["key_to_drawn_p95_while_indexing_ms"], "ms", 50)


ROOMS: Mapping[str, Callable[[bool], Iterable[Row]]] = {
    "reader": reader_rows,
    "download": download_rows,
    "r2": r2_rows,
    "iceberg": iceberg_rows,
    "console": console_rows,
    "pipelines": pipeline_rows,
    "release-day": release_day.rows,
}


def scale_rows(arguments: argparse.Namespace) -> Iterator[Row]:
    """What a release costs after many of full size; takes hours, so it is measured only when it is named."""
    facts = arguments.facts or (100_000 if arguments.quick else scale.FULL_FACTS)
    if arguments.into:
        yield from scale.scale(arguments.releases, facts, arguments.into)
        return
    with TemporaryDirectory(prefix="materia-scale-") as into:
        yield from scale.scale(arguments.releases, facts, Path(into))


SLOW: Mapping[str, Callable[[argparse.Namespace], Iterable[Row]]] = {
    "scale": scale_rows,
    "spark": lambda arguments: scaling.spark_rows(arguments.quick),
}
"""What is measured only when it is named."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="just bench", description=__doc__)
    named = [*ROOMS, *SLOW]
    parser.add_argument(
        "rooms", nargs="*", choices=[*named, []], help=f"what to measure; all but {' and '.join(SLOW)} by default"
    )
    parser.add_argument("--quick", action="store_true", help="a short history of small releases")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON, too")
    parser.add_argument("--releases", type=int, default=scale.RELEASES, help="scale: how many; default 24")
    parser.add_argument("--facts", type=int, help=f"scale: facts a release; default {scale.FULL_FACTS:,}")
    parser.add_argument(
        "--into", type=Path, metavar="DIR", help="scale: keep data and figures here, and go on from them"
    )
    arguments = parser.parse_args()
    rows = [
        row
        for room in arguments.rooms or ROOMS
        for row in (SLOW[room](arguments) if room in SLOW else ROOMS[room](arguments.quick))
    ]
    print(as_table(rows))
    if arguments.json:
        arguments.json.write_text(as_json(rows))
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
