"""Follows a log through rotation and truncation without losing a line.

The file at the path is the newest segment. A renamed segment stays open, and what its writer still appends is read.
Files that were created and renamed between two polls are found by their names and times.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from tui.logs.index import SparseIndex
from tui.logs.lines import OpenFile

MAX_SEGMENTS = 32
_MARK_BYTES = 64
_WATCHED_SEGMENTS = 3
_MAX_LISTINGS = 5
_COMPRESSED = {".gz", ".xz", ".zst", ".bz2"}


@dataclass(eq=False)
class Segment:
    """One file of a log, of which `size` bytes are known; `notice` describes the event before its first line."""

    serial: int
    file: OpenFile
    notice: str = ""
    size: int = 0
    index: SparseIndex = field(default_factory=SparseIndex)
    mark: bytes = b""
    """The last bytes before `size`; if they change, the file was rewritten."""

    @property
    def indexed(self) -> bool:
        return self.index.indexed_bytes >= self.size

    def look(self) -> tuple[int, bytes]:
        """Return the file's size and its last bytes; (0, b"") while it is being truncated."""
        size = self.file.status().st_size
        mark = self.file.read(max(size - _MARK_BYTES, 0), size)
        return (size, mark) if len(mark) == min(size, _MARK_BYTES) else (0, b"")

    def grow(self, size: int, mark: bytes) -> bool:
        """Record new bytes up to `size`; returns whether there were any."""
        if size <= self.size:
            return False
        self.size, self.mark = size, mark
        return True

    def continues_in(self, file: OpenFile) -> bool:
        """Whether `file` contains the known bytes of this segment at the same offset."""
        return file.status().st_size >= self.size and file.read(self.size - len(self.mark), self.size) == self.mark


class Follower:
    """The segments of the log at `path`, oldest first. One thread polls; any thread may read `segments`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.segments: tuple[Segment, ...] = ()
        self.error = ""
        """Why the path cannot be read now; empty without an error."""
        self._serial = 0
        self._name_prefixes = (f"{path.name}.", f"{path.name}-")
        self._ignored_files = {sibling.state for sibling in self._siblings()}

    def poll(self) -> bool:
        """Poll once; returns whether anything changed. File errors are stored in `error`, not raised."""
        before = self.segments, self.error
        changed = self._grow()
        self._follow_path()
        return changed or (self.segments, self.error) != before

    def close(self) -> None:
        """Close every file."""
        segments, self.segments = self.segments, ()
        for segment in segments:
            segment.file.close()

    def _grow(self) -> bool:
        # A list, not a generator: every segment must be checked.
        return True in [self._check_growth(segment) for segment in self.segments[-_WATCHED_SEGMENTS:]]

    def _check_growth(self, segment: Segment) -> bool:
        size, mark = segment.look()
        # Compare content, not size, which may be the same; and after `look`, so that both refer to the same file.
        if segment.continues_in(segment.file) and not self._has_new_copy(segment, size):
            return segment.grow(size, mark)
        self._handle_truncation(segment)
        return True

    def _handle_truncation(self, segment: Segment) -> None:
        """Handle a file that was truncated in place: continue in its copy (copytruncate), if there is one."""
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
            later_copies = [sibling for sibling in siblings[at + 1 :] if not _have_same_start(sibling.file, file)]
            self._ignored_files |= {sibling.state for sibling in siblings[at:]}
        if newest:
            # Truncated more than once since the last poll: each truncation left a copy.
            for sibling in later_copies:
                self._add(sibling.file, notice)
            # It may have been truncated again since the copies were listed, so start it empty and check it again.
            self._add(file, notice, empty=True)
            self._check_growth(self.segments[-1])

    def _has_new_copy(self, segment: Segment, size: int) -> bool:
        """Whether a file that was empty and now has `size` bytes was filled, copied and truncated in between."""
        if segment.size or not size:
            return False
        copy = self._copy_of(segment, self._siblings())
        # A renamed file leaves no copies: the file that has its name now is newer.
        return copy is not None and _is_at(self.path, segment.file)

    def _copy_of(self, segment: Segment, siblings: list["_Sibling"]) -> int | None:
        """Return the index of the sibling (oldest first) that contains the known part of the segment, else None."""
        if segment.size:
            return next((at for at in reversed(range(len(siblings))) if segment.continues_in(siblings[at].file)), None)
        # For an empty segment: any new copy that is not a segment itself.
        held = {_identity(each.file) for each in self.segments}
        earliest = max((each.file.status().st_mtime_ns for each in self.segments if each is not segment), default=0)
        return next(
            (
                at
                for at, sibling in enumerate(siblings)
                if sibling.state not in self._ignored_files
                and sibling.identity not in held
                and sibling.modified_ns >= earliest
                and not _have_same_start(sibling.file, segment.file)
            ),
            None,
        )

    def _follow_path(self) -> None:
        newest = self.segments[-1].file if self.segments else None
        try:
            if newest and _is_at(self.path, newest):
                self.error = ""
                return
            file = OpenFile(self.path)
        except FileNotFoundError:
            self.error = f"{self.path.name} {'was deleted' if newest else 'does not exist'}; waiting for it"
            return
        except OSError as error:
            self.error = f"{self.path.name} cannot be read: {error.strerror or error}"
            return
        self.error = ""
        # Read the end of the old file before the new one.
        self._grow()
        for between in self._find_missed_files(newest, file):
            self._add(between, "rotated here" if self.segments else "")
        self._add(file, "rotated here" if self.segments else "")

    def _find_missed_files(self, old: OpenFile | None, new: OpenFile) -> list[OpenFile]:
        """Return the files that were at the path between `old` and `new` and were renamed since; oldest first."""
        siblings = self._siblings()
        identities = [sibling.identity for sibling in siblings]
        first = identities.index(_identity(old)) + 1 if old and _identity(old) in identities else 0
        last = identities.index(_identity(new)) if _identity(new) in identities else len(siblings)
        earliest = old.status().st_mtime_ns if old else 0
        held = {_identity(segment.file) for segment in self.segments}
        return [
            sibling.file
            for sibling in siblings[first:last]
            if sibling.modified_ns >= earliest
            and sibling.state not in self._ignored_files
            and sibling.identity not in held
        ]

    def _siblings(self) -> list["_Sibling"]:
        """Return the uncompressed rotated files such as `x.log.1`, oldest first.

        Rotation may rename files during the listing, so it is repeated until two listings agree.
        """
        before: list[tuple[Path, tuple[int, int]]] = []
        siblings: list[_Sibling] = []
        for _ in range(_MAX_LISTINGS):
            siblings = self._list_siblings()
            now = [(sibling.path, sibling.identity) for sibling in siblings]
            if now == before:
                break
            before = now
        once = {sibling.identity: sibling for sibling in siblings}
        return sorted(once.values(), key=_Sibling.age, reverse=True)

    def _list_siblings(self) -> list["_Sibling"]:
        try:
            with os.scandir(self.path.parent) as entries:
                names = sorted(entry.name for entry in entries if entry.name.startswith(self._name_prefixes))
        except OSError:  # the folder does not exist
            return []
        paths = map(self.path.with_name, names)
        files = ((path, _open_or_none(path)) for path in paths if path.suffix not in _COMPRESSED)
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
        """Identity and mtime, because the inode of a deleted file is reused at once."""
        return (*self.identity, self.modified_ns)

    def age(self) -> tuple[int, int]:
        """Sort key, smaller is newer; at equal times `x.log.1` precedes `x.log.2`, and `x.log-02` `x.log-01`."""
        number = re.search(r"(\.?)(\d+)\D*$", self.path.name)
        order = 0 if number is None else int(number[2]) * (1 if number[1] else -1)
        return -self.modified_ns, order


def _open_or_none(path: Path) -> OpenFile | None:
    try:
        return OpenFile(path)
    except OSError:  # renamed or deleted since it was listed, or not readable
        return None


def _identity(file: OpenFile) -> tuple[int, int]:
    status = file.status()
    return status.st_dev, status.st_ino


def _have_same_start(one: OpenFile, other: OpenFile) -> bool:
    """Whether one is a copy of the other, possibly an incomplete one."""
    return one.read(0, _MARK_BYTES) == other.read(0, min(_MARK_BYTES, one.status().st_size))


def _is_at(path: Path, file: OpenFile) -> bool:
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    return (status.st_dev, status.st_ino) == _identity(file)
