"""The connection to one worker, opened again when it breaks, a bounded number of times."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ops.workers.errors import UnreachableError, WorkerError
from ops.workers.ssh import Access, Ended, run_script, wait_for_ssh

if TYPE_CHECKING:
    from fabric import Connection

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """How long to wait for a worker, in seconds, and how often to come back to it."""

    boot_s: float = 300.0
    code_s: float = 900.0
    reconnect_s: float = 90.0
    pause_s: float = 2.0
    quiet_s: float = 60.0
    """Without a sign of life for so long, a connection is taken for dead."""
    stop_s: float = 15.0
    losses: int = 5
    """Connections lost one after another without any progress before giving up."""


class Wire:
    """Runs scripts on a worker; `close` may be called any number of times."""

    def __init__(self, access: Access, patience: Patience) -> None:
        self._access = access
        self._patience = patience
        self._connection: Connection | None = None

    def reach(self, within_s: float) -> None:
        """Connect; raises UnreachableError."""
        self.close()
        self._connection = wait_for_ssh(self._access, within_s, self._patience.pause_s)

    def run(
        self,
        script: str,
        *,
        timeout_s: float,
        stdin: bytes = b"",
        on_line: Callable[[bytes], None] = lambda line: None,
        quiet_s: float | None = None,
    ) -> Ended:
        """Run a script once; connects when it must. An exit code of None: the connection was lost."""
        if self._connection is None:
            self.reach(self._patience.reconnect_s)
        assert self._connection is not None
        ended = run_script(self._connection, script, timeout_s=timeout_s, stdin=stdin, on_line=on_line, quiet_s=quiet_s)
        if ended.exit_code is None:
            self.close()
        return ended

    def insist(self, what: str, script: str, *, timeout_s: float, stdin: bytes = b"") -> None:
        """Run a script that may be repeated until it succeeds; raises WorkerError when it fails there.

        Raises UnreachableError when the connection is lost too often.
        """
        deadline = time.monotonic() + timeout_s
        ended = Ended(None, "")
        for _ in range(self._patience.losses):
            ended = self.run(script, timeout_s=max(1.0, deadline - time.monotonic()), stdin=stdin)
            if ended.exit_code == 0:
                return
            if ended.exit_code is not None:
                late = f" (not done after {timeout_s:.0f} s)" if ended.exit_code == 124 else ""
                raise WorkerError(
                    f"could not {what} on the worker{late}, exit code {ended.exit_code}: {ended.complaint}"
                )
            log.warning("the connection to the worker was lost; trying again", extra={"during": what})
            time.sleep(self._patience.pause_s)
        raise UnreachableError(f"the connection was lost {self._patience.losses} times to {what}: {ended.complaint}")

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
