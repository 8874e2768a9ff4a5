"""Ends a tick that hangs: one without progress for a while gets an exception, reports it as its failure, and is over.

`supervisor.sh` kills a tick that does not react to that, such as one of a commit that hangs while it is imported.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class TickHungError(Exception):
    """The tick showed no progress; no MateriaError, because no step of the tick may handle it."""


@contextmanager
def end_if_silent(limit_s: float) -> Iterator[None]:
    """Raise TickHungError in the enclosed block, again and again, whenever `limit_s` passed without `note_progress`.

    For the main thread only, as all signal handlers.
    """

    def end(_signal: int, frame: FrameType | None) -> None:
        where = f" at {frame.f_code.co_filename}:{frame.f_lineno}" if frame else ""
        raise TickHungError(f"no progress for {limit_s:g} s{where}")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, limit_s, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def note_progress() -> None:
    """Start the time of `end_if_silent` again; without it do nothing."""
    limit_s = signal.getitimer(signal.ITIMER_REAL)[1]
    if limit_s:
        signal.setitimer(signal.ITIMER_REAL, limit_s, limit_s)
