"""One tick of the real supervisor, by the clock that a file beside the data directory sets."""

import sys
from collections.abc import Sequence
from datetime import datetime

from bench.release_day import FastClock
from dataflows.source.release import Month
from ops.config.schedule import Slot
from ops.config.settings import Settings
from ops.host.logs import log_to_file
from ops.host.redact import Redactor
from ops.supervisor.command import command_of
from ops.supervisor.loop import once


def main() -> int:
    settings = Settings.from_environ()
    now = datetime.fromisoformat((settings.data_dir.parent / "clock").read_text())
    log_to_file(settings.log_dir / "supervisor.log", Redactor.from_environ())

    def command(slot: Slot, settings: Settings) -> Sequence[str]:
        """The supervisor's own command, from the month on the fast clock: the run has the real one."""
        as_of = ["--as-of", str(Month.of(now.date()))] if slot.pipeline == "run-all" else []
        return [*command_of(slot, settings), *as_of]

    print(once(settings, FastClock(now), command))
    return 0


if __name__ == "__main__":
    sys.exit(main())
