"""Garbage collection for commands that import much and then end."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_OBJECTS_A_COLLECTION = 50_000


@contextmanager
def rare_garbage_collection() -> Iterator[None]:
    """Collect rarely inside, and leave what is alive at the end to the operating system.

    Imports create many objects that live on: Python's default of a collection every 700 objects costs a seventh of
    importing hamilton and duckdb, and the last collection of all of them a tenth of a second when the process ends.
    """
    gc.set_threshold(_OBJECTS_A_COLLECTION, 20, 20)
    try:
        yield
    finally:
        gc.freeze()
