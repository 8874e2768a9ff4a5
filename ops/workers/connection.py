"""A connection to one worker that reconnects a bounded number of times."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ops.workers.errors import UnreachableError, WorkerError
from ops.workers.ssh import Access, ScriptResult, run_script, wait_for_ssh

if TYPE_CHECKING:
    from fabric import Connection

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerTimeouts:
    """Timeouts of a worker in seconds, and the number of reconnects."""

    boot_s: float = 300.0
    code_s: float = 900.0
    reconnect_s: float = 90.0
    pause_s: float = 2.0
    quiet_s: float = 60.0
    """A connection without any output for this long counts as lost."""
    stop_s: float = 15.0
    losses: int = 5
    """Consecutive lost connections without progress before giving up."""


class WorkerConnection:
    """Runs scripts on a worker; `close` may be called repeatedly."""

    def __init__(self, access: Access, timeouts: WorkerTimeouts) -> None:
        self._access = access
        self._timeouts = timeouts
        self._connection: Connection | None = None

    def reach(self, within_s: float) -> None:
        """Connect; raises UnreachableError."""
        self.close()
        self._connection = wait_for_ssh(self._access, within_s, self._timeouts.pause_s)

    def run(
        self,
        script: str,
        *,
        timeout_s: float,
        stdin: bytes = b"",
        on_line: Callable[[bytes], None] = lambda line: None,
        quiet_s: float | None = None,
    ) -> ScriptResult:
        """Run a script once; connect if necessary. An exit code of None means that the connection was lost."""
        if self._connection is None:
            self.reach(self._timeouts.reconnect_s)
        assert self._connection is not None
        result = run_script(
            self._connection, script, timeout_s=timeout_s, stdin=stdin, on_line=on_line, quiet_s=quiet_s
        )
        if result.exit_code is None:
            self.close()
        return result

    def run_until_done(self, what: str, script: str, *, timeout_s: float, stdin: bytes = b"") -> None:
        """Run an idempotent script; repeat it after lost connections. Raises WorkerError if it fails on the worker.

        Raises UnreachableError if the connection is lost too often.
        """
        deadline = time.monotonic() + timeout_s
        result = ScriptResult(None, "")
        for _ in range(self._timeouts.losses):
            result = self.run(script, timeout_s=max(1.0, deadline - time.monotonic()), stdin=stdin)
            if result.exit_code == 0:
                return
            if result.exit_code is not None:
                late = f" (timeout after {timeout_s:.0f} s)" if result.exit_code == 124 else ""
                raise WorkerError(
                    f"could not {what} on the worker{late}, exit code {result.exit_code}: {result.stderr}"
                )
            log.warning("the connection to the worker was lost; retrying", extra={"during": what})
            time.sleep(self._timeouts.pause_s)
        raise UnreachableError(f"the connection was lost {self._timeouts.losses} times to {what}: {result.stderr}")

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
