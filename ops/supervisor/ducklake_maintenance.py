"""The child process that maintains a DuckLake: `python -m ops.supervisor.ducklake_maintenance`.

It reads its request from standard input. The supervisor runs for months and therefore never loads DuckDB.
"""

import json
import subprocess
import sys
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from dataflows.errors import LakehouseError, MateriaError
from dataflows.lakehouse.ducklake import DuckLake
from ops.config.lakehouse import environ_of

if TYPE_CHECKING:
    from dataflows.lakehouse.maintenance import CleanupResult

_TIMEOUT_S = 1800.0


def run_maintenance(
    lake: DuckLake, now: datetime, kept_for: timedelta, inherited_fds: tuple[int, ...] = ()
) -> "CleanupResult":
    """Maintain a DuckLake whose lock is held through `inherited_fds`; raises LakehouseError."""
    from dataflows.lakehouse.maintenance import CleanupResult

    request = {"settings": environ_of(lake), "now": now.isoformat(), "kept_for_s": kept_for.total_seconds()}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "ops.supervisor.ducklake_maintenance"],
            input=json.dumps(request),
            env={"PYTHONUTF8": "1"},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            pass_fds=inherited_fds,
        )
    except subprocess.TimeoutExpired as error:
        message = f"timeout: maintenance of {lake} did not end within {_TIMEOUT_S:g} s; the supervisor retries it"
        raise LakehouseError(message) from error
    if done.returncode != 0:
        raise LakehouseError(done.stderr.strip()[-2000:] or f"exit code {done.returncode}: maintenance of {lake}")
    return CleanupResult(**json.loads(done.stdout))


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
