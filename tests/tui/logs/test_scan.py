"""Tests of scans: a filter shows the lines that grep prints, across chunk ends and for appended lines."""

import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.tui.logs.writing import event, wait_until
from tui.logs.document import NOTICE, Document
from tui.logs.follow import Follower
from tui.logs.lines import CHUNK_BYTES
from tui.logs.scan import Scan
from tui.widgets.log_match import LEVELS, LineFilter, Matcher, Term, level_of


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three and a half chunks of events, tracebacks, long lines and garbage; the last line unfinished."""
    path = tmp_path_factory.mktemp("logs") / "supervisor.log"
    chance = random.Random(3)
    with path.open("wb") as log:
        number = 0
        while log.tell() < 3.5 * CHUNK_BYTES:
            number += 1
            level = chance.choices(LEVELS, (5, 80, 10, 4, 1))[0]
            text = chance.choice(("landed", "Landed late", "probe 404", "naïve value"))
            log.write(event(number, level, chance.randrange(40), text).encode())
            if level in ("ERROR", "CRITICAL"):
                log.write(b"    Traceback (most recent call last):\n    ValueError: probe\n")
            if number % 5_000 == 0:
                log.write(b"x" * 70_000 + b" probe\n" + bytes(chance.randrange(256) for _ in range(2_000)) + b"\n\n")
        log.write(b"2026-11-22T00:00:00.000Z ERROR run=7 unfinished probe")
    return path


@pytest.fixture
def scanned(log: Path) -> Iterator[Callable[[LineFilter], list[bytes]]]:
    follower = Follower(log)
    follower.poll()
    scans: list[Scan] = []

    def scanned(line_filter: LineFilter) -> list[bytes]:
        scan = Scan(line_filter, follower.segments, lambda: None)
        scans.append(scan)
        wait_until(lambda: scan.finished)
        assert scan.error == ""
        (segment,) = follower.segments
        matches = scan.of(segment)
        assert matches is not None
        found: list[bytes] = []
        at: int | None = 0
        while (at := matches.after(at)) is not None:
            found.append(segment.file.read(at, at + 100_000).partition(b"\n")[0])
            at += 1
        backward, at = 0, segment.size
        while (at := matches.before(at)) is not None:
            backward += 1
        assert len(found) == backward == matches.count == scan.count
        return found

    yield scanned
    for scan in scans:
        scan.close()


def grep(log: Path, *arguments: str) -> list[bytes]:
    """Return what grep prints of the complete lines, treating them as bytes."""
    complete = log.read_bytes().rpartition(b"\n")[0] + b"\n"
    out = subprocess.run(["grep", "-a", *arguments], input=complete, stdout=subprocess.PIPE, env={"LC_ALL": "C"})
    return out.stdout.split(b"\n")[:-1]


@pytest.mark.parametrize(
    ("term", "arguments"),
    [
        (Term("probe"), ("-i", "-F", "probe")),
        (Term("Landed"), ("-F", "Landed")),
        (Term("naïve"), ("-F", "naïve")),
        (Term("nowhere to be found"), ("-F", "nowhere to be found")),
        (Term("number=\\d+77$", True), ("-i", "-P", "number=\\d+77$")),
        (Term("run=(3|17) .*Landed", True), ("-P", "run=(3|17) .*Landed")),
        (Term("late[^0-9]+1", True), ("-i", "-P", "late[^0-9]+1")),
        (Term("^\\s+ValueError", True), ("-P", "^\\s+ValueError")),
        (Term("^$", True), ("-P", "^$")),
    ],
)
def test_a_text_or_an_expression_shows_what_grep_prints(
    log: Path, scanned: Callable[[LineFilter], list[bytes]], term: Term, arguments: tuple[str, ...]
) -> None:
    assert scanned(LineFilter((term,))) == grep(log, *arguments)


def test_a_run_shows_what_grep_prints_and_what_is_indented_after_it(
    log: Path, scanned: Callable[[LineFilter], list[bytes]]
) -> None:
    shown = scanned(LineFilter(run_id=3))
    assert [line for line in shown if not line.startswith(b" ")] == grep(log, "-P", r"(?<!\S)run=3(?!\S)")
    assert any(line.startswith(b"    Traceback") for line in shown)


def test_a_level_shows_what_grep_prints_and_the_tracebacks(
    log: Path, scanned: Callable[[LineFilter], list[bytes]]
) -> None:
    assert scanned(LineFilter(level="ERROR")) == grep(log, "-P", r"^\S+Z (ERROR|CRITICAL) |^    (Trace|Value)")
    warnings = scanned(LineFilter(level="WARNING"))
    assert [line for line in warnings if line[:1] != b" "] == grep(log, "-P", r"^\S+Z (WARNING|ERROR|CRITICAL) ")


def test_filters_add_up(log: Path, scanned: Callable[[LineFilter], list[bytes]]) -> None:
    shown = scanned(LineFilter((Term("Landed"), Term("number=\\d*1", True)), "ERROR", 7))
    expected = grep(log, "-P", r"^\S+Z (ERROR|CRITICAL) run=7 .*Landed.*number=\d*1")
    assert shown == expected != []


def test_a_growing_log_is_scanned_as_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "run-1.log"
    path.write_text(event(1) + event(2, text="probe"))
    follower = Follower(path)
    follower.poll()
    scan = Scan(LineFilter((Term("probe"),)), follower.segments, lambda: None)

    def caught_up(count: int) -> bool:
        follower.poll()
        scan.follow(follower.segments)
        return scan.count == count

    try:
        wait_until(lambda: scan.finished and caught_up(1))
        with path.open("a") as log:
            log.write(event(3, text="probe") + event(4) + event(5, text="half a pro"))
            log.flush()
            wait_until(lambda: caught_up(2))
            log.write("probe\n")
            log.flush()
            wait_until(lambda: caught_up(3))
        path.rename(tmp_path / "run-1.log.1")
        path.write_text(event(6, text="probe"))
        wait_until(lambda: caught_up(4))
        assert [scan.of(segment).count for segment in follower.segments] == [3, 1]
    finally:
        scan.close()


def test_a_scan_ends_when_it_is_closed(log: Path) -> None:
    follower = Follower(log)
    follower.poll()
    scan = Scan(LineFilter((Term("(x+x+)+y", True),)), follower.segments, lambda: None)
    wait_until(lambda: len(scan._children) == 3)
    started = [child._process for child in scan._children]
    scan.close()
    wait_until(lambda: all(process.poll() is not None for process in started))


def test_a_scan_reports_that_its_process_was_killed(log: Path) -> None:
    follower = Follower(log)
    follower.poll()
    scan = Scan(LineFilter((Term("(x+x+)+y", True),)), follower.segments, lambda: None)
    try:
        wait_until(lambda: len(scan._children) == 3)
        for child in scan._children:
            child._process.kill()
        wait_until(lambda: scan.finished)
        assert scan.error == "the search process failed with signal 9"
    finally:
        scan.close()


def test_lines_that_are_gone_are_not_counted(tmp_path: Path) -> None:
    path = tmp_path / "run-1.log"
    path.write_text(event(1, text="probe") * 9)
    follower = Follower(path)
    follower.poll()
    scan = Scan(LineFilter((Term("probe"),)), follower.segments, lambda: None)
    try:
        wait_until(lambda: scan.finished and scan.count == 9)
        path.write_text(event(2, text="probe"))
        follower.poll()
        scan.follow(follower.segments)
        wait_until(lambda: scan.count == 1)
    finally:
        scan.close()


@pytest.mark.parametrize("text", ["(", "a{3,1}", "*"])
def test_a_wrong_expression_is_refused_before_anything_starts(text: str) -> None:
    with pytest.raises(ValueError, match="not a valid regular expression"):
        Term(text, is_regex=True)


@pytest.mark.parametrize(
    ("line", "level"),
    [
        (b"2026-11-21T21:27:35.552Z INFO run=1 ERROR is only mentioned", "INFO"),
        (b"2026-11-21 21:27:35,552 WARN late", "WARNING"),
        (b"[2026-11-21T21:27:35] [ERROR] no", "ERROR"),
        (b"FATAL: no", "CRITICAL"),
        (b"no ERROR at all", ""),
        (b"    ERROR in a traceback", ""),
    ],
)
def test_the_level_is_where_it_belongs(line: bytes, level: str) -> None:
    assert level_of(line) == level


def test_the_end_of_a_chunk_never_shows() -> None:
    data = "".join(event(number, run=number % 3) + "    more\n" for number in range(200)).encode()
    matcher = Matcher(LineFilter(level="INFO", run_id=2))
    whole = list(matcher.lines(data, 0, len(data)))
    starts = [0] + [at + 1 for at in range(len(data) - 1) if data[at : at + 1] == b"\n"]
    for cut in starts[1::7]:
        assert [*matcher.lines(data, 0, cut), *matcher.lines(data, cut, len(data))] == whole


def test_hidden_lines_are_stepped_over_across_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "run-1.log"
    path.write_text("".join(event(number, text="probe" if number % 10 == 0 else "") for number in range(100)))
    document = Document(path, lambda: None)
    try:
        path.rename(tmp_path / "run-1.log.1")
        path.write_text(event(100, text="probe"))
        wait_until(lambda: document.line_count == 101)
        scan = Scan(LineFilter((Term("probe"),)), document.segments, lambda: None)
        wait_until(lambda: scan.finished)
        seen, position = [], document.first(scan.of)
        while position:
            seen.append(b"rotated" if position.offset == NOTICE else document.read(position, 999)[0][-3:])
            position = document.next(position, scan.of)
        assert seen == [b"r=0", *(b"=%d" % n for n in range(10, 100, 10)), b"rotated", b"100"]
        back, position = [], document.last(scan.of)
        while position:
            back.append(position)
            position = document.previous(position, scan.of)
        assert len(back) == len(seen)
        scan.close()
    finally:
        document.close()


def test_a_scan_finds_the_newest_first(tmp_path: Path) -> None:
    path = tmp_path / "big.log"
    line = event(1, text="probe").encode()
    path.write_bytes(line * (20 * CHUNK_BYTES // len(line)))
    follower = Follower(path)
    follower.poll()
    shares: list[int] = []
    scan = Scan(LineFilter((Term("probe"),)), follower.segments, lambda: shares.append(matches.known_from))
    matches = scan.of(follower.segments[0])
    wait_until(lambda: scan.finished)
    time.sleep(0)
    assert shares == sorted(shares, reverse=True)
    assert matches.known_from == 0
    assert scan.count == path.stat().st_size // len(line)
    scan.close()
