"""Tests of matches during a scan: the next match is shown, whichever is found first."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.tui.logs.writing import event, wait_until
from tui.logs.document import Document, Position
from tui.logs.lines import CHUNK_BYTES, OpenFile
from tui.logs.reading import Reading
from tui.logs.scan import Scan
from tui.logs.scan_child import FOUND, Report
from tui.widgets.log_match import LineFilter, Term

PROBE = Term("probe")
CHUNKS = 4
_PAD = event(99, text="x" * (CHUNK_BYTES // 8 - 100)) * 4


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A line with `probe` and the chunk's number in the middle of each chunk."""
    path = tmp_path / "supervisor.log"
    with path.open("w") as log:
        for chunk in range(CHUNKS):
            log.write(_PAD + event(chunk, text="probe") + _PAD)
    return path


@pytest.fixture
def reading(log: Path) -> Iterator[Reading]:
    reading = Reading(Document(log, lambda: None), lambda: None)
    yield reading
    reading.close()


@contextmanager
def held_back(monkeypatch: pytest.MonkeyPatch, is_held: Callable[[Report], bool]) -> Iterator[None]:
    """Delay these reports until the block ends."""
    take, over = Scan._add_reports, threading.Event()

    def late(scan: Scan, reports: list[Report], spool: OpenFile) -> None:
        held = [report for report in reports if report.kind == FOUND and is_held(report)]
        take(scan, [report for report in reports if report not in held], spool)
        if held:
            over.wait(60)
            take(scan, held, spool)

    monkeypatch.setattr(Scan, "_add_reports", late)
    try:
        yield
    finally:
        over.set()


def number_at(reading: Reading, position: Position | None) -> str:
    return reading.document.read(position, 100)[0].decode()[-1:] if position else ""


def reached(reading: Reading) -> str:
    """Return the number of the requested match once it is known."""
    found: list[Position] = []

    def is_reached() -> bool:
        found.extend(filter(None, [reading.resolve_match()]))
        return not reading.is_match_pending

    wait_until(is_reached)
    return number_at(reading, found[-1]) if found else ""


def test_the_next_match_is_none_of_those_behind_what_is_not_looked_through(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = reading.document.first()
    with held_back(monkeypatch, lambda report: report.start < CHUNK_BYTES):
        reading.search(PROBE, reading.document.last())
        assert reached(reading) == "3"
        wait_until(lambda: reading.filter_facts(None).startswith('search "probe": 3 lines, scanned'))
        assert number_at(reading, reading.match_from(first, 1)) == "1"
        assert not reading.is_match_known(first, 1)
        reading.request_match(first, 1)
        assert (reading.resolve_match(), reading.is_match_pending) == (None, True)
    assert reached(reading) == "0"


def test_the_match_before_is_none_of_an_older_file_while_the_newer_one_is_not_looked_through(
    log: Path, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copyfile(log, log.with_name("copy"))
    log.rename(f"{log}.1")
    copy.rename(log)
    wait_until(lambda: len(reading.document.segments) == 2)
    newer = reading.document.segments[1]
    with held_back(monkeypatch, lambda report: report.segment == newer.serial and report.start < CHUNK_BYTES):
        reading.search(PROBE, Position(newer.serial, 2 * CHUNK_BYTES))
        assert reached(reading) == "1"
        wait_until(lambda: reading._found.count > 3)
        reading.request_match(Position(newer.serial, CHUNK_BYTES), -1)
        reading.request_match(None, -1)
        assert (reading.resolve_match(), reading.is_match_pending) == (None, True)
    assert reached(reading) == "3"


def test_the_known_last_match_needs_no_wait(reading: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    with held_back(monkeypatch, lambda report: report.start < CHUNK_BYTES):
        reading.search(PROBE, reading.document.last())
        assert reached(reading) == "3"
        last = reading.match_from(reading.document.last(), -1)
        assert reading.is_match_known(last, 1)
        assert reading.match_from(last, 1) is None


def test_hiding_lines_during_a_search_keeps_the_requested_match(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    with held_back(monkeypatch, lambda report: True):
        reading.search(PROBE, reading.document.last())
        reading.request_match(None, -1)
        reading.hide(LineFilter(level="INFO"))
    assert reached(reading) == "2"


def test_moving_up_from_the_first_match_does_not_move_down(reading: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    with held_back(monkeypatch, lambda report: report.start < CHUNK_BYTES):
        reading.search(Term("probe number=[1-9]", is_regex=True), Position(0, 2 * CHUNK_BYTES))
        assert reached(reading) == "1"
        reading.request_match(reading.match_from(Position(0, 2 * CHUNK_BYTES), -1), -1)
        assert (reading.resolve_match(), reading.is_match_pending) == (None, True)
    assert reached(reading) == ""
