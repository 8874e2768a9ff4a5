"""Tests of following a log: no line is lost by rotation, and truncation is detected."""

import os
import shutil
from pathlib import Path

import pytest

from tests.tui.logs.writing import numbers_of, rotating_writer, wait_until
from tui.logs.follow import MAX_SEGMENTS, Follower

LINES = 200_000


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "supervisor.log"


def texts(follower: Follower) -> list[bytes]:
    return [segment.file.read(0, segment.size) for segment in follower.segments]


def test_rotation_under_a_fast_writer_loses_no_line(log: Path) -> None:
    follower = Follower(log)
    writer = rotating_writer(log, LINES, LINES // 20, "rename")
    try:
        while writer.poll() is None:
            follower.poll()
    finally:
        writer.wait()
    follower.poll()
    follower.poll()
    assert writer.returncode == 0
    assert numbers_of(follower) == list(range(LINES))
    assert len(follower.segments) == 20
    assert all(segment.notice for segment in follower.segments[1:])


def test_rotations_between_two_looks_lose_no_line(log: Path) -> None:
    log.write_text("")
    follower = Follower(log)
    follower.poll()
    assert rotating_writer(log, 20_000, 2_000, "rename").wait() == 0
    follower.poll()
    assert numbers_of(follower) == list(range(20_000))


def test_copytruncate_loses_no_line_that_is_in_the_copy(log: Path) -> None:
    log.write_text("")
    follower = Follower(log)
    writer = rotating_writer(log, 20_000, 5_000, "copytruncate")
    try:
        while writer.poll() is None:
            follower.poll()
    finally:
        writer.wait()
    follower.poll()
    assert numbers_of(follower) == list(range(20_000))
    assert "copy" in follower.segments[-1].notice


def test_truncations_between_two_looks_lose_no_line_that_is_in_a_copy(log: Path) -> None:
    log.write_bytes(b"0\n")
    follower = Follower(log)
    follower.poll()
    assert rotating_writer(log, 20_000, 5_000, "copytruncate").wait() == 0
    follower.poll()
    follower.poll()
    assert numbers_of(follower) == [0, *range(20_000)]


def test_a_log_truncated_and_refilled_to_its_old_size_is_read_again(log: Path) -> None:
    log.write_bytes(b"1\n2\n")
    follower = Follower(log)
    follower.poll()
    shutil.copyfile(log, f"{log}.1")
    log.write_bytes(b"3\n4\n")
    follower.poll()
    assert numbers_of(follower) == [1, 2, 3, 4]


def test_lines_written_to_an_empty_log_before_truncation_are_read_from_its_copy(log: Path) -> None:
    log.write_bytes(b"")
    Path(f"{log}.1").write_bytes(b"long ago\n")
    follower = Follower(log)
    follower.poll()
    for turn in (2, 3):
        log.write_bytes(f"{turn}\n".encode())
        shutil.copyfile(log, f"{log}-{turn}")
    log.write_bytes(b"4\n")
    follower.poll()
    follower.poll()
    assert numbers_of(follower) == [2, 3, 4]


def test_lines_written_after_the_rename_are_read(log: Path) -> None:
    with log.open("ab", buffering=0) as writer:
        writer.write(b"1\n2\n")
        follower = Follower(log)
        follower.poll()
        log.rename(f"{log}.1")
        writer.write(b"3\n")
        follower.poll()
        assert "was deleted" in follower.error
        log.write_bytes(b"5\n")
        follower.poll()
        writer.write(b"4\n")
    follower.poll()
    assert texts(follower) == [b"1\n2\n3\n4\n", b"5\n"]
    assert follower.error == ""


def test_rotated_files_from_before_are_left_alone(log: Path) -> None:
    Path(f"{log}.1").write_text("old\n")
    log.write_text("1\n")
    follower = Follower(log)
    follower.poll()
    log.rename(f"{log}.2")
    log.write_text("2\n")
    follower.poll()
    assert texts(follower) == [b"1\n", b"2\n"]


def test_a_truncated_log_shows_how_much_was_lost(log: Path) -> None:
    log.write_text("1\n2\n3\n")
    follower = Follower(log)
    follower.poll()
    os.truncate(log, 0)
    follower.poll()
    log.write_text("4\n")
    follower.poll()
    assert texts(follower) == [b"4\n"]
    assert "the 6 bytes before are gone" in follower.segments[0].notice


def test_truncation_is_seen_also_when_as_much_was_written_again(log: Path) -> None:
    log.write_text("1\n2\n3\n")
    follower = Follower(log)
    follower.poll()
    with log.open("r+") as again:
        again.truncate(0)
        again.write("4\n5\n6\n7\n")
    follower.poll()
    assert texts(follower) == [b"4\n5\n6\n7\n"]
    assert "truncated" in follower.segments[0].notice


def test_a_log_that_does_not_exist_yet_is_waited_for(log: Path) -> None:
    follower = Follower(log)
    follower.poll()
    assert "does not exist" in follower.error
    log.write_text("1\n")
    follower.poll()
    assert (texts(follower), follower.error) == ([b"1\n"], "")


def test_a_path_that_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.log")
    follower = Follower(tmp_path / "pipe.log")
    follower.poll()
    assert "not a regular file" in follower.error


def test_old_segments_are_released_and_their_files_closed(log: Path) -> None:
    follower = Follower(log)
    open_files = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(MAX_SEGMENTS + 10):
        log.write_text(f"{number}\n")
        follower.poll()
        log.rename(f"{log}.{number}")
    assert len(follower.segments) == MAX_SEGMENTS
    wait_until(lambda: len(list(Path("/proc/self/fd").iterdir())) <= open_files + MAX_SEGMENTS)
