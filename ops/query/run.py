"""Runs typed SQL for the commands, in a sandbox on the served generation."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from ops.config.settings import Settings

if TYPE_CHECKING:
    from dataflows.serving.sandbox import SandboxAnswer


@contextmanager
def answer_of(sql: str, settings: Settings, timeout_s: float) -> "Iterator[SandboxAnswer]":
    """Run one read-only statement; raises what `Sandbox.answer` raises. Half of this machine's memory is its limit."""
    from dataflows.serving.sandbox import Sandbox

    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    with closing(Sandbox(settings.serving_path, memory_bytes=memory_bytes)) as sandbox:
        import pyarrow  # noqa: F401 (while the sandbox starts)

        with sandbox.answer(sql, timeout_s=timeout_s) as answer:
            yield answer
