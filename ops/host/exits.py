"""The exit codes of `materia` and their meanings."""

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
    Exit.UNWELL: "`status` finds something stale, failed, missing or damaged",
    Exit.LOCKED: "another run holds the lock",
    Exit.INTERRUPTED: "interrupted",
}
"""A test compares the README's table of exit codes with this one."""
