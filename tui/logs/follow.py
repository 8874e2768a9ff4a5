"""Following a log through rotation and truncation without losing a line.

What is at the path now is the newest segment. A segment that was renamed away stays open, and what its
writer still adds to it is read; so do files that came and went between two looks.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from tui.logs.index import SparseIndex
from tui.logs.lines import OpenFile

MAX_SEGMENTS = 32
_MARK_BYTES = 64
_STILL_GROWING = 3
_LOOKS = 5
_COMPRESSED = {".gz", ".xz", ".zst", ".bz2"}


@dataclass(eq=False)
class Segment:
    """One file of a log, `size` of its bytes known; `notice` says what happened just before its first line."""

    serial: int
    file: OpenFile
    notice: str = ""
    size: int = 0
    index: SparseIndex = field(default_factory=SparseIndex)
    mark: bytes = b""
    """The last bytes before `size`: when they change, the file was written anew."""

    @property
    def indexed(self) -> bool:
        return self.index.indexed_bytes >= self.size

    def look(self) -> tuple[int, bytes]:
        """How large the file is, and the last bytes of that; nothing while it is being truncated."""
        size = self.file.status().st_size
        mark = self.file.read(max(size - _MARK_BYTES, 0), size)
        return (size, mark) if len(mark) == min(size, _MARK_BYTES) else (0, b"")

    def grow(self, size: int, mark: bytes) -> bool:
        """Take note of new bytes, up to `size`; whether there were any."""
        if size <= self.size:
            return False
        self.size, self.mark = size, mark
        return True

    def continues_in(self, file: OpenFile) -> bool:
        """Whether `file` holds what is known of this segment, in the same place."""
        return file.status().st_size >= self.size and file.read(self.size - len(self.mark), self.size) == self.mark


class Follower:
    """The segments of the log at `path`, oldest first. One thread polls; `segments` may be read by any."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.segments: tuple[Segment, ...] = ()
        self.trouble = ""
        """Why nothing can be read at the path right now; empty when all is well."""
        self._serial = 0
        self._beginnings = (f"{path.name}.", f"{path.name}-")
        self._passed_by = {sibling.state for sibling in self._siblings()}

    def poll(self) -> bool:
        """Look once; whether anything changed. Never raises for what happens to the file."""
        before = self.segments, self.trouble
        changed = self._grow()
        self._follow_path()
        return changed or (self.segments, self.trouble) != before

    def close(self) -> None:
        """Let go of every file."""
        segments, self.segments = self.segments, ()
        for segment in segments:
            segment.file.close()

    def _grow(self) -> bool:
        # Every one of them, also after one that has grown.
        return True in [self._grown(segment) for segment in self.segments[-_STILL_GROWING:]]

    def _grown(self, segment: Segment) -> bool:
        size, mark = segment.look()
        # Whatever its size, which may be just what it was; and after that look: so it was no other file then.
        if segment.continues_in(segment.file) and not self._left_a_copy(segment, size):
            return segment.grow(size, mark)
        self._begin_again(segment)
        return True

    def _begin_again(self, segment: Segment) -> None:
        """The file was truncated in place. What was there lives on in a copy, if whoever did it made one."""
        file, gone_bytes = segment.file, segment.size
        newest = segment is self.segments[-1]
        siblings = self._siblings()
        at = self._copy_of(segment, siblings)
        if at is None:
            notice = f"truncated here: the {gone_bytes:,} bytes before are gone"
            self.segments = tuple(kept for kept in self.segments if kept is not segment)
            later_copies = []
        else:
            notice = "truncated here: the lines before are read from a copy"
            segment.file = siblings[at].file
            segment.grow(*segment.look())
            later_copies = [sibling for sibling in siblings[at + 1 :] if not _begin_alike(sibling.file, file)]
            self._passed_by |= {sibling.state for sibling in siblings[at:]}
        if newest:
            # Truncated more than once since the last look: each time left a copy of its own.
            for sibling in later_copies:
                self._add(sibling.file, notice)
            # It may have been truncated again since the copies were listed: taken for empty, it is looked at for that.
            self._add(file, notice, empty=True)
            self._grown(self.segments[-1])

    def _left_a_copy(self, segment: Segment, size: int) -> bool:
        """Whether a file that was empty and has `size` bytes was filled, copied and truncated in between."""
        if segment.size or not size:
            return False
        copy = self._copy_of(segment, self._siblings())
        # A file that was renamed away left no copies: what has its name now comes after it.
        return copy is not None and _is_at(self.path, segment.file)

    def _copy_of(self, segment: Segment, siblings: list["_Sibling"]) -> int | None:
        """Which of the siblings, the oldest first, holds the segment as far as it is known, and goes on from there."""
        if segment.size:
            return next((at for at in reversed(range(len(siblings))) if segment.continues_in(siblings[at].file)), None)
        # Of an empty one any copy goes on that came since, and not by the name of a segment.
        held = {_identity(each.file) for each in self.segments}
        earliest = max((each.file.status().st_mtime_ns for each in self.segments if each is not segment), default=0)
        return next(
            (
                at
                for at, sibling in enumerate(siblings)
                if sibling.state not in self._passed_by
                and sibling.identity not in held
                and sibling.modified_ns >= earliest
                and not _begin_alike(sibling.file, segment.file)
            ),
            None,
        )

    def _follow_path(self) -> None:
        newest = self.segments[-1].file if self.segments else None
        try:
            if newest and _is_at(self.path, newest):
                self.trouble = ""
                return
            file = OpenFile(self.path)
        except FileNotFoundError:
            self.trouble = f"{self.path.name} {'is gone' if newest else 'is not there'}; waiting for it"
            return
        except OSError as error:
            self.trouble = f"{self.path.name} cannot be read: {error.strerror or error}"
            return
        self.trouble = ""
        # What the old file got until now belongs before the new one.
        self._grow()
        for between in self._came_and_went(newest, file):
            self._add(between, "rotated here" if self.segments else "")
        self._add(file, "rotated here" if self.segments else "")

    def _came_and_went(self, old: OpenFile | None, new: OpenFile) -> list[OpenFile]:
        """Files that were at the path after `old` and before `new`, and have another name now; oldest first."""
        siblings = self._siblings()
        identities = [sibling.identity for sibling in siblings]
        first = identities.index(_identity(old)) + 1 if old and _identity(old) in identities else 0
        last = identities.index(_identity(new)) if _identity(new) in identities else len(siblings)
        earliest = old.status().st_mtime_ns if old else 0
        held = {_identity(segment.file) for segment in self.segments}
        return [
            sibling.file
            for sibling in siblings[first:last]
            if sibling.modified_ns >= earliest and sibling.state not in self._passed_by and sibling.identity not in held
        ]

    def _siblings(self) -> list["_Sibling"]:
        """The files that rotation gave names such as `x.log.1`, unless compressed; oldest first.

        Names may move on while they are read: so they are read until they are the same twice.
        """
        before: list[tuple[Path, tuple[int, int]]] = []
        siblings: list[_Sibling] = []
        for _ in range(_LOOKS):
            siblings = self._siblings_at_a_glance()
            now = [(sibling.path, sibling.identity) for sibling in siblings]
            if now == before:
                break
            before = now
        once = {sibling.identity: sibling for sibling in siblings}
        return sorted(once.values(), key=_Sibling.age, reverse=True)

    def _siblings_at_a_glance(self) -> list["_Sibling"]:
        try:
            with os.scandir(self.path.parent) as entries:
                names = sorted(entry.name for entry in entries if entry.name.startswith(self._beginnings))
        except OSError:  # no folder, no siblings
            return []
        paths = map(self.path.with_name, names)
        files = ((path, _opened(path)) for path in paths if path.suffix not in _COMPRESSED)
        return [_Sibling(path, file) for path, file in files if file]

    def _add(self, file: OpenFile, notice: str, *, empty: bool = False) -> None:
        segment = Segment(self._serial, file, notice)
        if not empty:
            segment.grow(*segment.look())
        self._serial += 1
        self.segments = (*self.segments, segment)[-MAX_SEGMENTS:]


@dataclass(frozen=True)
class _Sibling:
    path: Path
    file: OpenFile

    @property
    def identity(self) -> tuple[int, int]:
        return _identity(self.file)

    @property
    def modified_ns(self) -> int:
        return self.file.status().st_mtime_ns

    @property
    def state(self) -> tuple[int, int, int]:
        """Identity and time: the number of a deleted file is used again at once."""
        return (*self.identity, self.modified_ns)

    def age(self) -> tuple[int, int]:
        """Less is newer. In one tick of the clock `x.log.1` is newer than `x.log.2`, `x.log-02` than `x.log-01`."""
        number = re.search(r"(\.?)(\d+)\D*$", self.path.name)
        order = 0 if number is None else int(number[2]) * (1 if number[1] else -1)
        return -self.modified_ns, order


def _opened(path: Path) -> OpenFile | None:
    try:
        return OpenFile(path)
    except OSError:  # renamed or deleted since it was listed, or not ours to read
        return None


def _identity(file: OpenFile) -> tuple[int, int]:
    status = file.status()
    return status.st_dev, status.st_ino


def _begin_alike(one: OpenFile, other: OpenFile) -> bool:
    """Whether one is a copy of the other, perhaps one that is still being made."""
    return one.read(0, _MARK_BYTES) == other.read(0, min(_MARK_BYTES, one.status().st_size))


def _is_at(path: Path, file: OpenFile) -> bool:
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    return (status.st_dev, status.st_ino) == _identity(file)
