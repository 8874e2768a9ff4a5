"""Read during swaps with every kind of reader, and check each answer against the served generations.

`python -m bench.swaps` prints the figures of a thousand publishes and rollbacks as JSON.

The writer numbers its swaps and logs each one before and after it happens. A reader reads that log before a query and
after its answer: the answer must come from a swap between the two, and not from an earlier swap than the previous
answer. So only a rollback may lead back.
"""

import json
import os
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import duckdb

from bench.reader import Publisher
from dataflows.serving import ServingReader
from dataflows.serving.generation import FOREIGN_NUMBER
from dataflows.serving.store import GENERATIONS_KEPT

QUERY = "SELECT min(value), max(value) FROM serving.fct_psd"
STREAM = "SELECT value FROM serving.fct_psd, range(500)"
SWAPS = 1000
ROLLBACK_EVERY = 7
WRONG = ("errors", "stale", "backwards", "mixed", "leaked")
"""Faults that must not occur: an answer that was not served at that time, that is older than the previous one, or that
mixes two generations; handles that stay open."""

GRACE_S = 5.0
"""Shorter than in earnest, so that what is still being read is removed while it is."""
ANSWERED_EVERY = 3
"""After this many swaps a reader must have an answer; else a busy machine deletes each file before it is opened."""
_WAIT_S = 120.0
_SETTLE_S = 5.0
_ANSWER_S = 5.0


class Book(AbstractContextManager):
    """What was served, swap by swap, in a file that any process may look at while it is written."""

    _BEGUN, _DONE, _CLOSED, _ANSWERED, _SWAPS = 0, 8, 16, 24, 32

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT)

    def swap(self, number: int, act: Callable[[], object]) -> None:
        """Serve `number` by doing `act`."""
        swap = self.last_begun_swap + 1
        self._write(self._SWAPS + 8 * swap, number)
        self._write(self._BEGUN, swap)
        act()
        self._write(self._DONE, swap)

    def answer(self, swap: int) -> None:
        """Note that somebody's answer showed what `swap` served."""
        self._write(self._ANSWERED, swap)

    def await_answer(self) -> None:
        """Wait, not for long, until somebody's answer shows the newest swap."""
        deadline = time.monotonic() + _ANSWER_S
        while self._read(self._ANSWERED) < self.done and time.monotonic() < deadline:
            time.sleep(0.001)

    def close(self) -> None:
        """Signal the end to the readers."""
        self._write(self._CLOSED, 1)

    @property
    def last_begun_swap(self) -> int:
        return self._read(self._BEGUN)

    @property
    def done(self) -> int:
        return self._read(self._DONE)

    @property
    def closed(self) -> bool:
        return self._read(self._CLOSED) == 1

    def served(self, swap: int) -> int:
        """What swap number `swap` serves."""
        return self._read(self._SWAPS + 8 * swap)

    def _read(self, place: int) -> int:
        data = os.pread(self._file, 8, place)
        return struct.unpack("<q", data)[0] if data else 0

    def _write(self, place: int, value: int) -> None:
        os.pwrite(self._file, struct.pack("<q", value), place)

    def __exit__(self, *_: object) -> None:
        os.close(self._file)


@dataclass
class Judge:
    """One reader's answers, judged one after the other."""

    book: Book
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    _last_swap: int = 0
    _last_number: int = 0

    def asked(self) -> int:
        """The last swap completed before the query starts."""
        return self.book.done

    def answered(self, asked: int, low: int, high: int, generation: int) -> None:
        """Count an answer: the least and the greatest number among its rows, and the generation it names."""
        last = self.book.last_begun_swap
        possible = [swap for swap in range(asked, last + 1) if self.book.served(swap) == high]
        later = [swap for swap in possible if swap >= self._last_swap]
        self.counts["queries"] += 1
        self.counts["changes_seen"] += high != self._last_number
        if low != high or generation not in (high, FOREIGN_NUMBER):
            self._wrong("mixed", f"{low} to {high} in generation {generation}")
        elif not possible:
            self._wrong("stale", f"{high} while swaps {asked} to {last} were served")
        elif not later:
            self._wrong("backwards", f"{high} of swap {possible[-1]} after swap {self._last_swap}")
        if later:
            self._last_swap = later[0]
            self.book.answer(later[0])
        self._last_number = high

    def failed(self, error: BaseException) -> None:
        self._wrong("errors", repr(error))

    def _wrong(self, kind: str, what: str) -> None:
        self.counts[kind] += 1
        self.failures.append(f"{kind}: {what}")


Reading = Callable[[Path, Judge], None]
"""Ask one question and have its answer judged."""


def _by_reader(reader: ServingReader, judge: Judge) -> None:
    asked = judge.asked()
    answer = reader.query(QUERY)
    low, high = (column[0].as_py() for column in answer.table.columns)
    judge.answered(asked, low, high, answer.generation.number)


def _by_stream(reader: ServingReader, judge: Judge) -> None:
    """A long answer that is fetched bit by bit, while its generation is replaced and removed."""
    asked = judge.asked()
    with reader.cursor() as (cursor, generation):
        stream = cursor.execute(STREAM).to_arrow_reader(10_000)
        first = stream.read_next_batch().column("value").unique().to_pylist()
        judge.answered(asked, min(first), max(first), generation.number)
        for batch in stream:
            time.sleep(0.002)
            if batch.column("value").unique().to_pylist() != first:
                judge.answered(asked, first[0], batch.column("value")[0].as_py(), generation.number)


def _by_foreigner(path: Path, judge: Judge) -> None:
    """A foreign program, which knows only the path of the served file."""
    asked = judge.asked()
    with duckdb.connect(str(path), read_only=True) as connection:
        low, high = connection.execute(QUERY).fetchall()[0]
    judge.answered(asked, low, high, FOREIGN_NUMBER)


def read_until_closed(kind: str, path: Path, book: Book, threads: int) -> dict[str, Any]:
    """Read with several threads until the book is closed; return their counts and the files left open."""
    with ServingReader(path, threads=2) as reader:  # what the first query imports brings threads of its own
        _by_reader(reader, Judge(book))
        _by_stream(reader, Judge(book))
    threads_before = _thread_count()
    judges = [Judge(book) for _ in range(threads)]
    most = [0]

    def read(judge: Judge, ask: Callable[[], None]) -> None:
        try:
            while not book.closed:
                ask()
                most[0] = max(most[0], len(_open_files(path)))
        except Exception as error:
            judge.failed(error)

    with ServingReader(path, threads=2) as reader:
        asks = {
            "reader": lambda judge: _by_reader(reader, judge),
            "stream": lambda judge: _by_stream(reader, judge),
            "foreigner": lambda judge: _by_foreigner(path, judge),
        }
        # Every fourth of our readers fetches long answers, which outlive many swaps.
        kinds = ["stream" if kind == "reader" and number % 4 == 3 else kind for number in range(threads)]
        workers = [
            threading.Thread(target=read, args=(judge, lambda kind=kind, judge=judge: asks[kind](judge)))
            for kind, judge in zip(kinds, judges, strict=True)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        idle = len(_open_files(path))
    counts = sum((judge.counts for judge in judges), Counter())
    # Idle, a reader holds the one file it last read; closed, none, and no thread of a DuckDB instance either.
    leaked = max(0, idle - 1) + len(_open_files(path)) + _threads_left(threads_before)
    figures = {name: counts[name] for name in ("queries", "changes_seen", *WRONG)}
    failures = [failure for judge in judges for failure in judge.failures]
    return figures | {"leaked": leaked, "most_open": most[0], "failures": failures[:3]}


@dataclass(frozen=True)
class Readers:
    """Who reads: threads beside the writer, and processes of their own."""

    threads: int = 8
    processes: int = 2
    foreigners: int = 1
    """Processes that open the path for every query, without our reader."""


def publish_under_load(directory: Path, swaps: int = SWAPS, readers: Readers | None = None) -> dict[str, Any]:
    """Publish and roll back while everybody reads; all counts together."""
    publisher, random = Publisher(directory / "serving.duckdb"), Random(7)

    def acts() -> Iterator[tuple[int, Callable[[], object]]]:
        for turn in range(swaps):
            kept = [generation.number for generation in publisher.store.generations()][:-1]
            if turn % ROLLBACK_EVERY == ROLLBACK_EVERY - 1 and kept:
                number = random.choice(kept)
                yield number, partial(publisher.store.rollback, number)
            else:
                number = publisher.build()
                yield number, partial(publisher.serve, number)
                publisher.store.prune(GENERATIONS_KEPT, GRACE_S)

    return _under_load(publisher.store.serving_path, acts(), readers or Readers())


def replace_under_load(directory: Path, swaps: int = SWAPS, readers: Readers | None = None) -> dict[str, Any]:
    """The same for a plain file that somebody replaces by `rename`."""
    publisher = Publisher(directory / "plain.duckdb")
    path = publisher.store.serving_path

    def acts() -> Iterator[tuple[int, Callable[[], object]]]:
        for _ in range(swaps):
            number = publisher.build()
            yield number, partial(publisher.store.building_path(number).replace, path)

    return _under_load(path, acts(), readers or Readers())


def _under_load(path: Path, acts: Iterable[tuple[int, Callable[[], object]]], readers: Readers) -> dict[str, Any]:
    book_path, began = path.parent / "book", time.perf_counter()
    with Book(book_path) as book:
        remaining = iter(acts)
        book.swap(*next(remaining))  # there is something to read before anybody does
        outcomes: list[dict[str, Any]] = []
        beside = threading.Thread(
            target=lambda: outcomes.append(read_until_closed("reader", path, book, readers.threads))
        )
        kinds = ["reader"] * readers.processes + ["foreigner"] * readers.foreigners
        with _processes(kinds, path, book_path) as children:
            beside.start()
            try:
                for number, act in remaining:
                    book.swap(number, act)
                    if book.done % ANSWERED_EVERY == 0:
                        book.await_answer()
            finally:
                book.close()
                beside.join(_WAIT_S)
            outcomes += [json.loads(child.communicate(timeout=_WAIT_S)[0]) for child in children]
        swaps = book.done
    totals = {name: sum(outcome[name] for outcome in outcomes) for name in ("queries", "changes_seen", *WRONG)}
    return {
        "swaps": swaps,
        "readers": readers.threads + len(kinds),
        **totals,
        "most_open": max(outcome["most_open"] for outcome in outcomes),
        "failures": [failure for outcome in outcomes for failure in outcome["failures"]][:5],
        "seconds": round(time.perf_counter() - began, 1),
    }


@contextmanager
def _processes(kinds: Sequence[str], path: Path, book_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Reading processes, each past its imports and its first look at the book; ended with the block."""
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "bench.swaps", kind, str(path), str(book_path)],
            cwd=Path(__file__).parents[1],
            stdout=subprocess.PIPE,
            text=True,
        )
        for kind in kinds
    ]
    try:
        for child in children:
            assert child.stdout
            child.stdout.readline()
        yield children
    finally:
        for child in children:
            child.kill()
            child.communicate()


def _open_files(path: Path) -> list[str]:
    """The generations of `path` that this process reads, also those that are gone from the folder."""
    found = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 (after every query)
        try:
            target = os.readlink(f"/proc/self/fd/{name}")  # noqa: PTH115
        except FileNotFoundError:
            continue  # closed since the listing
        if target.startswith(f"{path.parent}/{path.stem}") and not target.endswith(".building"):
            found.append(target)
    return found


def _threads_left(before: int) -> int:
    """Threads beyond so many. Linux lists one for a moment after it was joined."""
    deadline = time.monotonic() + _SETTLE_S
    while _thread_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    return max(0, _thread_count() - before)


def _thread_count() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def _main(kind: str, path: str, book_path: str) -> None:
    print("ready", flush=True)
    with Book(Path(book_path)) as book:
        print(json.dumps(read_until_closed(kind, Path(path), book, threads=1)))


if __name__ == "__main__":
    if sys.argv[1:]:
        _main(*sys.argv[1:])
    else:
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            print(json.dumps([publish_under_load(Path(one)), replace_under_load(Path(other))], indent=2))
