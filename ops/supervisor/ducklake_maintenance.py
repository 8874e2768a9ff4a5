"""The child process that maintains a DuckLake: `python -m ops.supervisor.ducklake_maintenance`.

It reads its request from standard input. The supervisor runs for months and therefore never loads DuckDB.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from dataflows.errors import LakehouseError, MateriaError
from dataflows.lakehouse.ducklake import DuckLake
from ops.config.lakehouse import environ_of
from ops.health.heartbeat import BEAT_EVERY_S

if TYPE_CHECKING:
    from dataflows.lakehouse.maintenance import CleanupResult

_TIMEOUT_S = 1800.0


def run_maintenance(
    lake: DuckLake,
    now: datetime,
    kept_for: timedelta,
    on_alive: Callable[[], None] = lambda: None,
    inherited_fds: tuple[int, ...] = (),
) -> "CleanupResult":
    """Maintain a DuckLake whose lock is held through `inherited_fds`; raises LakehouseError.

    `on_alive` is called every few seconds meanwhile.
    """
    from dataflows.lakehouse.maintenance import CleanupResult

    request = {"settings": environ_of(lake), "now": now.isoformat(), "kept_for_s": kept_for.total_seconds()}
    with subprocess.Popen(
        [sys.executable, "-m", "ops.supervisor.ducklake_maintenance"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PYTHONUTF8": "1"},
        text=True,
        pass_fds=inherited_fds,
    ) as child:
        try:
            output, errors = _communicate(child, json.dumps(request), on_alive)
        except BaseException as error:
            child.kill()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            message = f"timeout: maintenance of {lake} did not end within {_TIMEOUT_S:g} s; the supervisor retries it"
            raise LakehouseError(message) from error
    if child.returncode != 0:
        raise LakehouseError(errors.strip()[-2000:] or f"exit code {child.returncode}: maintenance of {lake}")
    return CleanupResult(**json.loads(output))


def _communicate(child: "subprocess.Popen[str]", request: str, on_alive: Callable[[], None]) -> tuple[str, str]:
    """Send the request and return the output; raises TimeoutExpired at the deadline."""
    deadline, unsent = time.monotonic() + _TIMEOUT_S, [request]
    while True:
        try:
            return child.communicate(unsent.pop() if unsent else None, timeout=BEAT_EVERY_S)
        except subprocess.TimeoutExpired:
            if time.monotonic() >= deadline:
                raise
            on_alive()


def main() -> int:
    """Run the requested maintenance and print its result as JSON, or the error on standard error."""
    from dataflows.lakehouse.maintenance import clean_up
    from ops.config.settings import Settings

    request = json.loads(sys.stdin.read())
    try:
        lake = Settings.from_environ(request["settings"]).ducklake
        assert lake is not None
        result = clean_up(lake, datetime.fromisoformat(request["now"]), timedelta(seconds=request["kept_for_s"]))
    except MateriaError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(asdict(result)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
