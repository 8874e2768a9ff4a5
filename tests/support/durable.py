"""Which files were flushed to the disk, in which order, recorded while real calls go through."""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Rename:
    """A rename, and what was certain to survive a power cut when it was made."""

    source: str
    target: str
    is_flushed: bool
    """Whether all that the file holds was flushed before; a link or an empty file holds nothing."""
    unflushed_names: frozenset[str]
    """Names that appeared before and whose folder was not flushed since."""


@dataclass
class Recorded:
    """Renames in their order, and the names whose folder is still to be flushed."""

    renames: list[Rename] = field(default_factory=list)
    unflushed: dict[str, str] = field(default_factory=dict)
    """Names that appeared, and their folders."""
    flushed: dict[tuple[int, int], str] = field(default_factory=dict)
    """By device and inode: the digest of what a file held when it was flushed last."""

    def is_flushed(self, path: str | os.PathLike[str]) -> bool:
        """Whether everything that the file at `path` holds now has been flushed."""
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode):
            return True
        return self.flushed.get((status.st_dev, status.st_ino)) == _digest(path)

    def check(self) -> None:
        """Fail unless contents were flushed before each rename, and folders after the last one."""
        assert [each.target for each in self.renames if not each.is_flushed] == []
        assert self.unflushed == {}


@contextmanager
def recorded() -> Iterator[Recorded]:
    """Record what is renamed and flushed in this process; every call goes through to the system."""
    seen = Recorded()
    fsync, rename, replace = os.fsync, os.rename, os.replace

    def flush(handle: int) -> None:
        fsync(handle)
        status = os.fstat(handle)
        path = str(Path(f"/proc/self/fd/{handle}").readlink())
        if stat.S_ISDIR(status.st_mode):
            seen.unflushed = {name: folder for name, folder in seen.unflushed.items() if folder != path}
        else:
            seen.flushed[status.st_dev, status.st_ino] = _digest(path)

    def recording(call):
        def move(source, target, **options) -> None:
            event = Rename(str(source), str(target), seen.is_flushed(source), frozenset(seen.unflushed))
            call(source, target, **options)
            seen.renames.append(event)
            seen.unflushed[str(target)] = str(Path(target).parent.resolve())

        return move

    vars(os).update(fsync=flush, rename=recording(rename), replace=recording(replace))
    try:
        yield seen
    finally:
        os.fsync, os.rename, os.replace = fsync, rename, replace


def _digest(path: str | os.PathLike[str]) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
