"""One writer per data directory: an advisory lock that the kernel releases when its last holder dies.

The lock belongs to the open file, not to the process: a child that gets `lock.fileno()` through `pass_fds` holds it,
too, even after its parent dies. It is therefore released by closing the file, never by LOCK_UN, which would release it
for such a child as well.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dataflows.errors import LockHeldError
from dataflows.files import disk_refusal

_HOLDER_SIZE_BYTES = 4096
_KERNEL_LOCKS = Path("/proc/locks")


@dataclass(frozen=True)
class LockHolder:
    """Who holds a lock."""

    holder: str
    run_id: int | None
    pid: int
    since: datetime
    """UTC."""


class WriterLock:
    """The held lock; its owner passes it to the functions that need it."""

    def __init__(self, path: Path, handle: int, holder: str) -> None:
        self.path = path
        self._handle = handle
        self._record = {
            "holder": holder,
            "run_id": None,
            "pid": os.getpid(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._write()

    def fileno(self) -> int:
        """The handle for `subprocess.Popen(pass_fds=[lock.fileno()])`: the child then holds the lock while it lives."""
        return self._handle

    def name_run(self, run_id: int) -> None:
        """Record which run holds the lock, for the error message of other processes."""
        self._record["run_id"] = run_id
        self._write()

    def _write(self) -> None:
        text = json.dumps(self._record).encode()
        os.pwrite(self._handle, text, 0)
        os.ftruncate(self._handle, len(text))


@contextmanager
def writer_lock(path: Path, holder: str) -> Iterator[WriterLock]:
    """Hold the lock of a data directory; `holder` is the purpose, such as `extract`.

    Does not wait: raises LockHeldError, naming the holder and since when, if another process or another caller in this
    one holds it; DiskError or DiskSpaceError if the file cannot be written.
    """
    with disk_refusal(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockHeldError(_held_message(path, os.pread(handle, _HOLDER_SIZE_BYTES, 0))) from None
        with disk_refusal(path):
            lock = WriterLock(path, handle, holder)
        yield lock
    finally:
        os.close(handle)


def lock_holder(path: Path) -> LockHolder | None:
    """Who holds the lock, without touching it; None if the kernel lists no holder on this machine.

    Trying to take the lock would refuse a run that starts at the same moment.
    """
    try:
        inode, record = str(path.stat().st_ino), json.loads(path.read_bytes())
        locks = [line.split() for line in _KERNEL_LOCKS.read_text().splitlines()]
        if not any("FLOCK" in fields and fields[-3].rpartition(":")[2] == inode for fields in locks):
            return None
        since = datetime.fromisoformat(record["since"])
        return LockHolder(record["holder"], record["run_id"], record["pid"], since)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None  # never taken, or its holder has not yet written its record


def _held_message(path: Path, record: bytes) -> str:
    try:
        held = json.loads(record)
        what = f"run {held['run_id']} ({held['holder']})" if held["run_id"] is not None else held["holder"]
        who = f"{what}, pid {held['pid']}, holds it since {held['since']}"
        look = f"materia runs show {held['run_id']}" if held["run_id"] is not None else "materia runs"
    except (ValueError, KeyError, TypeError):
        # The holder has just taken the lock and not yet written its record.
        who, look = "another process holds it", "materia runs"
    return f"another run is writing to {path.parent}: {who}; `{look}` shows its progress; try again when it has ended"
