"""What the exit codes of `materia` mean."""

from enum import IntEnum


class Exit(IntEnum):
    """The exit codes; scripts and the supervisor rely on them."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNWELL = 3
    LOCKED = 4
    INTERRUPTED = 130


MEANINGS = {
    Exit.DONE: "done, also when there was nothing new",
    Exit.FAILED: "failed",
    Exit.USAGE: "wrong usage or settings",
    Exit.UNWELL: "`status` finds something stale, failed or missing",
    Exit.LOCKED: "another run holds the lock",
    Exit.INTERRUPTED: "interrupted",
}
"""The README's table of exit codes is held against this one."""
