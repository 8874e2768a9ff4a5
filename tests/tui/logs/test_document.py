"""Tests of documents: finding lines by position, number and time."""

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.tui.logs.writing import START, event, wait_until
from tui.logs.document import AllPlaces, Document, Position
from tui.logs.lines import CHUNK_BYTES
from tui.logs.times import parse_time, time_of

Opens = Callable[[bytes], Document]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opens]:
    documents: list[Document] = []

    def opened(data: bytes) -> Document:
        path = tmp_path / f"{len(documents)}.log"
        path.write_bytes(data)
        document = Document(path, lambda: None)
        documents.append(document)
        wait_until(lambda: document.line_count is not None)
        return document

    yield opened
    for document in documents:
        document.close()


def lines_of(document: Document) -> list[bytes]:
    found, position = [], document.first()
    while position:
        found.append(document.read(position, 4 * CHUNK_BYTES)[0])
        position = document.next(position, AllPlaces)
    return found


def positions_backward(document: Document) -> list[Position]:
    found, position = [], document.last()
    while position:
        found.append(position)
        position = document.previous(position, AllPlaces)
    return found


def test_every_line_is_met_once_forward_and_backward(opened: Opens) -> None:
    chance = random.Random(5)
    lines = [bytes([97 + n % 26]) * chance.choice((0, 1, 30, 5_000, 100_000)) for n in range(120)]
    document = opened(b"\n".join(lines))
    assert lines_of(document) == lines
    assert len(positions_backward(document)) == document.line_count == len(lines)


@pytest.mark.parametrize("data", [b"", b"\n", b"a", b"a\n", b"a\nb", b"\n\n\n"])
def test_small_files_have_the_lines_they_have(opened: Opens, data: bytes) -> None:
    document = opened(data)
    assert lines_of(document) == data.split(b"\n")[: document.line_count]
    assert document.line_count == data.count(b"\n") + (not data.endswith(b"\n") and data != b"")


def test_a_line_longer_than_chunks_comes_in_parts_that_make_it_whole(opened: Opens) -> None:
    long = random.Random(6).randbytes(10 * CHUNK_BYTES + 77).replace(b"\n", b"?").replace(b"\r", b"?")
    document = opened(b"before\n" + long + b"\nafter\n")
    parts = lines_of(document)
    assert (parts[0], b"".join(parts[1:-1]), parts[-1]) == (b"before", long, b"after")
    assert len(positions_backward(document)) == len(parts) < 14
    assert document.line_count == 3
    assert document.line_number(document.last()) == 3


def test_a_line_is_found_by_its_number_and_tells_it(opened: Opens) -> None:
    line = event(1).encode()
    count = 3 * CHUNK_BYTES // len(line)
    document = opened(line * count)
    for number in (1, 2, count // 2, count):
        position = document.at_line(number)
        assert position == Position(0, (number - 1) * len(line))
        assert document.line_number(position) == number
    assert document.at_line(count + 1) is None


@pytest.mark.parametrize("noise", ["", "    a line of a traceback\n" * 30])
def test_a_time_is_found_where_it_first_occurs(opened: Opens, noise: str) -> None:
    events = [event(second) + noise for second in range(0, 30_000, 2)]
    starts = [0]
    for text in events:
        starts.append(starts[-1] + len(text))
    document = opened("".join(events).encode())
    for second in (0, 2, 1_000, 14_998, 29_998):
        assert document.at_time(START + second) == Position(0, starts[second // 2])
    assert document.at_time(START + 4_001) == Position(0, starts[2_001])
    assert document.at_time(START - 9) == Position(0, 0)
    assert document.at_time(START + 99_999) == document.last()


def test_a_time_is_found_before_anything_is_indexed(tmp_path: Path) -> None:
    path = tmp_path / "run-1.log"
    path.write_text("".join(map(event, range(40_000))))
    document = Document(path, lambda: None)
    document.close()
    position = document.at_time(START + 30_000)
    assert position is not None
    assert time_of(document.read(position, 99)[0]) == START + 30_000


@pytest.mark.parametrize("before", [b"1\n2\nunfinished", b"1\n2\n3\n"])
def test_lines_are_counted_on_across_a_rotation(opened: Opens, before: bytes) -> None:
    document = opened(before)
    document.path.rename(f"{document.path}.1")
    document.path.write_bytes(b"4\n5\n")
    wait_until(lambda: document.line_count == 5)
    assert document.line_number(document.last()) == 5
    assert [document.at_line(number) for number in (4, 5, 6)] == [Position(1, 0), Position(1, 2), None]
    document.path.write_bytes(b"")
    wait_until(lambda: len(document.segments) == 2 and document.segments[-1].serial == 2)
    assert document.line_count == 3


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("03:10", "2026-11-21T03:10:00Z"),
        ("23:59:58", "2026-11-20T23:59:58Z"),
        ("2026-11-19", "2026-11-19T00:00:00Z"),
        ("2026-11-19 04:05", "2026-11-19T04:05:00Z"),
        ("2026-11-19T04:05:06+02:00", "2026-11-19T02:05:06Z"),
        ("15m ago", "2026-11-21T20:45:00Z"),
        ("-2h", "2026-11-21T19:00:00Z"),
    ],
)
def test_times_are_understood_as_typed(typed: str, expected: str) -> None:
    newest = datetime(2026, 11, 21, 21, tzinfo=UTC)
    assert datetime.fromtimestamp(parse_time(typed, newest), UTC) == datetime.fromisoformat(expected)


@pytest.mark.parametrize("typed", ["", "soon", "25:00", "2026-13-01"])
def test_an_invalid_time_is_refused_with_the_valid_formats(typed: str) -> None:
    with pytest.raises(ValueError, match="is not a time: write 03:10"):
        parse_time(typed, datetime(2026, 11, 21, tzinfo=UTC))


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        (b"2026-11-21T21:00:00.250Z INFO", START + 0.25),
        (b"2026-11-21 21:00:00,5 INFO", START + 0.5),
        (b"[2026-11-21T22:00:00+01:00] x", START),
        (b"2026-99-21T21:00:00Z", None),
        (b"run=1", None),
    ],
)
def test_the_time_of_a_line_is_read_in_its_usual_forms(line: bytes, seconds: float | None) -> None:
    assert time_of(line) == seconds
