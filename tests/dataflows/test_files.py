"""Durable file operations, and what is said when a disk refuses."""

import errno
import os
import re
from pathlib import Path

import pytest

from dataflows.errors import DiskError, DiskSpaceError, LandingError
from dataflows.files import (
    after_refusal,
    disk_errors,
    disk_refusal,
    move_durably,
    raise_if_refused,
    require_space,
    sync,
    write_durably,
)
from tests.support.durable import recorded

TARGET = Path("/data/landing")


def test_a_small_file_is_flushed_before_it_gets_its_name_and_its_folder_afterwards(tmp_path: Path) -> None:
    with recorded() as seen:
        write_durably(tmp_path / "memory.json", "new")
    (rename,) = seen.renames
    assert rename.target == str(tmp_path / "memory.json") and rename.is_flushed
    seen.check()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"memory.json": "new"}


def test_the_partial_small_file_of_a_killed_run_is_replaced(tmp_path: Path) -> None:
    (tmp_path / ".memory.json.draft").write_text("half of an old one")
    (tmp_path / "memory.json").write_text("old")
    write_durably(tmp_path / "memory.json", "new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"memory.json": "new"}


def test_a_file_is_moved_after_its_contents_are_on_the_disk(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "download").write_bytes(b"bytes")
    with recorded() as seen:
        move_durably(tmp_path / "download", tmp_path / "there" / "kept")
    seen.check()
    assert (tmp_path / "there" / "kept").read_bytes() == b"bytes" and not (tmp_path / "download").exists()


def test_flushing_leaves_no_file_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    sync(tmp_path)
    with pytest.raises(FileNotFoundError):
        sync(tmp_path / "missing")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_space_that_is_there_is_enough_and_one_byte_more_is_not(tmp_path: Path, monkeypatch) -> None:
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(9_000_000, 1_000_000, 8_000_000))
    require_space(tmp_path, 8_000_000, "downloading it")
    with pytest.raises(DiskSpaceError) as refused:
        require_space(tmp_path, 8_000_001, "downloading it")
    assert str(refused.value).startswith(f"{tmp_path} has 8 MB free and downloading it needs 8 MB; free some space")


@pytest.mark.parametrize("guard", [disk_errors, disk_refusal])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_called_full_and_the_file_is_named(guard, number: int) -> None:
    with pytest.raises(DiskSpaceError, match=r"^/data/file: the disk is full; free some space"), guard(TARGET):
        raise OSError(number, os.strerror(number), "/data/file")
    with pytest.raises(DiskSpaceError, match=r"^/data/landing: the disk is full"), guard(TARGET):
        raise OSError(number, os.strerror(number))


def test_other_trouble_with_the_landing_names_the_file_or_else_the_place() -> None:
    with pytest.raises(LandingError, match=r"^/data/file: Permission denied; see that"), disk_errors(TARGET):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/data/file")
    with pytest.raises(LandingError, match=r"^/data/landing: nothing more is known; "), disk_errors(TARGET):
        raise OSError("nothing more is known")


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO])
def test_a_disk_that_refuses_a_run_is_a_disk_error(number: int) -> None:
    pattern = re.escape(os.strerror(number))
    with pytest.raises(DiskError, match=f"^/data/file: {pattern}; see that"), disk_refusal(TARGET):
        raise OSError(number, os.strerror(number), "/data/file")
    with pytest.raises(DiskError, match=f"^/data/landing: {pattern}"), disk_refusal(TARGET):
        raise OSError(number, os.strerror(number))


def test_trouble_that_is_not_the_disks_passes_unchanged() -> None:
    with pytest.raises(ConnectionResetError), disk_refusal(TARGET):
        raise ConnectionResetError(errno.ECONNRESET, "reset")


def test_a_successful_call_passes() -> None:
    with disk_errors(TARGET), disk_refusal(TARGET):
        pass


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_duckdbs_words_for_a_full_disk_are_understood(number: int) -> None:
    message = f"IO Error: could not write: {os.strerror(number)}"
    assert after_refusal(message) == "free some space and run again"
    with pytest.raises(DiskSpaceError, match=r"^/data/landing: the disk is full; free some space"):
        raise_if_refused(RuntimeError(message), TARGET)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO])
def test_duckdbs_refusals_are_recognized_and_only_their_first_line_is_shown(number: int) -> None:
    message = f"IO Error: {os.strerror(number)}\nLINE 1: a long query"
    with pytest.raises(DiskError) as refused:
        raise_if_refused(RuntimeError(message), TARGET)
    assert str(refused.value) == f"IO Error: {os.strerror(number)}; see that Materia may read and write there"


def test_any_other_words_are_no_refusal() -> None:
    assert after_refusal("Binder Error: no such column") is None
    assert raise_if_refused(RuntimeError("Binder Error: no such column"), TARGET) is None
