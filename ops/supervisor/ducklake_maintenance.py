"""The child process that maintains a DuckLake: `python -m ops.supervisor.ducklake_maintenance`.

It reads its order from standard input. The supervisor, which runs for months, so never loads DuckDB.
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


def care_in_a_process(
    lake: DuckLake, now: datetime, kept_for: timedelta, inherited_fds: tuple[int, ...] = ()
) -> "CleanupResult":
    """Look after a DuckLake whose lock is held through `inherited_fds`; raises LakehouseError."""
    from dataflows.lakehouse.maintenance import CleanupResult

    order = {"settings": environ_of(lake), "now": now.isoformat(), "kept_for_s": kept_for.total_seconds()}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "ops.supervisor.ducklake_maintenance"],
            input=json.dumps(order),
            env={"PYTHONUTF8": "1"},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            pass_fds=inherited_fds,
        )
    except subprocess.TimeoutExpired as error:
        raise LakehouseError(f"{lake} could not be looked after within {_TIMEOUT_S:g} s; it is tried again") from error
    if done.returncode != 0:
        raise LakehouseError(done.stderr.strip()[-2000:] or f"looking after {lake} ended with {done.returncode}")
    return CleanupResult(**json.loads(done.stdout))


def main() -> int:
    """Do what is ordered and print what was done as JSON, or say on standard error what went wrong."""
    from dataflows.lakehouse.maintenance import clean_up
    from ops.config.settings import Settings

    order = json.loads(sys.stdin.read())
    try:
        lake = Settings.from_environ(order["settings"]).ducklake
        assert lake is not None
        cared = clean_up(lake, datetime.fromisoformat(order["now"]), timedelta(seconds=order["kept_for_s"]))
    except MateriaError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(asdict(cared)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
